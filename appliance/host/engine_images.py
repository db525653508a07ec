"""Whose an image in an engine is: what we brought goes when no version needs it, what was there before us stays."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

from appliance.host.container_engine import Engine
from appliance.store.image_record import ImageTold
from appliance.store.image_stream import Picked
from bundler.format.errors import LifeboatError


@dataclass(frozen=True)
class Coming:
    """An image of the serving version that an engine is to have.

    Attributes:
        picked: The image of this machine's platform.
        engine: Which takes it.
        is_there: Whether it has it already, under our name.
        was_there: As `ImageTold` says it.
    """

    picked: Picked
    engine: Engine
    is_there: bool
    was_there: bool

    @property
    def told(self) -> ImageTold:
        """What is on record of it: before it is loaded what may come, afterwards what is there."""
        picked = self.picked
        return ImageTold(
            picked.spec.name,
            picked.reference,
            self.engine.name,
            "",
            config=picked.config.hex,
            was_there=self.was_there,
        )


def coming(picked: Picked, engine: Engine, recorded: Iterable[ImageTold]) -> Coming:
    """Looks whether an engine has an image, and whose it would be.

    Args:
        picked: The image.
        engine: Asked for it.
        recorded: What we have brought into engines so far.

    Raises:
        SystemFailed: The engine cannot be asked.
    """
    ours = [item for item in recorded if item.engine == engine.name]
    found = engine.image_id(picked.reference) == picked.config.hex
    known = [item.was_there for item in ours if item.reference == picked.reference]
    if known:
        return Coming(picked, engine, found, known[0])
    was_there = engine.image_id(picked.config.hex) != "" and not _brought(picked.config.hex, engine, ours)
    return Coming(picked, engine, found, was_there)


def removed(
    item: ImageTold, find: Callable[[], Engine], say: Callable[[str], None], serving: Container[str] = ()
) -> bool:
    """Takes away what we brought; returns whether nothing of it is left to do.

    Args:
        item: On record, and needed by no version.
        find: Finds the engine.
        say: Hears why it stays.
        serving: Names that follow the serving version, which stay whatever they stand for.
    """
    try:
        engine = find()
        if engine.name != item.engine:
            return False
        take = engine.release if item.was_there else engine.remove
        ours = item.config or engine.image_id(item.reference)
        follows = moving(item.reference)
        for name in (follows, item.reference) if follows not in serving else (item.reference,):
            if ours and engine.image_id(name) == ours:  # who gave our name to another image keeps it
                take(name)
    except LifeboatError as error:
        say(f"{item.reference} stays: {error.fact}")
        return False
    return True


def moving(reference: str) -> str:
    """Returns the name that follows the serving version."""
    return f"{reference.rpartition(':')[0]}:current"


def _brought(config: str, engine: Engine, ours: Iterable[ImageTold]) -> bool:
    """Whether we brought an image ourselves, under another name."""
    return any(not item.was_there and engine.image_id(item.reference) == config for item in ours)
