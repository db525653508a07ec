"""What tests of the box share."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn.server

from appliance.edge import server


class _Quick:
    """asyncio with naps a tenth as long."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(delay_s: float) -> None:
        await asyncio.sleep(delay_s / 10)


@pytest.fixture
def quick_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a server look ten times as often whether it shall stop and has: else each test waits 0.4 s at its end."""
    monkeypatch.setattr(uvicorn.server, "asyncio", _Quick())
    monkeypatch.setattr(server, "_SETTLE_S", server._SETTLE_S / 10)
