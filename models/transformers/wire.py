"""OpenAI's chat completions and completions, as far as one model and one answer at a time go: bodies in, documents out.

Knows neither torch nor sockets. What is asked for and cannot be done is refused, not left out.
"""

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import time
from typing import Any

MOST_LOGPROBS = 20
MOST_STOPS = 4  # as OpenAI has it
SEED_LIMIT = 2**63

# Fields that would change the answer, and the values that change nothing.
CANNOT: Mapping[str, tuple[Any, ...]] = {
    "tools": (None, []),
    "functions": (None, []),
    "n": (None, 1),
    "best_of": (None, 1),
    "response_format": (None, {"type": "text"}),
    "logit_bias": (None, {}),
    "echo": (None, False),
    "suffix": (None, ""),
    "audio": (None,),
}


class Refused(Exception):
    """The request is wrong, or asks for what this server does not do; *param* is the field."""

    def __init__(self, param: str, message: str, *, code: str | None = None) -> None:
        super().__init__(f"{param}: {message}")
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True)
class Asked:
    """`prompt` is a text, or the messages of a conversation. `logprobs`: how many others to tell beside the token that
    was taken; None: none at all. `max_tokens` None: what the context has room for.
    """

    prompt: str | Sequence[Mapping[str, Any]]
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    stream: bool = False
    include_usage: bool = False
    usage_always: bool = False

    @property
    def chats(self) -> bool:
        return not isinstance(self.prompt, str)


@dataclass(frozen=True, slots=True)
class Piece:
    """A token with what it adds to the text (nothing, while a character is not whole). `others` are likely ones, by
    text, the likeliest first.
    """

    text: str
    token: str
    logprob: float
    others: Sequence[tuple[str, float]] = ()


@dataclass(slots=True)
class Count:
    prompt_tokens: int
    completion_tokens: int = 0

    def document(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


def asked_of(body: Any, *, chats: bool) -> Asked:
    """Raises Refused."""
    if not isinstance(body, dict):
        raise Refused("body", "must be a JSON object")
    for name, harmless in CANNOT.items():
        if body.get(name) not in harmless:
            raise Refused(name, "is not possible with the engine transformers; use another model")
    options = body.get("stream_options") or {}
    if not isinstance(options, dict):
        raise Refused("stream_options", "must be an object")
    limit = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    return Asked(
        prompt=_messages(body) if chats else _prompt(body),
        max_tokens=_whole(body, limit, 1, None),
        temperature=_number(body, "temperature", 1.0, 0.0, 2.0),
        top_p=_number(body, "top_p", 1.0, 0.0, 1.0),
        frequency_penalty=_number(body, "frequency_penalty", 0.0, -2.0, 2.0),
        presence_penalty=_number(body, "presence_penalty", 0.0, -2.0, 2.0),
        seed=_whole(body, "seed", -SEED_LIMIT, SEED_LIMIT - 1),
        stop=_stops(body.get("stop")),
        logprobs=_logprobs(body, chats=chats),
        stream=bool(body.get("stream")),
        include_usage=bool(options.get("include_usage")),
        usage_always=bool(options.get("continuous_usage_stats")),
    )


def _messages(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused("messages", "must be a list of at least one message")
    return [_message(message, f"messages[{place}]") for place, message in enumerate(messages)]


def _message(message: Any, param: str) -> Mapping[str, Any]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise Refused(param, "must have a role and a content")
    content = message.get("content")
    if isinstance(content, list):
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise Refused(param, "only text can be read")
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str | None):
        raise Refused(param, "content must be text")
    role = "system" if message["role"] == "developer" else message["role"]
    return {**message, "role": role, "content": content or ""}


def _prompt(body: Mapping[str, Any]) -> str:
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        [prompt] = prompt
    if not isinstance(prompt, str) or not prompt:
        raise Refused("prompt", "must be one text")
    return prompt


def _number(body: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or math.isnan(value):
        raise Refused(name, f"must be a number between {low:g} and {high:g}")
    return float(value)


def _whole(body: Mapping[str, Any], name: str, low: int, high: int | None) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or value < low or (high is not None and value > high):
        raise Refused(name, f"must be a whole number, at least {low}" + ("" if high is None else f", at most {high}"))
    return value


def _stops(stop: Any) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise Refused("stop", f"must be a text or a list of at most {MOST_STOPS}, none of them empty")
    return tuple(stops)


def _logprobs(body: Mapping[str, Any], *, chats: bool) -> int | None:
    """The two protocols ask in two ways: `logprobs: true, top_logprobs: 3`, and `logprobs: 3`."""
    if not chats:
        return _whole(body, "logprobs", 0, MOST_LOGPROBS)
    count = _whole(body, "top_logprobs", 0, MOST_LOGPROBS)
    if not body.get("logprobs"):
        if count:
            raise Refused("top_logprobs", "needs logprobs to be true")
        return None
    return count or 0


@dataclass(slots=True)
class Answer:
    """Writes the documents of one answer."""

    asked: Asked
    model: str
    count: Count
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time()))
    _begun: bool = False
    _characters: int = 0

    def chunk(self, text: str, pieces: Sequence[Piece]) -> dict[str, Any]:
        """*text* of the answer, and the tokens that it came with, which may be more or fewer."""
        choice = {"index": 0, "finish_reason": None, "logprobs": self._logprobs(pieces), **self._said(text)}
        self._begun = True
        return self._document([choice], running=True)

    def last(self, reason: str) -> dict[str, Any]:
        said: dict[str, Any] = {"delta": {}} if self.asked.chats else {"text": ""}
        return self._document([{"index": 0, "finish_reason": reason, "logprobs": None, **said}], running=True)

    def usage(self) -> dict[str, Any]:
        return {**self._document([], running=True), "usage": self.count.document()}

    def whole(self, text: str, pieces: Sequence[Piece], reason: str) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": self._logprobs(pieces)}
        if self.asked.chats:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        return {**self._document([choice], running=False), "usage": self.count.document()}

    def _said(self, text: str) -> dict[str, Any]:
        if not self.asked.chats:
            return {"text": text}
        return {"delta": {"content": text} if self._begun else {"role": "assistant", "content": text}}

    def _document(self, choices: list[dict[str, Any]], *, running: bool) -> dict[str, Any]:
        kind = ("chat.completion" + ".chunk" * running) if self.asked.chats else "text_completion"
        id = f"{'chatcmpl' if self.asked.chats else 'cmpl'}-{self.id}"
        document = {"id": id, "object": kind, "created": self.created, "model": self.model, "choices": choices}
        if running and self.asked.usage_always:
            document["usage"] = self.count.document()
        return document

    def _logprobs(self, pieces: Sequence[Piece]) -> dict[str, Any] | None:
        if self.asked.logprobs is None:
            return None
        return self._of_chat(pieces) if self.asked.chats else self._of_completion(pieces)

    def _of_chat(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        content = [
            {
                **_token(piece.token, piece.logprob),
                "top_logprobs": [_token(token, logprob) for token, logprob in piece.others],
            }
            for piece in pieces
        ]
        return {"content": content, "refusal": None}

    def _of_completion(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        offsets = []
        for piece in pieces:
            offsets.append(self._characters)
            self._characters += len(piece.token)
        return {
            "tokens": [piece.token for piece in pieces],
            "token_logprobs": [piece.logprob for piece in pieces],
            "top_logprobs": [dict(piece.others) for piece in pieces],
            "text_offset": offsets,
        }


def _token(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode(errors="replace"))}


def error_of(error: Refused) -> dict[str, Any]:
    said = {"message": str(error), "type": "invalid_request_error", "param": error.param, "code": error.code}
    return {"error": said}
