"""Asks a provider for its list of models, which costs nothing, in the very way in which the gateway asks it."""

from __future__ import annotations

import asyncio

from appliance.answer.targets import provider_target
from appliance.gateway.outcome import Failed, Kind
from appliance.gateway.probe import LOOK_BYTES
from appliance.gateway.upstream import Client
from appliance.settings import Settings
from bundler.format.service import UpstreamSpec

_WAIT_S = 10.0


def look(upstream: UpstreamSpec, settings: Settings) -> tuple[int, bytes]:
    """Returns the status and the beginning of the body; same proxy, authority, headers, query, and no redirects.

    Raises:
        Failed: It was not reached.
    """
    return asyncio.run(_looked(upstream, settings))


async def _looked(upstream: UpstreamSpec, settings: Settings) -> tuple[int, bytes]:
    try:
        async with asyncio.timeout(_WAIT_S), Client(provider_target(upstream, settings)) as client:
            return await client.look("/models", LOOK_BYTES)
    except TimeoutError as error:
        raise Failed(Kind.UNREACHED, f"no answer in {_WAIT_S:.0f} s") from error
