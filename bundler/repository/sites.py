"""Sites of a repository: enrolment, and the wrapping of bundle identities. Neither needs to rewrite a payload."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bundler.files import DISK, FileLayer, write_atomic
from bundler.format import age
from bundler.format.errors import BadInput, Busy
from bundler.format.manifest import Descriptor
from bundler.format.site import (
    CODE_BYTES,
    RECOVERY,
    WORK_FACTOR_LOG2,
    Enrolment,
    Settings,
    check_site_id,
    make_code,
    seal_enrolment,
    seal_keys,
    seal_settings,
)
from bundler.format.trust.descriptors import read_descriptors
from bundler.format.trust.policy import may_install
from bundler.format.trust.verify import digest
from bundler.profile.handoff import setting_issues
from bundler.repository.cards import recovery_card, site_card
from bundler.repository.keyring import Keyring
from bundler.repository.ledger import Ledger, Site, read_ledger, write_ledger
from bundler.repository.publish import Publisher

REPORT_SECRET_BYTES = 32
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+")
# What may differ between sites, and what it means; the box takes it from settings.age.
SETTINGS = {
    "hosts": "names by which clients reach the box, separated by commas",
    "handoff": "what the last rung tells a person to do",
    "handoff_to": "the mail addresses that hand-off tickets go to, separated by commas",
    "handoff_url": "where hand-off tickets go: https://..., smtp://host:port or smtps://host:port",
}


@dataclass(frozen=True, repr=False)
class NewSite:
    """What `site add` hands out; the code is shown once."""

    site: str
    code: str
    card: str


NEW = "made a new repository at {}"


def open_repository(
    publisher: Publisher,
    keyring: Keyring,
    hand_out: Callable[[NewSite], None],
    *,
    suite: str | None = None,
    recovery: bool = True,
    work_factor_log2: int = WORK_FACTOR_LOG2,
    layer: FileLayer = DISK,
) -> str:
    """Returns the repository's id; a new one is made.

    Args:
        publisher: Of the repository.
        keyring: The MSP's keys.
        hand_out: Takes the recovery site's card the moment it exists: whatever fails later, it must not be lost.
        suite: What a new repository must be encrypted with; None for the usual, or whatever an existing one has.
        recovery: Whether it shall have a recovery site.
        work_factor_log2: Of the recovery code's scrypt.
        layer: Where faults can be put.

    Raises:
        BadInput: The repository exists with another suite, or has a recovery site that it shall not have.
    """
    if publisher.exists:
        repository = publisher.policy().repository
    else:
        repository = publisher.create(suite=suite or age.CLASSIC_SUITE).repository
    ledger = read_ledger(keyring, repository)
    if suite not in (None, ledger.suite):
        raise BadInput(
            f"the repository exists with suite {ledger.suite}", "a repository keeps its suite; make a new one"
        )
    has_recovery = any(site.site == RECOVERY for site in ledger.sites)
    if has_recovery and not recovery:
        raise BadInput("the repository has a recovery site", f"remove it with `lifeboat site remove {RECOVERY}`")
    if recovery and not has_recovery and not ledger.recovery:
        hand_out(add_site(publisher, keyring, repository, RECOVERY, work_factor_log2=work_factor_log2, layer=layer))
    return repository


def add_site(
    publisher: Publisher,
    keyring: Keyring,
    repository: str,
    site: str,
    *,
    random: Callable[[int], bytes] = secrets.token_bytes,
    work_factor_log2: int = WORK_FACTOR_LOG2,
    layer: FileLayer = DISK,
) -> NewSite:
    """Makes a site and authorises it for every bundle that the ledger knows.

    Raises:
        BadInput: The name cannot be one.
        Busy: The site exists; its code is on its card and nowhere else.
    """
    check_site_id(site)
    ledger = read_ledger(keyring, repository)
    folder = publisher.folder / "sites" / site
    if any(known.site == site for known in ledger.sites):
        raise Busy(f"site {site} exists already", "use its card, or give the new site another name")
    code, identity = make_code(random(CODE_BYTES)), age.generate_identity(ledger.suite)
    msp, root = keyring.msp(), digest(publisher.newest_root())
    report_secret, recovery = random(REPORT_SECRET_BYTES).hex(), ledger.recovery_recipient
    enrolment = Enrolment(root, msp.id, repository, site, str(identity), report_secret, recovery)
    settings = seal_settings(Settings(1, {}), identity.recipient)
    write_atomic(folder / "enroll.age", seal_enrolment(enrolment, code, work_factor_log2), layer=layer)
    ledger = ledger.with_site(Site(site, str(identity.recipient)))
    ledger = replace(ledger, recovery=ledger.recovery or site == RECOVERY)
    wrap_keys(publisher, ledger, (), layer)
    publisher.replace_content({f"sites/{site}/settings.age": settings})
    # The ledger last: after a stop before it, nobody has seen the code, and the site can be made again.
    write_ledger(keyring, ledger, layer)
    if site == RECOVERY:
        return NewSite(site, code, recovery_card(msp.name, repository, code, root))
    return NewSite(site, code, site_card(msp.name, repository, site, code, root))


def authorize_site(publisher: Publisher, keyring: Keyring, site: str, layer: FileLayer = DISK) -> None:
    """Wraps the identities of all bundles that may be installed to a site anew; takes no signing key.

    Raises:
        BadInput: There is no such site.
    """
    ledger = read_ledger(keyring, publisher.policy().repository)
    ledger.site(site)
    wrap_keys(publisher, ledger, (), layer)


def remove_site(publisher: Publisher, keyring: Keyring, site: str, layer: FileLayer = DISK) -> None:
    """Takes a site away: no later bundle is wrapped to it. What it has, it can open for ever.

    Raises:
        BadInput: There is no such site.
    """
    ledger = read_ledger(keyring, publisher.policy().repository)
    ledger.site(site)
    publisher.drop_content([f"sites/{site}/settings.age"])
    folder = publisher.folder / "sites" / site
    if folder.exists():
        shutil.rmtree(folder)
    # The ledger last: until then a rerun finds the site and does the rest.
    write_ledger(keyring, ledger.without_site(site), layer)


def set_site(
    publisher: Publisher, keyring: Keyring, site: str, values: Mapping[str, str | None], layer: FileLayer = DISK
) -> dict[str, str]:
    """Changes settings of a site, which takes the refresh key; returns all of them. None removes one.

    Raises:
        BadInput: There is no such site or setting.
    """
    if unknown := values.keys() - SETTINGS.keys():
        raise BadInput(f"unknown settings: {', '.join(sorted(unknown))}", f"known are {', '.join(sorted(SETTINGS))}")
    for name, value in values.items():
        if value is not None and (not value.isprintable() or len(value) > 2_000):
            raise BadInput(f"{name} must be at most 2,000 printable characters in one line")
    for host in (values.get("hosts") or "").split(",") if values.get("hosts") else ():
        if not _HOST.fullmatch(host.strip()):
            raise BadInput(f"{host!r} in hosts is no host name or address", "write names separated by commas")
    for issue in setting_issues(values.get("handoff_url") or "", values.get("handoff_to") or ""):
        raise BadInput(issue)
    ledger = read_ledger(keyring, publisher.policy().repository)
    known = ledger.site(site)
    merged = {**known.settings, **values}
    settings = {name: value for name, value in merged.items() if value is not None}
    sealed = seal_settings(Settings(1, settings), age.parse_recipient(known.recipient))
    write_ledger(keyring, ledger.with_site(replace(known, settings=settings)), layer)
    publisher.replace_content({f"sites/{site}/settings.age": sealed})
    return settings


def wrap_keys(
    publisher: Publisher, ledger: Ledger, unlisted: Sequence[Descriptor] = (), layer: FileLayer = DISK
) -> None:
    """Writes `keys.age` of every site anew, with the identities of the bundles that may be installed.

    Args:
        publisher: Of the repository.
        ledger: Its sites and all identities.
        unlisted: Bundles that are about to be signed.
        layer: Where faults can be put.
    """
    trusted = publisher.trusted()
    listed = [item for item in read_descriptors(publisher.folder, trusted) if may_install(item.bundle, trusted.policy)]
    bundles = [*listed, *unlisted]
    used = {item.recipient for item in bundles} | {file.recipient for item in bundles for file in item.volumes}
    identities = {recipient: secret for recipient, secret in ledger.identities.items() if recipient in used}
    for site in ledger.sites:
        sealed = seal_keys(identities, age.parse_recipient(site.recipient))
        write_atomic(publisher.folder / "sites" / site.site / "keys.age", sealed, layer=layer)
