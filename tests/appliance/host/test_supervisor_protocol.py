"""Supervisor and serving process may be of different programs: what they say to each other has a number."""

import asyncio
import socket
from pathlib import Path

import pytest

from appliance.host import serving
from appliance.host.channel import PROTOCOL, Channel
from appliance.host.worker import order


def test_an_order_carries_the_protocol(tmp_path: Path) -> None:
    """So that a program of another one can tell."""
    told = order(tmp_path, 1, proves=False, host="127.0.0.1", names=(), dense="exact", seal="")
    assert told["protocol"] == PROTOCOL


@pytest.mark.parametrize("order", [{"version": 1}, {"protocol": PROTOCOL + 1, "version": 1}])
def test_another_protocol_is_refused_in_words(order: dict[str, int]) -> None:
    """Before anything else of the order is read: the supervisor hears why, and goes on with what serves."""

    async def run() -> dict[str, object]:
        mine, theirs = socket.socketpair()
        with socket.socket() as listener:
            supervisor = await Channel.over(mine)
            supervisor.tell(**order)
            assert await serving._serve(listener, theirs) == 0
            heard = await supervisor.hear()
            await supervisor.close()
        return dict(heard or {})

    heard = asyncio.run(run())
    assert "speaks protocol" in str(heard["failed"])
    assert "install again" in str(heard["hint"])
    assert heard["code"] == 6
