"""An answer behind guardrails. Texts are looked at as they grow; calls of tools pass untouched.

What logprobs say is dropped: they spell the text out. An answer that is refused ends as OpenAI's do, with the finish
reason `content_filter`: one that is not streamed without any text, a stream where the finding would have begun.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from gateway.guardrails.rail import Guardrail
from gateway.guardrails.sieve import Refused, Sieve, sieved
from models.engine import Reply, Wrapped
from models.events import events_of, read, written

TEXTS = ("reasoning_content", "reasoning", "content", "refusal", "text")
REFUSED = "content_filter"


class Guarded(Wrapped):
    """*reply* as the client may see it. `choices`: how many answers it holds; when all are over it is stopped."""

    def __init__(self, reply: Reply, rails: Sequence[Guardrail], *, streamed: bool, choices: int) -> None:
        self._rails = rails
        self._expected = choices
        self._choices: dict[int, _Choice] = {}
        self._last: dict[str, Any] = {}  # the last event that said something, as a model for one more
        self._ended = False
        super().__init__(reply, self._events(reply.first) if streamed else self._whole(reply.first))

    async def more(self) -> bytes:
        while not self._ended:
            block = await self._reply.more()
            self._ended = not block
            passed = self._events(block) if block else self._rest()
            if passed:
                return passed
        return b""

    def _whole(self, block: bytes) -> bytes:
        document = orjson.loads(block)
        for choice in document["choices"]:
            said = _said(choice, "message")
            texts = _texts(said)
            try:
                said.update({key: sieved(self._rails, text) for key, text in texts.items()})
            except Refused:
                said.update(dict.fromkeys(texts, ""))
                said.pop("tool_calls", None)
                choice["finish_reason"] = REFUSED
            if choice.get("logprobs"):
                choice["logprobs"] = None
        return orjson.dumps(document)

    def _events(self, block: bytes) -> bytes:
        passed: list[bytes] = []
        for event in events_of(block):
            if self._ended:
                break
            document = read(event)
            choices = document.get("choices")
            if not choices:  # counts, which come last
                passed.append(self._rest() + event)
            elif seen := [choice for choice in choices if self._passes(choice)]:
                self._last = {**document, "choices": seen}
                passed.append(written(self._last))
            self._ended = self._is_refused()
        return b"".join(passed)

    def _passes(self, choice: dict[str, Any]) -> bool:
        """Change *choice* to what the client may see; False when that is nothing."""
        of = self._choices.setdefault(choice.get("index") or 0, _Choice(self._rails))
        if of.refused:
            return False
        of.pass_through(choice)
        said = _said(choice, "delta")
        return bool(choice.get("finish_reason")) or any(said[key] not in (None, "") for key in said.keys() - {"index"})

    def _rest(self) -> bytes:
        """What an engine that named no finish reason has left behind."""
        is_chat = any("delta" in choice for choice in self._last.get("choices", ()))
        rests = []
        for index, of in self._choices.items():
            said = of.rest()
            if said or (of.refused and not of.told):
                of.told = True
                rest = {"delta": said} if is_chat else {"text": "", **said}
                rests.append({"index": index, **rest, "finish_reason": REFUSED if of.refused else None})
        return written({**self._last, "choices": rests}) if rests else b""

    def _is_refused(self) -> bool:
        """All answers are over, one of them before its end: nothing is to come that may be seen."""
        choices = self._choices.values()
        return len(choices) >= self._expected and all(of.over for of in choices) and any(of.refused for of in choices)


class _Choice:
    """One answer of several, as far as it has come. `told`: the client knows that it was refused."""

    def __init__(self, rails: Sequence[Guardrail]) -> None:
        self.over = False
        self.refused = False
        self.told = False
        self._rails = rails
        self._sieves: dict[str, Sieve] = {}  # of the texts that have begun and may go on

    def pass_through(self, choice: dict[str, Any]) -> None:
        """Change *choice*, an event's, to what may be seen of it now."""
        said, finish = _said(choice, "delta"), choice.get("finish_reason")
        said.update(self._seen(_texts(said), closing=bool(finish or said.get("tool_calls"))))
        self.over = bool(finish) or self.refused
        if choice.get("logprobs"):
            choice["logprobs"] = None
        if self.refused:
            self.told = True
            said.pop("tool_calls", None)
            choice["finish_reason"] = REFUSED

    def rest(self) -> dict[str, str]:
        """What is left of the texts."""
        return {} if self.over else {key: text for key, text in self._seen({}, closing=True).items() if text}

    def _seen(self, texts: dict[str, str], *, closing: bool) -> dict[str, str]:
        """What may be seen of *texts*, and of what came before. A text ends where another begins, or a call."""
        seen = dict.fromkeys(texts, "")
        growing = [key for key, text in texts.items() if text]
        for key in dict.fromkeys([*self._sieves, *growing]):
            if not self.refused:
                ends = closing or bool(growing and key not in growing)
                seen[key] = self._through(key, texts.get(key, ""), ends=ends)
        return seen

    def _through(self, key: str, text: str, *, ends: bool) -> str:
        sieve = self._sieves.setdefault(key, Sieve(self._rails))
        passed = ""
        try:
            passed = sieve.feed(text)
            if ends:
                del self._sieves[key]
                passed += sieve.end()
        except Refused as problem:
            self.refused = True
            passed += problem.passed
        return passed


def _said(choice: dict[str, Any], key: str) -> dict[str, Any]:
    """Where the texts of *choice* stand: under *key* in a chat, in itself in a completion."""
    said = choice.get(key)
    return said if isinstance(said, dict) else choice


def _texts(said: dict[str, Any]) -> dict[str, str]:
    return {key: said[key] for key in TEXTS if isinstance(said.get(key), str)}
