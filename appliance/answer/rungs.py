"""Opens one rung for one call: an upstream, the local model, the answer cache, FAQ, documents, the last message.

A rung that does not serve raises `Passed` with the reason; the climber then asks the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from appliance.answer import render
from appliance.answer.cached import AnswerCache, as_answer
from appliance.answer.context import passages, with_context
from appliance.answer.facts import Box, KnowledgeFacts
from appliance.answer.threads import BoundedThreads
from appliance.answer.tickets import Tickets
from appliance.gateway import kinds, relay
from appliance.gateway.abilities import declared
from appliance.gateway.asked import Counted, asked
from appliance.gateway.attempt import Attempted, attempt
from appliance.gateway.call import CHAT, Answer, Call, ChunkStream, Citation, Told
from appliance.gateway.classify import TOO_LONG_CODE, classify, is_too_long
from appliance.gateway.health import Asking
from appliance.gateway.held import Room
from appliance.gateway.options import generation_of
from appliance.gateway.outcome import Failed, Passed, Refused
from appliance.gateway.redact import Redaction, Restored, Rules
from appliance.gateway.replay import Replays
from appliance.gateway.turns import SHARES, shortened
from appliance.gateway.upstream import Client
from appliance.records.journal import NotKept
from bundler.format.service import CONTINUE, DECLINE, DROP, LARGER, ModelSpec, RungSpec

NO_KNOWLEDGE = "the documents and FAQs are not loaded"
NOTHING_TO_ASK = "the request holds no question"


class Rungs:
    """The openers of every kind of rung.

    Args:
        box: What is installed.
        clients: An open client for each upstream and each local model, by name.
        threads: Where blocking work runs.
        new_id: Makes the id of a completion.
        tickets: Keeps what the last rung hands to a person; None where the profile asks for none.
        cache: Keeps answers of providers; None where the profile asks for none.
    """

    def __init__(
        self,
        box: Box,
        clients: Mapping[str, Client],
        threads: BoundedThreads,
        new_id: Callable[[], str],
        tickets: Tickets | None = None,
        cache: AnswerCache | None = None,
    ) -> None:
        self._box, self._clients, self._threads = box, clients, threads
        self._new_id, self._tickets, self._cache = new_id, tickets, cache
        self._replays = {name: Replays(engine) for name, engine in box.engines.items()}
        self._models = {model.name: model for model in box.service.models}
        self._room = Room()
        self._redact = Rules(box.service.redact)
        self._openers = {
            "model": self._model,
            "cache": self._cached,
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
        spec = declared(self._box.service, rung)
        if spec is not None and 0 < spec.context_tokens <= call.spent.outgrown_tokens:
            reason = f"its context of {spec.context_tokens} tokens is no longer than one that was too short"
            raise Passed(reason, incapable=True, code=TOO_LONG_CODE)
        if asking is not None:
            return await self._upstream(rung, call, asking)
        return await self._openers[rung.kind](rung, call)

    async def revive(self, rung: RungSpec, call: Call) -> None:
        """Waits for a local model that loads again after its engine's end, as long as the call may."""
        if rung.target in self._replays:
            await self._replays[rung.target].revive(call)

    async def _upstream(self, rung: RungSpec, call: Call, asking: Asking) -> Answer:
        target, told = self._clients[rung.target].target, Told()
        body = dict(target.sending.body) | relay.prepared(call, target.model, drop=tuple(target.sending.without))
        # In a thread: a long request takes a good part of a second, in which others would wait.
        redaction = await asyncio.to_thread(Redaction, self._redact, body) if self._redact else None
        if redaction is not None:
            body, told.redacted = redaction.body, redaction.count
        try:
            whole, live = await self._fitted(rung, call, body, told, asking)
        except Failed as failure:
            asking.ended(classify(failure))
            raise self._judged(failure, rung, call) from failure
        if live is None:
            asking.whole()
        trickle_s = asking.limits.trickle_s if call.route.stream == CONTINUE else 0.0
        chunks: ChunkStream | None = Counted(live, asking, trickle_s) if live is not None else None
        if redaction is not None:
            whole = redaction.restored_in(whole)
            chunks = Restored(chunks, redaction) if chunks is not None else None
        ignored = (*kinds.ignored(target.kind, body), *sorted(target.sending.without & call.body.keys()))
        return Answer(rung.name, rung.kind, rung.target, whole, chunks, ignored=ignored, told=told)

    async def _model(self, rung: RungSpec, call: Call) -> Answer:
        body = relay.prepared(call, rung.target, drop=call.ignorable)
        without = ""
        try:
            citations, context = await self._context(call, self._models[rung.target])
        except Passed as unread:  # the model answers without them, and says so
            citations, context, without = (), "", unread.reason
        if context:
            try:
                messages = with_context(body["messages"], context)
                # Where the caller has no system message of its own, the first one is the bundle's text alone. Passages
                # that do not fit are left out before anything of the conversation is.
                longest = replace(call.route, too_long=LARGER)
                shared = replace(call, public_messages=int(len(messages) > len(body["messages"])), route=longest)
                return await self._ask(rung, shared, body | {"messages": messages}, citations)
            except Passed as passed:
                if not passed.incapable:
                    raise
                # The passages made the request too long for this model: once more without them.
        return await self._ask(rung, call, body, (), without)

    async def _context(self, call: Call, model: ModelSpec) -> tuple[tuple[Citation, ...], str]:
        knowledge = self._box.knowledge
        if call.continues:  # the answer has begun with what its first rung knew
            return (), ""
        if knowledge is None or call.wire != CHAT or not call.question.strip() or not self._box.service.collections:
            return (), ""
        evidence = await self._threads.asked(lambda: knowledge.evidence(call.question, self._collections(call)))
        if not evidence.answerable:
            return (), ""
        citations = citations_of(evidence)
        around = [(hit.source, hit.text) for hit in evidence.hits]
        return citations, passages(citations, around, model.context_tokens)

    def _collections(self, call: Call) -> tuple[str, ...] | None:
        """Returns whose passages a model may get: those its route or the chat ladder names; all where it names none."""
        names = call.route.rungs or self._box.service.ladder.chat
        rungs = self._box.service.ladder.rungs
        return tuple(rung.target for rung in rungs if rung.kind == "documents" and rung.name in names) or None

    async def _ask(
        self, rung: RungSpec, call: Call, body: dict[str, Any], citations: tuple[Citation, ...], without: str = ""
    ) -> Answer:
        told = Told(without=without)
        try:
            whole, live = await self._fitted(rung, call, body, told)
        except Failed as failure:
            raise self._judged(failure, rung, call) from failure
        return Answer(rung.name, rung.kind, rung.target, whole, live, citations, None, call.ignorable, told)

    async def _fitted(
        self, rung: RungSpec, call: Call, body: dict[str, Any], told: Told, asking: Asking | None = None
    ) -> Attempted:
        """Asks, and where the route says so once more with fewer of the oldest turns each time it is too long."""
        try:
            return await self._again(rung, call, body, told, asking)
        except Failed as failure:
            if not (is_too_long(failure) and call.route.too_long == DROP and call.wire == CHAT):
                raise
            last = failure
        for share in SHARES:
            messages, dropped = shortened(body["messages"], share)
            if dropped == told.dropped_turns:
                continue
            told.dropped_turns = dropped
            try:
                return await self._again(rung, call, body | {"messages": messages}, told, asking)
            except Failed as failure:
                if not is_too_long(failure):
                    raise
                last = failure
        raise last

    async def _again(
        self, rung: RungSpec, call: Call, body: dict[str, Any], told: Told, asking: Asking | None
    ) -> Attempted:
        """Asks, and once more where that helps: a provider after a pause, an engine once it is back."""
        client = self._clients[rung.target]

        async def once() -> Attempted:
            return await attempt(client, call, body, told, self._room, asking)

        return await (asked(asking, call, once) if asking is not None else self._replays[rung.target].ask(call, once))

    def _judged(self, failure: Failed, rung: RungSpec, call: Call) -> Passed | Refused:
        if is_too_long(failure):
            if call.route.too_long == DECLINE:
                return Refused(400, failure.code, failure.message or "the request is too long for this route")
            spec = declared(self._box.service, rung)
            call.spent.outgrown_tokens = max(call.spent.outgrown_tokens, spec.context_tokens if spec else 0)
        verdict = classify(failure)
        if verdict.propagate:
            return Refused(failure.status or 400, failure.code, failure.message or f"{rung.name}: {verdict.reason}")
        own_words = rung.kind == "model" and verdict.incapable and failure.message
        reason = failure.message if own_words else verdict.reason
        code = failure.code if verdict.incapable else ""
        return Passed(reason, incapable=verdict.incapable, code=code, busy=verdict.busy)

    async def _cached(self, rung: RungSpec, call: Call) -> Answer:
        if self._cache is None:
            raise Passed("this box keeps no answers")
        return as_answer(await self._cache.asked(call), rung.name, call, self._new_id())

    async def _faq(self, rung: RungSpec, call: Call) -> Answer:
        knowledge = self._asked(call)
        result = await self._threads.asked(lambda: knowledge.faq(call.question, rung.target))
        if result.match is None:
            raise Passed("no FAQ entry answers this question")
        citation = Citation(f"faq:{result.match.id}", 0, len(result.match.answer), result.match.answer)
        return self._fixed(rung, call, result.match.answer, (citation,), float(result.confidence))

    async def _documents(self, rung: RungSpec, call: Call) -> Answer:
        knowledge = self._asked(call)
        evidence = await self._threads.asked(lambda: knowledge.evidence(call.question, (rung.target,)))
        if not evidence.answerable:
            raise Passed("the documents do not answer this question")
        citations = citations_of(evidence)
        quotes = dict.fromkeys(citation.quote for citation in citations)
        return self._fixed(rung, call, "\n\n".join(quotes), citations, float(evidence.confidence))

    async def _message(self, rung: RungSpec, call: Call) -> Answer:
        ladder = self._box.service.ladder
        name, words = await self._kept(call)
        text = "\n\n".join(filter(None, (ladder.message, words, ladder.handoff)))
        answer = self._fixed(rung, call, text, (), None)
        answer.told.ticket = name
        return answer

    async def _kept(self, call: Call) -> tuple[str, str]:
        if self._tickets is None:
            return "", ""
        try:
            return await self._tickets.take(call)
        except NotKept as error:  # nobody may be told that a person will answer
            way_out = self._box.service.ladder.handoff
            raise Passed("; ".join(filter(None, (f"its ticket is not kept: {error.fact}", way_out)))) from error

    def _asked(self, call: Call) -> KnowledgeFacts:
        knowledge = self._box.knowledge
        if knowledge is None:
            raise Passed(NO_KNOWLEDGE)
        if not call.question.strip():
            raise Passed(NOTHING_TO_ASK)
        return knowledge

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
