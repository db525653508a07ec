"""`/v1/messages`: Anthropic's Messages API in front of the same ladder as a chat."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from litestar import Request, post
from litestar.types import ASGIApp

from appliance.answer.answering import Answering
from appliance.gateway.call import CHAT, Served
from appliance.gateway.outcome import Failed
from appliance.routes import messages_in, messages_out, present
from appliance.routes.bodies import asked_by, read
from appliance.routes.chat import Completion
from appliance.routes.errors import ApiError
from appliance.routes.guards import Handler


@Handler("/messages", http_method="POST", status_code=200)
async def messages(request: Request[Any, Any, Any]) -> ASGIApp:
    answering: Answering = request.app.state.answering
    checked, raw = await read(request, messages_in.MessagesRequest, answering.settings.body_wait_s)
    return await Message(request, messages_in.asked(checked, raw)).reply()


@post("/messages/count_tokens")
async def count_tokens() -> ASGIApp:
    message = "a box counts no tokens ahead: the rungs of its ladder differ in theirs; an answer says what it used"
    raise ApiError(501, "not_implemented", message)


class Message(Completion):
    """A chat completion on its way to a client of Anthropic's API."""

    def __init__(self, request: Request[Any, Any, Any], asked: messages_in.Asked) -> None:
        answering: Answering = request.app.state.answering
        super().__init__(request, answering.call(asked.body, CHAT, **asked_by(request)))
        self._asked = asked

    @property
    def endpoint(self) -> str:
        return "/v1/messages"

    def headers(self, served: Served) -> dict[str, str]:
        """Returns what served, and what was left out on the way in too."""
        return present.headers(served, self._asked.ignored)

    def whole(self, served: Served) -> dict[str, Any]:
        """Returns the message.

        Raises:
            ApiError: What served called a tool in a way that has no form here.
        """
        try:
            return messages_out.whole(present.whole(served), thinking=self._asked.thinking)
        except Failed as failure:
            raise ApiError(502, "upstream_failed", f"{served.answer.served_by}: {failure.detail}") from failure

    def shaped(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        return messages_out.events(events, thinking=self._asked.thinking)
