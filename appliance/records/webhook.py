"""Hands a ticket to a webhook: one POST of JSON, without redirects, proxies or cookies."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

from appliance.gateway.upstream import unconnected
from appliance.records.delivery import Verdict, judge_status

TIMEOUT_S = 20.0


async def post(
    url: str, key: str, name: str, value: Mapping[str, Any], trusted: ssl.SSLContext | None = None
) -> Verdict:
    """Sends a ticket once; its name is the idempotency key, by which the receiver tells a second one.

    Args:
        url: Of the receiver; it is on the egress list.
        key: A bearer token, or "".
        name: The ticket's.
        value: What it holds.
        trusted: Whom its certificate must be signed by; None for the authorities of the machine.
    """
    headers = {"Content-Type": "application/json", "Idempotency-Key": name}
    headers |= {"Authorization": f"Bearer {key}"} if key else {}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    jar = aiohttp.DummyCookieJar()
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=jar, trust_env=False) as session,
            session.post(
                url, data=msgspec.json.encode(value), headers=headers, allow_redirects=False, ssl=trusted or True
            ) as response,
        ):
            asked = response.headers.get("Retry-After", "")
            return judge_status(response.status, float(asked) if asked.isdigit() and len(asked) < 7 else None)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return Verdict(sent=False, words=f"no answer of the receiver: {unconnected(error).detail}", destination=True)
