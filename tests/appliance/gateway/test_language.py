"""The language of a text, where it is plain; and None wherever it is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway.language import language_of
from bundler.profile.routes import LANGUAGES

TEXTS = {
    "da": "Jeg kan ikke finde det, og du har heller ikke fået svar. Vi skal nok hjælpe, hvis du bliver her.",
    "de": "Das ist nicht die Antwort, die wir von der Bank für das Konto haben wollten, aber sie wird es auch sein.",
    "en": "The laptop is wiped within thirty minutes of the call, and then a ticket is made for you by the team.",
    "es": "El portátil se borra en treinta minutos, y después se crea un tique para usted.",
    "fr": "Le portable est effacé dans la demi-heure qui suit votre appel, et nous ouvrons une demande pour vous.",
    "it": "Un portatile viene cancellato dopo la chiamata e poi per lei si apre una pratica che non è persa.",
    "nl": "De laptop wordt binnen dertig minuten na het gesprek gewist, en daarna maken wij een ticket voor u aan.",
    "pl": "Laptop zostanie wymazany po rozmowie, a potem dla ciebie będzie zgłoszenie, które jest na liście.",
    "pt": "O portátil é apagado em trinta minutos depois da chamada, e não se perde o pedido que você fez.",
    "sv": "Datorn raderas inom trettio minuter från samtalet, och sedan skapas ett ärende för dig.",
    "ar": "يتم مسح الكمبيوتر المحمول خلال ثلاثين دقيقة من المكالمة ثم يتم إنشاء تذكرة",
    "el": "Ένας φορητός υπολογιστής διαγράφεται μέσα σε τριάντα λεπτά από την κλήση",
    "he": "המחשב הנייד נמחק תוך שלושים דקות מהשיחה ואז נפתחת קריאה חדשה",
    "hi": "कॉल के तीस मिनट के भीतर लैपटॉप मिटा दिया जाता है और फिर एक टिकट बनता है",
    "ja": "電話から三十分以内にノートパソコンは消去され、その後チケットが作成されます。",
    "ko": "전화를 받은 후 삼십 분 이내에 노트북이 지워지고 티켓이 만들어집니다",
    "ru": "Ноутбук стирается в течение тридцати минут после звонка, затем создаётся заявка",
    "zh": "笔记本电脑在来电后三十分钟内被远程擦除、然后创建一个工单。",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_of_a_profile_is_told(language: str) -> None:
    """What a profile may name the box can tell."""
    assert language_of(TEXTS[language]) == language


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ok",
        "42",
        "Yes, of course.",
        "def f(x): return x + 1\n" * 20,
        "https://a.example/b?c=d " * 9,
        "ACME GmbH " * 9,
    ],
)
def test_what_is_short_or_no_prose_has_none(text: str) -> None:
    """A wrong verdict costs an answer: in doubt there is no verdict."""
    assert language_of(text) is None


def test_a_mixed_text_has_none() -> None:
    """Half and half is in neither."""
    assert language_of(TEXTS["de"] + " " + TEXTS["en"] + " " + TEXTS["de"] + " " + TEXTS["en"]) is None


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    """No text breaks it, and what it says is one of the list."""
    assert language_of(text) in (None, *LANGUAGES)
