"""Supervisor and serving process may be of different programs: what they say to each other has a number."""

import asyncio
import socket
from pathlib import Path
from typing import Any

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


def test_a_fault_while_a_version_opens_is_an_answer(tmp_path: Path) -> None:
    """Whatever its parts raise, the supervisor hears that it is refused, and what serves goes on obeying."""

    class Broken:
        async def open(self, _number: int) -> object:
            raise RuntimeError("where is the spare key?")

    async def run() -> list[dict[str, object]]:
        mine, theirs = socket.socketpair()
        supervisor, channel = await Channel.over(mine), await Channel.over(theirs)
        loader: Any = Broken()
        obeying = asyncio.create_task(serving.Serving(loader, channel, 1, {}, proves=False)._obey())
        heard = [await supervisor.hear()]
        for number in (2, 3):
            supervisor.tell(switch=number, proves=False)
            heard.append(await asyncio.wait_for(supervisor.hear(), 10))
        await supervisor.close()
        await obeying
        await channel.close()
        return [dict(message or {}) for message in heard]

    told = asyncio.run(run())
    assert [message.get("refused") for message in told] == [None, 2, 3]
    assert {message["reason"] for message in told[1:]} == {"a fault of the program: RuntimeError"}
