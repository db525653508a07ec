"""Opens one rung for one call: an upstream, the local model, FAQ, documents, the last message.

A rung that does not serve raises `Passed` with the reason; the climber then asks the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from appliance.answer import render
from appliance.answer.context import passages, with_context
from appliance.answer.facts import Box, KnowledgeFacts
from appliance.answer.threads import BoundedThreads
from appliance.gateway import relay
from appliance.gateway.asked import Counted, asked
from appliance.gateway.call import CHAT, Answer, Call, ChunkStream, Citation
from appliance.gateway.classify import classify
from appliance.gateway.health import Asking
from appliance.gateway.options import generation_of
from appliance.gateway.outcome import Failed, Passed, Refused
from appliance.gateway.replay import Replays
from appliance.gateway.upstream import Client
from bundler.format.errors import Busy
from bundler.format.service import ModelSpec, RungSpec

NO_KNOWLEDGE = "the documents and FAQs are not loaded"
NOTHING_TO_ASK = "the request holds no question"


class Rungs:
    """The openers of every kind of rung.

    Args:
        box: What is installed.
        clients: An open client for each upstream and each local model, by name.
        threads: Where blocking work runs.
        new_id: Makes the id of a completion.
    """

    def __init__(
        self,
        box: Box,
        clients: Mapping[str, Client],
        threads: BoundedThreads,
        new_id: Callable[[], str],
    ) -> None:
        self._box, self._clients, self._threads = box, clients, threads
        self._new_id = new_id
        self._replays = {name: Replays(engine) for name, engine in box.engines.items()}
        self._models = {model.name: model for model in box.service.models}
        self._openers = {
            "model": self._model,
            "faq": self._faq,
            "documents": self._documents,
            "message": self._message,
        }

    async def open(self, rung: RungSpec, call: Call, asking: Asking | None = None) -> Answer:
        """Returns the rung's answer.

        Args:
            rung: Which.
            call: The request.
            asking: The leave to ask an upstream; the others need none.

        Raises:
            Passed: The rung does not serve this request.
            Refused: An upstream refused the request itself.
        """
        if asking is not None:
            return await self._upstream(rung, call, asking)
        return await self._openers[rung.kind](rung, call)

    async def revive(self, rung: RungSpec, call: Call) -> None:
        """Waits for a local model that loads again after its engine's end, as long as the call may."""
        if rung.target in self._replays:
            await self._replays[rung.target].revive(call)

    async def _upstream(self, rung: RungSpec, call: Call, asking: Asking) -> Answer:
        client = self._clients[rung.target]
        body = relay.prepared(call, client.target.model)
        limits = asking.limits
        try:
            if call.stream:
                live = await asked(asking, call, lambda: relay.stream(client, call, body, limits))
                asking.began()
                return Answer(rung.name, rung.kind, rung.target, chunks=Counted(live, asking))
            whole = await asked(asking, call, lambda: relay.whole(client, call, body, limits))
        except Failed as failure:
            raise judged(failure, rung) from failure
        asking.whole()
        return Answer(rung.name, rung.kind, rung.target, whole)

    async def _model(self, rung: RungSpec, call: Call) -> Answer:
        body = relay.prepared(call, rung.target, drop=call.ignorable)
        citations, context = await self._context(call, self._models[rung.target])
        if context:
            try:
                messages = with_context(body["messages"], context)
                # Where the caller has no system message of its own, the first one is the bundle's text alone.
                shared = replace(call, public_messages=int(len(messages) > len(body["messages"])))
                return await self._ask(rung, shared, body | {"messages": messages}, citations)
            except Passed as passed:
                if not passed.incapable:
                    raise
                # The passages made the request too long for this model: once more without them.
        return await self._ask(rung, call, body, ())

    async def _context(self, call: Call, model: ModelSpec) -> tuple[tuple[Citation, ...], str]:
        knowledge = self._box.knowledge
        if knowledge is None or call.wire != CHAT or not call.question.strip() or not self._box.service.collections:
            return (), ""
        try:
            evidence = await self._threads.run(lambda: knowledge.evidence(call.question))
        except Busy:
            return (), ""
        if not evidence.answerable:
            return (), ""
        citations = citations_of(evidence)
        around = [(hit.source, hit.text) for hit in evidence.hits]
        return citations, passages(citations, around, model.context_tokens)

    async def _ask(self, rung: RungSpec, call: Call, body: dict[str, Any], citations: tuple[Citation, ...]) -> Answer:
        client = self._clients[rung.target]

        async def attempt() -> tuple[dict[str, Any] | None, ChunkStream | None]:
            if call.stream:
                return None, await relay.stream(client, call, body)
            return await relay.whole(client, call, body), None

        try:
            whole, live = await self._replays[rung.target].ask(call, attempt)
        except Failed as failure:
            raise judged(failure, rung) from failure
        return Answer(rung.name, rung.kind, rung.target, whole, live, citations, None, call.ignorable)

    async def _faq(self, rung: RungSpec, call: Call) -> Answer:
        knowledge = self._asked(call)
        result = await self._run(lambda: knowledge.faq(call.question))
        if result.match is None:
            raise Passed("no FAQ entry answers this question")
        citation = Citation(f"faq:{result.match.id}", 0, len(result.match.answer), result.match.answer)
        return self._fixed(rung, call, result.match.answer, (citation,), float(result.confidence))

    async def _documents(self, rung: RungSpec, call: Call) -> Answer:
        knowledge = self._asked(call)
        evidence = await self._run(lambda: knowledge.evidence(call.question))
        if not evidence.answerable:
            raise Passed("the documents do not answer this question")
        citations = citations_of(evidence)
        quotes = dict.fromkeys(citation.quote for citation in citations)
        return self._fixed(rung, call, "\n\n".join(quotes), citations, float(evidence.confidence))

    async def _message(self, rung: RungSpec, call: Call) -> Answer:
        ladder = self._box.service.ladder
        return self._fixed(rung, call, "\n\n".join(filter(None, (ladder.message, ladder.handoff))), (), None)

    def _asked(self, call: Call) -> KnowledgeFacts:
        knowledge = self._box.knowledge
        if knowledge is None:
            raise Passed(NO_KNOWLEDGE)
        if not call.question.strip():
            raise Passed(NOTHING_TO_ASK)
        return knowledge

    async def _run(self, work: Callable[[], Any]) -> Any:
        try:
            return await self._threads.run(work)
        except Busy as busy:
            raise Passed(busy.fact, busy=True) from busy

    def _fixed(
        self, rung: RungSpec, call: Call, text: str, citations: tuple[Citation, ...], confidence: float | None
    ) -> Answer:
        rendered = render.Text(text, rung.name, call.wire, self._new_id(), int(time.time()))
        whole = None if call.stream else render.body(rendered)
        live = render.FixedStream(render.chunks(rendered, usage=call.wants_usage)) if call.stream else None
        ignored = tuple(sorted({*call.ignorable, *generation_of(call.body)}))
        served_by = rung.target or rung.name
        return Answer(rung.name, rung.kind, served_by, whole, live, citations, confidence, ignored)


def citations_of(evidence: Any) -> tuple[Citation, ...]:
    """Returns the citations of `bundler.knowledge` evidence as the gateway's own."""
    return tuple(Citation(cited.source, cited.start, cited.end, cited.quote) for cited in evidence.citations)


def judged(failure: Failed, rung: RungSpec) -> Passed | Refused:
    """Returns what a failed attempt means for the request."""
    verdict = classify(failure)
    if verdict.propagate:
        return Refused(failure.status or 400, failure.code, failure.message or f"{rung.name}: {verdict.reason}")
    own_words = rung.kind == "model" and verdict.incapable and failure.message
    reason = failure.message if own_words else verdict.reason
    code = failure.code if verdict.incapable else ""
    return Passed(reason, incapable=verdict.incapable, code=code, busy=verdict.busy)
