"""Versions of the box: what each one uses, MACed under a sealed secret."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from appliance.store.current import current_number
from appliance.store.layout import StateLayout
from appliance.store.seal import SiteSecrets
from bundler.files import FileLayer, read_limited, write_atomic
from bundler.format import canonical, paths
from bundler.format.bundle import Bundle, open_bundle
from bundler.format.errors import BadBundle, FileMissing, NotReady
from bundler.format.limits import DESCRIPTOR_BYTES, KEYS_BYTES
from bundler.format.manifest import Descriptor, decode_descriptor
from bundler.format.record import from_json, to_json
from bundler.format.site import open_keys


@dataclass(frozen=True)
class Version:
    """What one version uses, and what its self-test said when it was activated.

    Attributes:
        number: Rising on this box.
        bundle: Id of the bundle.
        descriptor_path: Path of its descriptor in the store.
        descriptor_sha256: Its digest.
        made: When the bundle was made.
        installed: When this version was.
        egress: Origins that the policy lets this box talk to.
        selftest: Lines of the self-test.
        model_tested: Whether a chat model took part in it.
        settings: What the MSP set for this site, by name.
        software: The version of the program that serves it; "" is the one that installed it.
    """

    number: int
    bundle: str
    descriptor_path: str
    descriptor_sha256: str
    made: str
    installed: str
    egress: tuple[str, ...]
    selftest: tuple[str, ...]
    model_tested: bool
    settings: dict[str, str] = field(default_factory=dict)
    software: str = ""


def write_version(layout: StateLayout, secrets: SiteSecrets, version: Version, keys: bytes, layer: FileLayer) -> None:
    """Writes a version's record, its MAC and its copy of `keys.age`; it does not serve yet."""
    folder = layout.version(version.number)
    record = canonical.encode(to_json(version))
    write_atomic(folder / "keys.age", keys, mode=0o600, layer=layer)
    write_atomic(folder / "version.json", record, mode=0o600, layer=layer)
    write_atomic(folder / "version.mac", _mac(secrets, record), mode=0o600, layer=layer)


def next_number(layout: StateLayout) -> int:
    numbers = [int(path.name) for path in layout.versions.iterdir() if path.name.isdigit()]
    return max(numbers, default=0) + 1


def read_version(layout: StateLayout, secrets: SiteSecrets, number: int) -> Version:
    """Reads a version's record; raises BadBundle if somebody changed it on this disk."""
    folder = layout.version(number)
    record = read_limited(folder / "version.json", DESCRIPTOR_BYTES)
    if not hmac.compare_digest(read_limited(folder / "version.mac", 64), _mac(secrets, record)):
        raise BadBundle(f"the record of version {number} was changed on this disk")
    return from_json(Version, canonical.decode(record, "version.json"), "version")


def read_current(layout: StateLayout, secrets: SiteSecrets) -> Version:
    """Reads the serving version; raises NotReady where nothing is installed."""
    number = current_number(layout)
    if number is None:
        raise NotReady("nothing is installed on this box", "run `lifeboat-appliance install MEDIUM`")
    return read_version(layout, secrets, number)


def open_version(layout: StateLayout, secrets: SiteSecrets, version: Version) -> Bundle:
    """Opens the bundle that a version uses, from the store."""
    data = read_limited(paths.inside(layout.repository, version.descriptor_path), DESCRIPTOR_BYTES)
    if hashlib.sha256(data).hexdigest() != version.descriptor_sha256:
        raise BadBundle(f"{version.descriptor_path} was changed on this disk")
    keys = open_keys(read_limited(layout.version(version.number) / "keys.age", KEYS_BYTES), secrets.identity)
    return open_bundle(layout.repository, decode_descriptor(data), keys)


def installed_order(layout: StateLayout, secrets: SiteSecrets) -> Descriptor | None:
    """Returns the descriptor of the serving bundle, or None; its `order` is the least that may be installed."""
    try:
        version = read_current(layout, secrets)
        data = read_limited(paths.inside(layout.repository, version.descriptor_path), DESCRIPTOR_BYTES)
    except (NotReady, FileMissing):
        return None
    return decode_descriptor(data)


def _mac(secrets: SiteSecrets, record: bytes) -> bytes:
    key = bytes.fromhex(secrets.version_secret)
    return hmac.new(key, b"lifeboat version record\n" + record, hashlib.sha256).hexdigest().encode()
