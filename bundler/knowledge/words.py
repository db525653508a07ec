"""Words, stems and sentences of a text."""

from __future__ import annotations

import re
from functools import lru_cache

import snowballstemmer

_WORD = re.compile(r"[^\W_]+(?:['.:/-][^\W_]+)*")
_NAME_WORD = re.compile(r"[^\W_][\w.&-]*")
_PART = re.compile(r"[^\W_]+")
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z\u00c0-\u00de0-9])|\n+")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|mr|mrs|ms|dr|no|vs|st|approx|incl)|\b[A-Z])\.$", re.IGNORECASE)
_STEMMER = snowballstemmer.stemmer("english")
# Words that say how something is asked, not what about.
STOPWORDS = frozenset(
    [
        "a",
        "about",
        "after",
        "all",
        "also",
        "am",
        "an",
        "and",
        "any",
        "anyone",
        "are",
        "as",
        "at",
        "be",
        "because",
        "been",
        "before",
        "being",
        "but",
        "by",
        "can",
        "cannot",
        "could",
        "did",
        "do",
        "does",
        "doing",
        "done",
        "for",
        "from",
        "get",
        "gets",
        "getting",
        "give",
        "go",
        "going",
        "got",
        "had",
        "has",
        "have",
        "having",
        "he",
        "hello",
        "help",
        "her",
        "here",
        "hi",
        "his",
        "how",
        "i",
        "if",
        "im",
        "in",
        "into",
        "is",
        "it",
        "its",
        "just",
        "know",
        "like",
        "long",
        "many",
        "may",
        "me",
        "might",
        "mine",
        "much",
        "must",
        "my",
        "need",
        "needs",
        "no",
        "not",
        "of",
        "off",
        "on",
        "once",
        "one",
        "or",
        "our",
        "out",
        "over",
        "own",
        "please",
        "put",
        "she",
        "should",
        "show",
        "so",
        "some",
        "somebody",
        "someone",
        "something",
        "tell",
        "thanks",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "thing",
        "this",
        "those",
        "to",
        "too",
        "us",
        "use",
        "want",
        "was",
        "we",
        "were",
        "what",
        "whats",
        "when",
        "where",
        "which",
        "while",
        "who",
        "whom",
        "whose",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
    ]
)
# Of those, the ones that tell two entries of an FAQ apart.
_DIRECTIONS = frozenset(
    "on off in out no not without before after over once one own all long many much when who where why".split()
)
_NEGATIONS = frozenset(
    [
        "no",
        "not",
        "never",
        "without",
        "cannot",
        "cant",
        "dont",
        "doesnt",
        "wont",
        "isnt",
        "didnt",
        "unable",
        "stop",
        "disable",
        "off",
    ]
)


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    return str(_STEMMER.stemWord(word))


def stems(text: str) -> list[str]:
    """Returns the stems of all words but stopwords, lower case, in order; compounds count whole and in parts."""
    found = []
    for match in _WORD.finditer(text.casefold().replace("\u2019", "'")):
        word = match.group().replace("'", "")
        if word not in STOPWORDS:
            found.append(stem(word))
        parts = _PART.findall(word)
        if len(parts) > 1:
            found += [stem(part) for part in parts if part not in STOPWORDS and len(part) > 1]
    return found


def plain_stems(text: str) -> list[str]:
    """Returns the stems of all parts of words, single letters and directions such as "off" among them, in order."""
    words = _PART.findall(text.casefold().replace("\u2019", "'").replace("'", ""))
    return [stem(word) for word in words if word not in STOPWORDS or word in _DIRECTIONS]


def numbers(text: str) -> frozenset[str]:
    """Returns the words that hold a digit: figures, versions and names such as `P1`."""
    return frozenset(word for word in _PART.findall(text.casefold()) if any(letter.isdigit() for letter in word))


def names(text: str, *, acronyms: bool = False) -> frozenset[str]:
    """Returns the stems of what a text names: words with a capital inside a sentence, and codes such as `P1`.

    Figures are no names (a rule may hold for a range). A text in capitals throughout names only its codes.

    Args:
        text: A question.
        acronyms: Whether acronyms are names; they are words where the other side may say "memory" for RAM.
    """
    words = _NAME_WORD.findall(text)
    codes = [word for word in words if not word.isdigit() and any(letter.isdigit() for letter in word)]
    marked = [word for word in words[1:] if word[0].isupper() and (acronyms or not word.isupper())]
    if len(marked) * 2 > len(words):
        marked = []
    parts = [part for word in (*codes, *marked) for part in _PART.findall(word.casefold())]
    return frozenset(stem(part) for part in parts if part not in STOPWORDS and len(part) > 1)


def negated(text: str) -> bool:
    """Says whether the text holds a word that turns its meaning round."""
    return any(word.replace("'", "") in _NEGATIONS for word in _WORD.findall(text.casefold().replace("\u2019", "'")))


def normal(text: str) -> str:
    """Returns the text as it is compared for equality: case, punctuation and spaces do not matter."""
    return " ".join(_PART.findall(text.casefold()))


def sentences(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """Returns `(start, end)` of each sentence between two offsets of a text, without outer white space."""
    end = len(text) if end is None else end
    borders, last = [], start
    for match in _END.finditer(text, start, end):
        if "\n" in match.group() or not _ABBREVIATION.search(text, last, match.start() + 1):
            borders.append((last, match.start()))
            last = match.end()
    borders.append((last, end))
    return [trimmed for piece in borders if (trimmed := _trim(text, *piece))[1] > trimmed[0]]


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())
