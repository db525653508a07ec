"""`lifeboat lock`: takes into the lock what it lacks, and shows what moved before it is taken instead."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from bundler.embedding.model import embedding_files
from bundler.embedding.offer import pinned
from bundler.format.errors import BadInput, SourceFailed
from bundler.lock import Lock, Pin, settle
from bundler.models.signatures import default_place
from bundler.profile.model import EmbeddingEntry, ModelEntry, Profile
from bundler.profile_sources import Sources
from bundler.sources import hub
from bundler.sources.source import HubSource, RegistrySource, Seen, parse
from bundler.terminal import size

_DIGITS = 12


@dataclass(frozen=True)
class Move:
    """A source whose branch or tag stands for something else than the lock has."""

    source: str
    before: Seen
    now: Seen

    def lines(self) -> list[str]:
        """Says what moves, for people."""
        before, now = self.before, self.now
        lines = [self.source, f"  from {_short(before.resolved)} to {_short(now.resolved)}"]
        if before.digest == now.digest:
            lines.append("  the file is the same")
        else:
            lines.append(f"  {size(before.length_bytes)} to {size(now.length_bytes)}: {_short(now.digest)}")
        if before.licence != now.licence:
            lines.append(f"  LICENCE from {before.licence or 'none'} to {now.licence or 'none'}")
        return lines


def named_sources(profile: Profile, lock: Lock) -> dict[str, tuple[str, ...]]:
    """Returns the source texts of what can be locked, by the name in the profile."""
    named = {model.name: (model.source, *_beside(model, lock)) for model in profile.models}
    if (entry := profile.embedding) is not None:
        taken = pinned(entry, lock.pins) or entry
        named[entry.name] = (*(entry.source + name for name in embedding_files(taken)), *_beside(entry, lock))
    return named | {image.name: (str(image.source),) for image in profile.images}


def _beside(entry: ModelEntry | EmbeddingEntry, lock: Lock) -> tuple[str, ...]:
    """Returns the sources that a model is held against, as far as the lock has them."""
    template = entry.template if isinstance(entry, ModelEntry) else ""
    signature = (entry.signer.signature or default_place(entry.source, "")) if entry.signer is not None else ""
    return tuple(text for text in (template, signature) if text in lock.pins)


def movable(profile: Profile, lock: Lock, asked: Sequence[str]) -> frozenset[str]:
    """Returns the pinned sources that may have moved.

    Args:
        profile: Whose sources.
        lock: What they are pinned to.
        asked: Names or sources of the profile; none asks for all.

    Raises:
        BadInput: One of them is not in the profile.
    """
    named = named_sources(profile, lock)
    texts = {text for sources in named.values() for text in sources}
    if unknown := [name for name in asked if name not in named and name not in texts]:
        raise BadInput(f"the profile has no source {unknown[0]!r}", f"it has {', '.join(named) or 'none'}")
    wanted = {text for name in asked for text in named.get(name, (name,))} if asked else texts
    # What is of one revision is of one commit: it moves together.
    moving = {_revision(text) for text in wanted}
    return frozenset(text for text in texts if _revision(text) in moving and lock.pins.get(text, Pin(0, "")).resolved)


def without(lock: Lock, texts: Collection[str]) -> Lock:
    """Returns the lock without these pins."""
    return Lock(lock.format, {text: pin for text, pin in lock.pins.items() if text not in texts})


def look(sources: Sources, lock: Lock, texts: Collection[str]) -> tuple[Move, ...]:
    """Asks where each source stands now; files of a hub are not fetched for that.

    Args:
        sources: With a lock that lacks them.
        lock: What they are pinned to.
        texts: The sources.

    Returns:
        What stands for something else now. Of an image that is also what is attached to it, and its platform. A commit
        of a hub cannot change: one that does is none of these, stays pinned, and so is refused.

    Raises:
        SourceFailed: A hub or a registry cannot be asked.
        BadInput: A source has become another thing there.
    """
    hubs = {text: source for text in sorted(texts) if isinstance(source := parse(text), HubSource)}
    others = sorted(set(texts) - hubs.keys())
    now = sources.pins(sources.found()) if others else {}
    moves = []
    for text, source in hubs.items():
        moves.append(Move(text, _before(sources, source, lock.pins[text]), hub.look(source, sources.place)))
    moves = [move for move in moves if move.before.resolved != move.now.resolved]
    moves += [
        Move(text, _pinned(lock.pins[text]), _pinned(now[text])) for text in others if now[text] != lock.pins[text]
    ]
    return tuple(moves)


def locked(sources: Sources) -> Lock:
    """Fetches everything and returns the lock with it.

    Raises:
        SourceFailed: Something cannot be fetched, or is not what the lock pins.
    """
    return settle(sources.lock, sources.pins(sources.found()))


def added(before: Mapping[str, Pin], after: Mapping[str, Pin]) -> list[str]:
    """Returns the sources that are pinned now and were not."""
    return sorted(after.keys() - before.keys())


def _before(sources: Sources, source: HubSource, pin: Pin) -> Seen:
    try:
        return hub.look(source, sources.place, pin.resolved)
    except (SourceFailed, BadInput):  # the hub may have lost an old commit; the lock still says what it was
        return _pinned(pin)


def _pinned(pin: Pin) -> Seen:
    digests = [pin.sha256, *(part.sha256 for part in pin.parts)]
    return Seen(pin.resolved, pin.length_bytes, " ".join(digests), "")


def _revision(text: str) -> str:
    source = parse(text)
    if isinstance(source, HubSource):
        return f"hub:{source.repository}@{source.revision}"
    return f"registry:{source.name}:{source.tag}" if isinstance(source, RegistrySource) else text


def _short(text: str) -> str:
    kind, mark, digits = text.rpartition(":")
    return " ".join(f"{kind}{mark}{word[:_DIGITS]}" for word in digits.split())
