"""`profile new`: copies a shipped profile with its content, its tiers and the schemas for editors into a folder."""

from __future__ import annotations

import re
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from bundler.files import scratch_folder, write_atomic
from bundler.format.errors import BadInput, PartMissing
from bundler.profile.table import NAME
from bundler.profile.tier import FOLDER, SUFFIX

MINIMAL = "minimal"
SCHEMAS = ("profile.schema.json", "tier.schema.json")
_TEMPLATES = "templates"
# Where an installed program's shipped profiles lie, below the data folder of its environment (pyproject.toml).
_INSTALLED = "share/lifeboat/profiles"


@dataclass(frozen=True)
class NewProfile:
    """What was written: the profile, its content, and the tiers and schemas that were not there before."""

    profile: Path
    content: Path
    beside: tuple[Path, ...]


def shipped_folder() -> Path:
    """Returns the folder of the shipped profiles: of the checkout, or of the installed program.

    Raises:
        PartMissing: It is in neither place.
    """
    places = (Path(__file__).parents[2] / "profiles", Path(sysconfig.get_path("data")) / _INSTALLED)
    for place in places:
        if (place / FOLDER).is_dir():
            return place
    raise PartMissing("the shipped profiles are not installed", f"they belong in {places[1]}: install the wheel again")


def shipped_profiles(shipped: Path) -> dict[str, Path]:
    """Returns the profiles that a new one may be made from, by name."""
    found = {path.stem: path for path in sorted(shipped.glob(f"*{SUFFIX}"))}
    return {**found, MINIMAL: shipped / _TEMPLATES / f"{MINIMAL}{SUFFIX}"}


def make_profile(name: str, source: str, tier: str, folder: Path, shipped: Path) -> NewProfile:
    """Writes a new profile; nothing that is there is replaced.

    Args:
        name: What it shall be called.
        source: The shipped profile that it starts as.
        tier: The tier that it names; "" keeps that of the source.
        folder: Where to put it.
        shipped: The folder of shipped profiles.

    Raises:
        BadInput: The name is none, something of it is there already, or there is no such source or tier.
    """
    known, tiers = shipped_profiles(shipped), {path.stem for path in (shipped / FOLDER).glob(f"*{SUFFIX}")}
    if not NAME.fullmatch(name):
        raise BadInput(f"{name!r} is no name of a profile", "take lower-case letters, digits and '-'")
    if source not in known:
        raise BadInput(f"there is no shipped profile {source!r}", f"there are {', '.join(sorted(known))}")
    if tier and tier not in tiers:
        raise BadInput(f"there is no shipped tier {tier!r}", f"there are {', '.join(sorted(tiers))}")
    target, content = folder / f"{name}{SUFFIX}", folder / name
    for path in (target, content):
        if path.exists() or path.is_symlink():
            raise BadInput(f"{path} is there already", "take another name, or another folder with --to")
    text = renamed(known[source].read_text(encoding="utf-8"), source, name, tier)
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder, ".profile-") as work:
        shutil.copytree(known[source].with_suffix(""), work / name)
        (work / name).rename(content)
    beside = _copy_beside(shipped, folder)
    write_atomic(target, text.encode())
    return NewProfile(target, content, beside)


def renamed(text: str, source: str, name: str, tier: str) -> str:
    """Returns a profile's text under another name, with its content in a folder of that name. Pure."""
    for before in ('"file:', "the content in "):
        text = text.replace(f"{before}{source}/", f"{before}{name}/")
    text = re.sub(rf'^name = "{re.escape(source)}"', f'name = "{name}"', text, count=1, flags=re.MULTILINE)
    if not tier:
        return text
    line = f'tier = "{FOLDER}/{tier}{SUFFIX}"'
    changed, count = re.subn(r'^tier = "[^"\n]*"', line, text, count=1, flags=re.MULTILINE)
    if count:
        return changed
    raise BadInput(f"{source} names its models itself and takes no tier", "leave --tier out")


def _copy_beside(shipped: Path, folder: Path) -> tuple[Path, ...]:
    """Copies tiers and schemas where they are not there; those of the author stay as they are."""
    wanted = [*sorted((shipped / FOLDER).glob(f"*{SUFFIX}")), *(shipped / name for name in SCHEMAS)]
    targets = {folder / path.relative_to(shipped): path for path in wanted}
    absent = {target: path for target, path in targets.items() if not target.exists()}
    for target, path in absent.items():
        write_atomic(target, path.read_bytes())
    return tuple(absent)
