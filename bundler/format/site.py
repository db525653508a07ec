"""A site's files: `enroll.age` for first contact, `keys.age` with the bundle identities, and the code on its card."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bundler.format import FORMAT_VERSION, age, canonical, paths
from bundler.format.age.errors import AgeError
from bundler.format.errors import BadBundle, BadInput, NewerFormat, WrongKey
from bundler.format.limits import KEYS_BYTES, SETTINGS_BYTES
from bundler.format.record import LATER, from_json, to_json

CODE_BYTES = 10  # 80 bits: beyond guessing offline even without scrypt
WORK_FACTOR_LOG2 = 18  # about a second and 256 MiB
# Crockford's base32: no I, L, O, U, so that a code survives being read aloud.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LABELLED = re.compile(r"(?im)^[|\s]*(?:site|recovery) code:[ \t]*([0-9a-z -]+?)[ \t]*\|?[ \t]*\r?$")
_LOOKALIKES = str.maketrans({"O": "0", "I": "1", "L": "1"})
_SITE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
RECOVERY = "recovery"


@dataclass(frozen=True, repr=False)
class Enrolment:
    """What first contact gives to a box.

    Attributes:
        recovery: The public recipient of the recovery site, "" where the repository has none (SPEC 6.2).
    """

    root_sha256: str
    msp: str
    repository: str
    site: str
    identity: str
    report_secret: str
    recovery: str = field(default="", metadata=LATER)


@dataclass(frozen=True)
class Settings:
    """What differs between the sites of one repository; `values` by name, such as "hosts" or "handoff"."""

    format: int
    values: dict[str, str]


def check_site_id(site: str) -> str:
    """Returns the id if it can name a folder anywhere; raises BadInput otherwise."""
    if not _SITE_ID.fullmatch(site):
        raise BadInput(f"site {site!r} may hold lower-case letters, digits and '-' only, 63 at most")
    try:
        return paths.check(site)
    except BadBundle as error:
        raise BadInput(f"site {site!r}: a {error.fact}, it names a device on some systems") from error


def make_code(random_bytes: bytes) -> str:
    """Returns a site code: 80 bits and one check character, in groups of four and a last one of five.

    Args:
        random_bytes: CODE_BYTES of them, from a secure source.
    """
    if len(random_bytes) != CODE_BYTES:
        raise ValueError(f"a site code is made of {CODE_BYTES} bytes")
    number = int.from_bytes(random_bytes, "big")
    letters = "".join(_ALPHABET[(number >> shift) & 31] for shift in range(75, -1, -5))
    letters += _check_letter(letters)
    return "-".join([letters[0:4], letters[4:8], letters[8:12], letters[12:17]])


def find_code(text: str) -> str:
    """Returns the code in a file that holds it alone or a whole card; `parse_code` then judges what was found."""
    labelled = _LABELLED.search(text)
    return labelled[1] if labelled else text.strip()


def parse_code(text: str) -> str:
    """Returns the canonical code for what a person typed: case, spaces, dashes, O and I do not matter.

    Raises:
        WrongKey: It has the wrong length, a foreign character or a wrong check character.
    """
    letters = re.sub(r"[\s-]", "", text).upper().translate(_LOOKALIKES)
    hint = "type it as it stands on the site card"
    if len(letters) != 17 or any(letter not in _ALPHABET for letter in letters):
        raise WrongKey(f"a site code has 17 letters and digits, this has {len(letters)} or other characters", hint)
    if _check_letter(letters[:16]) != letters[16]:
        raise WrongKey("the site code has a typing error: its last character does not fit", hint)
    return "-".join([letters[0:4], letters[4:8], letters[8:12], letters[12:17]])


def _check_letter(letters: str) -> str:
    """Weighted sum modulo 31, a prime: finds every single wrong letter and every swap of neighbours but 0 with Z."""
    total = sum((place + 1) * _ALPHABET.index(letter) for place, letter in enumerate(letters))
    return _ALPHABET[total % 31]


def seal_enrolment(enrolment: Enrolment, code: str, work_factor_log2: int = WORK_FACTOR_LOG2) -> bytes:
    """Returns `enroll.age`."""
    recipient = age.ScryptRecipient(parse_code(code), work_factor_log2)
    return age.encrypt(canonical.encode(to_json(enrolment)), [recipient])


def open_enrolment(data: bytes, code: str) -> Enrolment:
    """Opens `enroll.age`.

    Raises:
        WrongKey: The code is not this site's.
        BadBundle: The file is not an enrolment.
    """
    document = _open(data, age.ScryptIdentity(parse_code(code)), "enroll.age", "the site code")
    enrolment = from_json(Enrolment, canonical.decode(document, "enroll.age"), "enrolment")
    check_site_id(enrolment.site)
    return enrolment


def seal_keys(identities: Mapping[str, str], recipient: age.KeyRecipient) -> bytes:
    """Returns `keys.age`: bundle identities by their recipient, wrapped to a site."""
    return age.encrypt(canonical.encode(dict(identities)), [recipient])


def open_keys(data: bytes, identity: str) -> dict[str, str]:
    """Opens `keys.age` with the site's identity; returns secret identities by recipient.

    Raises:
        WrongKey: The file is wrapped to another site.
        BadBundle: It is not what we write.
    """
    document = _open(data, age.parse_identity(identity), "keys.age", "this site's key")
    keys = canonical.decode(document, "keys.age")
    for recipient, secret in keys.items():
        if not isinstance(secret, str) or _recipient_of(secret) != recipient:
            raise BadBundle(f"keys.age holds no sound identity for {recipient[:20]}")
    return keys


def seal_settings(settings: Settings, recipient: age.KeyRecipient) -> bytes:
    """Returns `settings.age`."""
    return age.encrypt(canonical.encode(to_json(settings)), [recipient])


def open_settings(data: bytes, identity: str) -> Settings:
    """Opens `settings.age` with the site's identity.

    Raises:
        WrongKey: It is another site's.
        BadBundle: It is not what we write.
    """
    document = _open(data, age.parse_identity(identity), "settings.age", "this site's key", SETTINGS_BYTES)
    settings = from_json(Settings, canonical.decode(document, "settings.age"), "settings")
    if settings.format != FORMAT_VERSION:
        raise NewerFormat(f"settings format {settings.format}, this program reads {FORMAT_VERSION}")
    return settings


def _open(data: bytes, identity: age.Identity, name: str, key: str, limit_bytes: int = KEYS_BYTES) -> bytes:
    try:
        return age.decrypt(data, [identity], limit_bytes=limit_bytes)
    except age.NoMatch as error:
        raise WrongKey(f"{key} does not open {name}", "is it the card and the medium of the same site?") from error
    except (AgeError, ValueError) as error:
        raise BadBundle(f"{name} is damaged: {error}") from error


def _recipient_of(secret: str) -> str | None:
    try:
        return str(age.parse_identity(secret).recipient)
    except (AgeError, ValueError):
        return None
