"""The guardrails of a gateway around one request: its texts before anything is decided, its answer before it is worded.

Looked at are the texts of messages, prompts and inputs, the arguments of earlier tool calls, and `user`. Pictures,
sound, files and the definitions of tools are not.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import anyio.to_thread
import orjson

from gateway.errors import ContentRefused, InvalidRequest
from gateway.guardrails.rail import Guardrail, RailSection, Side
from gateway.guardrails.reply import Guarded
from gateway.guardrails.sieve import Refused, sieved
from gateway.schema import Asked
from models.engine import Operation, Reply

LONG_BYTES = 64 * 1024  # a body from here on is looked at in a thread, so that other requests do not wait
PARAMS = {Operation.CHAT: "messages", Operation.COMPLETION: "prompt", Operation.EMBEDDING: "input"}
Change = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Rails:
    request: Sequence[Guardrail]
    answer: Sequence[Guardrail]

    @classmethod
    def of(cls, sections: Iterable[RailSection]) -> Self | None:
        """None when there are no guardrails: no code of theirs runs then. Raises ValueError with the remedy."""
        rails = [section.rail() for section in sections]
        if not rails:
            return None
        request, answer = ([rail for rail in rails if side in rail.applies_to] for side in (Side.REQUEST, Side.ANSWER))
        return cls(request, answer)

    async def passed(self, asked: Asked) -> Asked:
        """*asked* with what was found masked. Raises ContentRefused, InvalidRequest for token ids."""
        if not self.request:
            return asked
        if asked.prompt is not None:  # each of its models is told what was looked at
            tellings = {variant: await self.passed(telling) for variant, telling in asked.prompt.tellings.items()}
            prompt = replace(asked.prompt, tellings=tellings)
            return replace(asked, body=prompt.dearest.body, body_bytes=prompt.dearest.body_bytes, prompt=prompt)
        if asked.body_bytes < LONG_BYTES:
            return self._passed(asked)
        return await anyio.to_thread.run_sync(self._passed, asked)

    def guarded(self, reply: Reply, asked: Asked) -> Reply:
        if not self.answer or asked.operation is Operation.EMBEDDING:
            return reply
        return Guarded(reply, self.answer, streamed=asked.stream, choices=_choices(asked))

    def _passed(self, asked: Asked) -> Asked:
        param = PARAMS[asked.operation]
        try:
            body = _changed(asked, lambda text: sieved(self.request, text))
        except Refused as problem:
            raise ContentRefused(f"the request may not be answered: {problem}", param=param) from problem
        if body == asked.body:
            return asked
        return replace(asked, body=body, body_bytes=len(orjson.dumps(body)))


def _changed(asked: Asked, change: Change) -> dict[str, Any]:
    body = dict(asked.body)
    if asked.operation is Operation.CHAT:
        body["messages"] = [_message(message, change) for message in asked.messages]
    else:
        param = PARAMS[asked.operation]
        body[param] = _texts(body[param], param, change)
    if isinstance(body.get("user"), str):
        body["user"] = change(body["user"])
    return body


def _message(message: dict[str, Any], change: Change) -> dict[str, Any]:
    made, content = dict(message), message.get("content")
    if isinstance(content, str):
        made["content"] = change(content)
    elif isinstance(content, list):
        made["content"] = [_part(part, change) for part in content]
    if isinstance(calls := message.get("tool_calls"), list):
        made["tool_calls"] = [_call(call, change) for call in calls]
    return made


def _part(part: Any, change: Change) -> Any:
    texts = {key: change(part[key]) for key in ("text", "refusal") if isinstance(part.get(key), str)}
    return {**part, **texts} if texts else part


def _call(call: Any, change: Change) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    return {**call, "function": {**function, "arguments": _in_json(function["arguments"], change)}}


def _in_json(text: str, change: Change) -> str:
    """*text* with its strings changed, so that it is still JSON; as any text when it was none."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return change(text)
    changed = _strings(value, change)
    return text if changed == value else orjson.dumps(changed).decode()


def _strings(value: Any, change: Change) -> Any:
    match value:
        case str():
            return change(value)
        case list():
            return [_strings(item, change) for item in value]
        case dict():
            return {key: _strings(item, change) for key, item in value.items()}
    return value


def _texts(value: Any, param: str, change: Change) -> Any:
    if isinstance(value, str):
        return change(value)
    if not all(isinstance(item, str) for item in value):
        raise InvalidRequest(f"this gateway's guardrails cannot read token ids; send {param} as text", param=param)
    return [change(text) for text in value]


def _choices(asked: Asked) -> int:
    """How many answers the request gets."""
    prompts = asked.body.get("prompt")
    return (asked.body.get("n") or 1) * (len(prompts) if isinstance(prompts, list) and len(prompts) > 0 else 1)
