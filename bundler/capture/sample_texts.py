"""Texts on which an embedding model is quantised and then checked: general ones, so a model gives always the same.

They are no customer's: a graph that followed the content would change with every edit of an FAQ, and with it every
vector. What the activations can reach is seen on `TUNING`; how far the result strays is judged on `CHECK`, which shares
no text with it. Both hold questions, statements, other scripts, code, numbers, very short and very long texts.
"""

from __future__ import annotations

_STORY = (
    "The harbour master kept two ledgers, one for the ships that came and one for those that were expected. On the "
    "evening of the storm he wrote nothing in the first and seven names in the second. By morning the wind had turned "
    "to the north, the quay was covered with weed and broken crates, and people stood along the wall to count sails. "
    "Four had been sighted from the lighthouse before noon. The fifth came in under tow with her mast gone."
)
_REPORT = (
    "Revenue rose by 4.2 % to 318 million in the third quarter, against 305 million a year before. The gain came from "
    "services, where renewals were higher than planned; hardware fell by 11 % because two suppliers delivered late. "
    "Costs grew more slowly than sales. The board expects between 1.24 and 1.29 billion for the year, leaves the "
    "dividend at 0.85 a share and will close the older of the two plants in March."
)
_RECIPE = (
    "Soak the beans overnight in plenty of cold water. Drain them, cover with fresh water, add a bay leaf and half an "
    "onion, and simmer for about ninety minutes. Fry the rest of the onion with garlic, paprika and two tomatoes until "
    "it is thick. Stir it into the beans, season with salt and vinegar, and let it rest before serving."
)
_MANUAL = (
    "Before opening the cover, switch the unit off at the wall and wait ten minutes for the capacitors to discharge. "
    "Loosen the four screws at the rear, slide the cover back and lift it. The filter is the grey cartridge on the "
    "left. Press the tab, pull it straight out, and put the new one in with the arrow pointing towards the fan. "
    "A red light after the restart means that the cartridge is not seated; a blinking one, that the counter has not "
    "been reset: hold RESET for five seconds."
)
_LAW = (
    "The tenant shall give notice in writing at least three months before the end of the term. Where notice is given "
    "later, the lease is prolonged by one year unless the landlord agrees otherwise. The deposit is returned within "
    "sixty days after the keys were handed over, less the cost of repairs for which the tenant is liable under "
    "section 7. Disputes are brought before the court of the district in which the property lies."
)
_SCIENCE = (
    "When a star of more than eight solar masses has burned its fuel, pressure no longer balances gravity and the core "
    "collapses within a second. Protons and electrons merge into neutrons, and a burst of neutrinos carries away most "
    "of the energy. The outer layers rebound and are thrown off as a supernova, bright enough to outshine a galaxy for "
    "weeks. What remains is a neutron star, or, above about three solar masses, a black hole."
)
_LOG = (
    "2031-02-03T04:05:06Z host7 kernel: [81234.5] eth0: link down\n"
    "2031-02-03T04:05:09Z host7 dhclient[812]: no lease, sleeping 7 s\n"
    "2031-02-03T04:05:16Z host7 app[99]: ERROR upstream timed out (110) after 30000 ms, retry 2/5\n"
)

TUNING: tuple[str, ...] = (
    "",
    "?",
    "a",
    "ok",
    "42",
    "help",
    "thanks!",
    "where is my parcel",
    "What time does the library open on Sundays?",
    "Can I pay by invoice instead of card?",
    "I was charged twice for the same order, please refund one of them.",
    "The washing machine stops in the middle of the programme and shows E18.",
    "Please cancel my appointment on Thursday at 14:30 and offer me another one next week.",
    "How many days of annual leave can be carried over into the new year?",
    "turn the lights in the living room down to 30 percent",
    "what's the weather going to be like in lisbon tomorrow",
    "Who was the first woman to win a Nobel Prize?",
    "THE SERVER IS DOWN AND NOBODY ANSWERS THE PHONE",
    "The patient reports chest pain since this morning, blood pressure 150/95, no fever.",
    "A suspicious login from 203.0.113.77 was followed by a change of the forwarding rule.",
    "He who laughs last, laughs longest.",
    "Shares of the airline lost a tenth of their value after the strike was announced.",
    "The committee met twice, agreed on nothing, and adjourned until spring.",
    "Two plus two is four; seven times eight is fifty-six.",
    "E = mc^2, F = ma, a^2 + b^2 = c^2",
    "for i in range(10): print(i, end=' ')",
    "GET /index.html?lang=en&page=2 HTTP/1.1",
    'INSERT INTO orders (id, total) VALUES (7, "19.99");',
    '<div class="note"><a href="#top">back to top</a></div>',
    "C:\\Windows\\System32\\drivers\\etc\\hosts and ~/.ssh/config",
    "name.surname+news@example.org, +49 30 1234567, BIC ABCDEFGH",
    "0x7fffdeadbeef 3f2b9c1e-77aa-4e0c 192.0.2.1:8080",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
    "Wie kann ich mein Passwort zurücksetzen?",
    "¿Dónde está la estación de tren más cercana?",
    "Pourquoi la facture de décembre est-elle si élevée ?",
    "Où puis-je déposer une réclamation, et sous quel délai ?",
    "Quanto costa spedire un pacco in Svizzera?",
    "Hoe laat vertrekt de laatste trein naar Utrecht?",
    "Jak mogę zmienić adres dostawy?",
    "Как изменить адрес доставки?",
    "Πού βρίσκεται το πλησιέστερο φαρμακείο;",
    "注文をキャンセルしたいのですが",
    "如何更改我的送货地址?",
    "배송 주소를 어떻게 바꾸나요?",
    "كيف أغير عنوان التسليم؟",
    "डिलीवरी का पता कैसे बदलें?",
    "🙂 👍 🚀 great job, see you!",
    "aaaaaaaaaaaaaaaaaaaaaaaa",
    "------------------------------",
    "no no no no no no no no no no",
    _STORY,
    _REPORT,
    _RECIPE,
    _LOG,
    _STORY + " " + _REPORT + " " + _RECIPE,
    _RECIPE * 4,
    _LOG * 6,
)

CHECK: tuple[str, ...] = (
    " ",
    ".",
    "I",
    "hi there",
    "2031",
    "refund",
    "forgot my pin",
    "Which documents do I need to open an account?",
    "Is there a discount for students or for people over 65?",
    "My order arrived with a broken lid and one spoon is missing.",
    "The radiator in room 12 is cold although the valve is fully open.",
    "Could you move our meeting to Monday morning, preferably before ten?",
    "set an alarm for quarter past six and play some jazz",
    "how do i say good night in swedish",
    "Which river flows through Vienna, Budapest and Belgrade?",
    "WARNING: DO NOT IMMERSE THE BASE IN WATER",
    "The child has had a rash on both arms since Friday and a temperature of 38.4.",
    "Several mailboxes received an attachment named invoice_0423.zip within two minutes.",
    "A stitch in time saves nine.",
    "The central bank left its rate unchanged at 3.25 percent and hinted at a cut in autumn.",
    "After the match the coach praised the goalkeeper and nobody else.",
    "x = [y ** 2 for y in values if y % 3 == 0]",
    "SELECT COUNT(*) FROM visits WHERE day >= '2031-01-01' GROUP BY city;",
    "https://shop.example.com/cart?item=9981&ref=mail#pay",
    "-273.15 °C, 6.02e23, 1/3, 99.9 %",
    "Mein Drucker druckt nur leere Seiten.",
    "¿Cuánto tiempo tarda la devolución del dinero?",
    "Le chauffage ne fonctionne plus depuis hier soir.",
    "Não recebi o código de confirmação.",
    "Интернет не работает уже два дня.",
    "インターネットにつながりません",
    "我没有收到验证码",
    "لم أستلم رمز التأكيد",
    "😀 party at 8? bring 🍕",
    "bbbb cccc bbbb cccc bbbb cccc",
    "buffalo buffalo buffalo buffalo buffalo",
    _MANUAL,
    _LAW,
    _SCIENCE,
    _MANUAL + " " + _LAW + " " + _SCIENCE,
    _LAW * 3,
    "one line\n" * 40,
)
