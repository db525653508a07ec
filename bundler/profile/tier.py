"""`[bundle] tier`: the models that fit a kind of machine, in a file of their own that many profiles name."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundler.format.errors import BadInput
from bundler.format.limits import GIB
from bundler.profile.model import ModelEntry, TierEntry
from bundler.profile.table import NAME, Table

TOML_BYTES = 1_000_000
FOLDER, SUFFIX = "tiers", ".toml"
# What the ladders of profiles call the tier's chat model, so that they work with any tier.
LOCAL = "local"
_MEMORY_GB_MOST, _NEEDS_MB_MOST = 100_000, 100_000_000


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Reads a TOML file.

    Args:
        path: The file.
        what: Names it in errors.

    Raises:
        BadInput: It can't be read, is too long or is not TOML.
    """
    try:
        with path.open("rb") as file:
            data = file.read(TOML_BYTES + 1)
    except OSError as error:
        raise BadInput(f"{what} {path} cannot be read: {error.strerror}", "name a .toml file") from error
    if len(data) > TOML_BYTES:
        raise BadInput(f"{what} {path} is longer than {TOML_BYTES} bytes")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # not text, not TOML, a number of too many digits, too deep
        raise BadInput(f"{what} {path} is not TOML: {error}") from error


@dataclass(frozen=True)
class OpenTier:
    """The tables of a tier, to be read as a profile's own; `entry` is None where the profile names no tier."""

    entry: TierEntry | None
    models: tuple[Table, ...]
    embedding: Table | None
    issues: list[str]

    def told(self, models: tuple[ModelEntry, ...]) -> list[str]:
        """Returns every issue, with the file in it, once `models` of it were read."""
        if self.entry is None:
            return []
        mine = models[: len(self.models)]
        issues = list(self.issues)
        if LOCAL not in {model.name for model in mine if model.serves == "chat"}:
            issues.append(f"no chat [[model]] is named {LOCAL!r}, by which profiles know it")
        return [f"tier {self.entry.file}: {issue}" for issue in issues]


def tier_file(bundle: Table, base: Path, chosen: str) -> Path | None:
    """Returns the file of the tier, or None.

    Args:
        bundle: The `[bundle]` table.
        base: The profile's folder.
        chosen: A tier's name, or a path to its file, that replaces the profile's; "" for none.
    """
    own = bundle.text("tier") if bundle.has("tier") else ""
    if not chosen:
        return base / own if own else None
    if not NAME.fullmatch(chosen) or chosen.endswith(SUFFIX):
        return Path(chosen)
    return ((base / own).parent if own else base / FOLDER) / (chosen + SUFFIX)


def open_tier(file: Path | None) -> OpenTier:
    """Opens a tier's file; what is wrong in it is noted, and told by `OpenTier.told`.

    Raises:
        BadInput: There is no such file, or it is not TOML.
    """
    if file is None:
        return OpenTier(None, (), None, [])
    if not file.exists():
        names = ", ".join(sorted(path.stem for path in file.parent.glob(f"*{SUFFIX}")))
        raise BadInput(f"there is no tier {file}", f"there are {names}" if names else "name a .toml file")
    issues: list[str] = []
    values = read_toml(file, "tier")
    top = Table(values, "tier", issues)
    entry = _entry(top.table("tier"), file)
    issues += _elsewhere(values)
    embedding = top.table("embedding") if top.has("embedding") else None
    models = tuple(top.tables("model"))
    for key in values:
        if key not in ("tier", "model", "embedding"):
            issues.append(f"{key} does not belong in a tier, which holds [tier], [[model]] and [embedding] only")
    return OpenTier(entry, models, embedding, issues)


def _entry(table: Table, file: Path) -> TierEntry:
    entry = TierEntry(
        name=table.name(),
        title=table.text("title"),
        file=file,
        memory_gb=table.integer("memory_gb", 0, 1, _MEMORY_GB_MOST) if table.has("memory_gb") else 0,
        gpu_memory_gb=table.integer("gpu_memory_gb", 0, 1, _MEMORY_GB_MOST) if table.has("gpu_memory_gb") else 0,
        needs_mb=table.integer("needs_mb", -1, 1, _NEEDS_MB_MOST),
    )
    if not entry.memory_gb:
        table.issue("memory_gb is missing: the memory of the machine")
    has_gb = entry.gpu_memory_gb or entry.memory_gb
    if has_gb and entry.needs_mb * 1_000_000 > has_gb * GIB:
        table.issue(f"needs_mb is {entry.needs_mb}, more than the {has_gb} GB that the machine has for models")
    table.close()
    return entry


def _elsewhere(values: Mapping[str, Any]) -> list[str]:
    """A tier is shared by profiles of many folders, so nothing in it may start at one of them."""
    tables = [values.get("embedding"), *(listed if isinstance(listed := values.get("model"), list) else [])]
    texts = [value for table in tables if isinstance(table, dict) for value in table.values() if isinstance(value, str)]
    return [f"{text!r} starts at a profile's folder, and a tier has none" for text in texts if text.startswith("file:")]
