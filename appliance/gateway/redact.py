"""Takes personal data out of a request before it leaves the box, and puts it back into the answer. Pure.

Rules:
1. Every text of the request is looked at, but what names its parts; the bytes of an image are not text.
2. What rules find is replaced where they overlap as one piece: no rest of it stays.
3. One text has one placeholder in a request. One that stands in the request already is not used.
4. A placeholder of a rule with `restore` becomes the original again, in whole answers and across the chunks of a
   stream; others stay, also where the caller sees them.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import msgspec

from appliance.gateway.call import WORKING, Chunk, ChunkStream
from appliance.gateway.foreign_json import object_of
from bundler.format.service import RedactSpec

# Names of parts, and never what somebody wrote.
_STRUCTURE = frozenset({"model", "role", "type", "object", "finish_reason"})
_IMAGE = "data:"
_FOUND = re.compile(r"<[A-Z0-9_]{1,40}_[0-9]{1,6}>")
_BEGUN = re.compile(r"<[A-Z0-9_]{0,47}\Z")
_PATTERNS = {
    "email": r"(?<![\w.%+'-])[\w.%+'-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}",
    "iban": r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}",
    "card": r"(?<![0-9])(?<![0-9][ -])[0-9](?:[ -]?[0-9])*",  # a whole run of digits, which is looked through
    "ip": r"(?<![\w.:])(?:(?:[0-9]{1,3}\.){3}[0-9]{1,3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:])",
    "phone": r"(?<!\w)(?:(?:\+|00)[1-9](?:[ ()./-]{0,3}[0-9]){6,13}|\(?0[1-9](?:[ ()./-]{0,3}[0-9]){5,12}"
    r"|\(?[2-9][0-9]{2}\)?[ .-][0-9]{3}[ .-][0-9]{4})(?!\w)",
}


class Rules:
    """The rules of a profile, compiled.

    Args:
        specs: Their patterns were checked at build.
    """

    def __init__(self, specs: Sequence[RedactSpec]) -> None:
        self._rules = [(spec, _compiled(spec)) for spec in specs]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def spans(self, text: str) -> list[tuple[int, int, RedactSpec]]:
        """Returns what is to be replaced, in order; pieces that overlap are one, under the name of the first."""
        found = sorted(
            ((start, end, spec) for spec, pattern in self._rules for start, end in _matches(spec.kind, pattern, text)),
            key=lambda span: (span[0], -span[1]),
        )
        merged: list[tuple[int, int, RedactSpec]] = []
        for start, end, spec in found:
            if merged and start < merged[-1][1]:
                before = merged[-1]
                merged[-1] = (before[0], max(before[1], end), before[2])
            else:
                merged.append((start, end, spec))
        return merged


class Redaction:
    """What was taken out of one request."""

    def __init__(self, rules: Rules, body: Mapping[str, Any]) -> None:
        self._rules = rules
        self._taken = set(_FOUND.findall(msgspec.json.encode(body).decode()))
        self._placeholders: dict[str, str] = {}
        self._originals: dict[str, str] = {}
        self.body: dict[str, Any] = self._without(dict(body))

    @property
    def count(self) -> int:
        """How many different texts were taken out."""
        return len(self._placeholders)

    def restored(self, text: str) -> str:
        """Returns a text of the answer with the originals in it."""
        return _FOUND.sub(lambda found: self._originals.get(found[0], found[0]), text) if self._originals else text

    def restored_in(self, value: Any) -> Any:
        """Returns a JSON value of the answer with the originals in its texts."""
        if isinstance(value, str):
            return self.restored(value)
        if isinstance(value, list):
            return [self.restored_in(item) for item in value]
        if isinstance(value, dict):
            return {
                name: self._arguments(item, self.restored_in) if name == "arguments" else self.restored_in(item)
                for name, item in value.items()
            }
        return value

    def _without(self, value: Any) -> Any:
        if isinstance(value, str):
            return value if value.startswith(_IMAGE) else self._text(value)
        if isinstance(value, list):
            return [self._without(item) for item in value]
        if isinstance(value, dict):
            return {name: self._field(name, item) for name, item in value.items()}
        return value

    def _field(self, name: str, item: Any) -> Any:
        if name in _STRUCTURE and isinstance(item, str):
            return item
        return self._arguments(item, self._without) if name == "arguments" else self._without(item)

    def _arguments(self, item: Any, change: Any) -> Any:
        # JSON in a text: an escape must not hide what it holds, and a quotation mark of an original must be escaped.
        value = object_of(item.encode()) if isinstance(item, str) else None
        return change(item) if value is None else msgspec.json.encode(change(value)).decode()

    def _text(self, text: str) -> str:
        parts, at = [], 0
        for start, end, spec in self._rules.spans(text):
            parts += [text[at:start], self._placeholder(text[start:end], spec)]
            at = end
        return "".join([*parts, text[at:]])

    def _placeholder(self, original: str, spec: RedactSpec) -> str:
        if original not in self._placeholders:
            name = re.sub(r"[^A-Z0-9]", "_", spec.name.upper())[:40]
            number = len(self._placeholders) + 1
            while f"<{name}_{number}>" in self._taken:
                number += 1
            placeholder = f"<{name}_{number}>"
            self._taken.add(placeholder)
            self._placeholders[original] = placeholder
            if spec.restore:
                self._originals[placeholder] = original
        return self._placeholders[original]


class Restored:
    """A stream with the originals in it; what may be the beginning of a placeholder waits for the next chunk."""

    def __init__(self, inner: ChunkStream, redaction: Redaction) -> None:
        self._inner, self._redaction = inner, redaction
        self._waiting: dict[tuple[object, ...], str] = {}

    def close(self) -> None:
        self._inner.close()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        last: dict[str, Any] = {}
        async for chunk in self._inner:
            if chunk is WORKING or not isinstance(chunk.value.get("choices"), list):
                yield chunk
                continue
            last = chunk.value
            for choice in chunk.value["choices"]:
                if isinstance(choice, dict):
                    self._choice(choice)
            yield Chunk(msgspec.json.encode(chunk.value), chunk.value)
        if left := self._left():
            value = {**last, "choices": left}
            yield Chunk(msgspec.json.encode(value), value)

    def _choice(self, choice: dict[str, Any]) -> None:
        index, over = choice.get("index", 0), bool(choice.get("finish_reason"))
        holders: list[tuple[tuple[object, ...], dict[str, Any]]] = [((index, "text"), choice)]
        delta = choice.get("delta")
        if isinstance(delta, dict):
            holders.append(((index, "delta"), delta))
            for called in delta.get("tool_calls") or ():
                function = called.get("function") if isinstance(called, dict) else None
                if isinstance(function, dict):
                    holders.append(((index, "tool", called.get("index")), function))
        for key, holder in holders:
            for name in ("text", "content", "reasoning_content", "reasoning", "refusal", "arguments"):
                if isinstance(holder.get(name), str) or (over and (*key, name) in self._waiting):
                    holder[name] = self._piece((*key, name), holder.get(name) or "", over=over)

    def _piece(self, key: tuple[object, ...], piece: str, *, over: bool) -> str:
        text = self._waiting.pop(key, "") + piece
        begun = None if over else _BEGUN.search(text)
        if begun is not None:
            self._waiting[key] = begun[0]
            text = text[: begun.start()]
        restored = self._redaction.restored(text)
        if key[-1] == "arguments" and restored != text:  # inside JSON: an original may hold what JSON escapes
            restored = _FOUND.sub(lambda found: _escaped(self._redaction.restored(found[0])), text)
        return restored

    def _left(self) -> list[dict[str, Any]]:
        """Returns choices with what still waits, where a stream ended without saying why."""
        found = []
        for (index, place, *tool, name), text in self._waiting.items():
            fields: dict[str, Any] = {str(name): self._redaction.restored(text)}
            if tool:
                place, fields = "delta", {"tool_calls": [{"index": tool[0], "function": fields}]}
            found.append({"index": index, "finish_reason": None, **({"delta": fields} if place == "delta" else fields)})
        self._waiting.clear()
        return found


def _escaped(text: str) -> str:
    return msgspec.json.encode(text).decode()[1:-1]


def _compiled(spec: RedactSpec) -> re.Pattern[str]:
    # A look ahead is tried at every place: a match that proves to be none, or that takes the beginning of another one
    # with it, hides nothing that comes after it.
    return re.compile(f"(?=({spec.pattern or _PATTERNS[spec.kind]}))")


def _matches(kind: str, pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    for found in pattern.finditer(text):
        if kind == "card":
            yield from _cards(found.start(), found[1])
        elif end := _CHECKS[kind](found[1]) if kind in _CHECKS else len(found[1]):
            yield found.start(), found.start() + end


def _iban(text: str) -> int:
    """Returns the length of the IBAN that a text begins with (ISO 13616: modulo 97 is 1), 0 for none."""
    wanted = _IBAN_LENGTHS.get(text[:2].upper(), 0)
    places = [place for place, char in enumerate(text) if char.isalnum()]
    if not 0 < wanted <= len(places):
        return 0
    end = places[wanted - 1] + 1
    compact = re.sub(r"[ -]", "", text[:end]).upper()
    digits = "".join(str(int(char, 36)) for char in compact[4:] + compact[:4])
    return end if int(digits) % 97 == 1 and not text[end : end + 1].isalnum() else 0


def _cards(at: int, run: str) -> Iterator[tuple[int, int]]:
    """Yields the payment cards of a run of digits: 13 to 19 from one gap to another (ISO/IEC 7812-1: Luhn)."""
    groups = [(found.start(), found[0]) for found in re.finditer("[0-9]+", run)]
    for number, (start, first) in enumerate(groups):
        digits = ""
        for place, group in groups[number : number + _CARD_MOST]:
            digits += group
            if len(digits) > _CARD_MOST:
                break
            if len(digits) >= _CARD_LEAST and first[0] in "23456" and _luhn(digits):
                yield at + start, at + place + len(group)


def _luhn(text: str) -> bool:
    digits = [int(char) for char in reversed(text)]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _ip(text: str) -> int:
    try:
        ip_address(text)
    except ValueError:
        return 0
    return len(text)


_CARD_LEAST, _CARD_MOST = 13, 19
# Country codes by the length of their IBANs (the registry of ISO 13616).
_LENGTHS = {
    15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
}  # fmt: skip  # a table
_IBAN_LENGTHS = {country: length for length, countries in _LENGTHS.items() for country in countries.split()}
_CHECKS = {"iban": _iban, "ip": _ip}
