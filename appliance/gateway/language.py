"""Which language a text is in, by its script and its commonest words; None where that is not plain. Pure.

For the question "did it answer in another language", where a wrong verdict costs an answer: a text that is short, mixed
or mostly code is in no language. The words are the commonest function words of each language that it does not share
with another one of the list.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping

LETTERS_MIN = 40
TEXT_CHARS = 4_000
SCRIPT_SHARE = 0.6
WORDS_MIN, LEAD = 3, 2.0

# The beginnings of Unicode's names of letters.
_SCRIPTS: Mapping[str, str] = {
    "ARABIC": "ar",
    "GREEK": "el",
    "HEBREW": "he",
    "DEVANAGARI": "hi",
    "HANGUL": "ko",
    "CYRILLIC": "ru",
    "CJK": "zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
}
_COMMON: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "da": "og ikke jeg det af til på er som med de den har vil kan hvis skal fra bliver eller også meget vores",
        "de": "der die das und ist nicht ein eine mit auf für von dem den sie wir ich zu wird auch oder wenn wie kann",
        "en": "the and of is are you that for with this your it be not can if when have will please from they which",
        "es": "el los las una que por para con está son como más pero puede usted del sus cuando este su y",
        "fr": "le les des et est une que pour dans vous avec sur pas qui votre sont cette nous aux du peut être il",
        "it": "il gli che per con una sono non della questo può di come nel alla anche suo dei è dal poi lei viene",
        "nl": "het een van en niet dat is op voor zijn met als kunt maar wordt deze naar ook je uw bij wij",
        "pl": "i w nie na się że do to jest jak dla od przez oraz może być ale które czy tego jej po",
        "pt": "o os uma que para com não por mais como seu sua pode você são dos das mas quando ao em um",
        "sv": "och att det är inte på som för med den till av om kan har ett du ska eller från vi måste",
    }.items()
}
_USES = Counter(word for words in _COMMON.values() for word in words)
_WORDS = {language: {word for word in words if _USES[word] == 1} for language, words in _COMMON.items()}
_WORD = re.compile(r"[^\W\d_]+")


def language_of(text: str) -> str | None:
    """Returns the ISO 639-1 code of a text's language, None where it cannot be told."""
    sample = text[:TEXT_CHARS]
    letters = [char for char in sample if char.isalpha()]
    scripts = Counter(_script(letters))
    # Two or three of these letters say what a Latin word says.
    if len(letters) + 2 * sum(scripts.values()) < LETTERS_MIN:
        return None
    if scripts and sum(scripts.values()) > SCRIPT_SHARE * len(letters):
        # Japanese is written with Chinese characters between its own.
        return "ja" if scripts["ja"] else scripts.most_common(1)[0][0]
    return _by_words(sample)


def _script(letters: list[str]) -> Iterator[str]:
    for letter in letters:
        if letter > "\u036f":  # past Latin and what stands on it
            name = unicodedata.name(letter, "").split(" ", 1)[0]
            if name in _SCRIPTS:
                yield _SCRIPTS[name]


def _by_words(sample: str) -> str | None:
    words = Counter(_WORD.findall(sample.casefold()))
    counts = {language: sum(words[word] for word in known) for language, known in _WORDS.items()}
    (first, most), (_, second) = Counter(counts).most_common(2)
    return first if most >= WORDS_MIN and most >= LEAD * second else None
