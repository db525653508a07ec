"""Asks a local model that gives vectors or ranks: one engine or an error, as no other model's numbers stand for its."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from appliance.answer.facts import EngineFacts
from appliance.engine.pooled_request import AUTO
from appliance.gateway import relay
from appliance.gateway.call import Call
from appliance.gateway.classify import REQUEST_FAULTS
from appliance.gateway.outcome import Failed, Kind, Refused
from appliance.gateway.replay import Replays
from appliance.gateway.upstream import Client
from bundler.format.errors import Busy
from bundler.format.service import ModelSpec

ENGINE_ERROR = "engine_error"  # the model gave no numbers for a text
_ANSWER_BYTES = 128 * 2**20  # far above what the engine lets one request have


class NotServing(Exception):
    """The model cannot answer now; it may in a moment."""


class Pooling:
    """The local models that climb no ladder.

    Args:
        models: All of the box.
        engines: By name.
        clients: An open client for each engine, by name.
    """

    def __init__(
        self, models: Sequence[ModelSpec], engines: Mapping[str, EngineFacts], clients: Mapping[str, Client]
    ) -> None:
        self._models, self._clients = models, clients
        self._replays = {name: Replays(engine) for name, engine in engines.items()}

    def serving(self, serves: str) -> list[str]:
        """Returns the names of the models that do it, in the order of the profile."""
        return [model.name for model in self._models if model.serves == serves]

    async def revive(self, name: str, call: Call) -> None:
        """Waits for a model that loads again after its engine's end, as long as the call may."""
        if name in self._replays:
            await self._replays[name].revive(call)

    async def ask(self, name: str, call: Call) -> bytes:
        """Returns the engine's answer as it came.

        Raises:
            Refused: The engine refused the request itself, or its model fails with it.
            Busy: Too many requests wait.
            NotServing: It gave no answer.
        """
        client, body = self._clients[name], relay.prepared(call, name)
        try:
            return await self._replays[name].ask(call, lambda: relay.fetched(client, call, body, _ANSWER_BYTES))
        except Failed as failure:
            if failure.kind is Kind.STATUS and failure.status in REQUEST_FAULTS:
                raise Refused(failure.status, failure.code, failure.message) from failure
            if (failure.status, failure.code) == (500, ENGINE_ERROR):  # the same request fails again
                raise Refused(502, failure.code, failure.message) from failure
            if failure.status == 429:
                raise Busy(f"{name}: too many requests wait", "try again in a moment") from failure
            raise NotServing(f"{name}: {failure.message or failure.detail}") from failure


def named(asked: str, names: Iterable[str]) -> str | None:
    """Returns the model that is meant: that of the name, or the first where nobody named one."""
    return next((name for name in names if asked in (AUTO, name)), None)
