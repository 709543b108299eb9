"""The messages of a chat-completions request, from turns in the order they were said. Knows no other protocol."""

from typing import Any

from prompts.message import Message

Part = dict[str, Any]  # a content part of chat completions


def text_part(text: str) -> Part:
    return {"type": "text", "text": text}


def image_part(url: str, detail: str | None = None) -> Part:
    return {"type": "image_url", "image_url": {"url": url} if detail is None else {"url": url, "detail": detail}}


def content_of(parts: list[Part]) -> str | list[Part]:
    """A plain string where one text is all there is: every engine's chat template takes that."""
    if not parts:
        return ""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


class Conversation:
    """Collects turns. Calls join the assistant's turn that they belong to. What a tool returned beside text follows as
    the user's, since chat completions take only text from a tool. Reasoning is kept only with calls: models need it to
    go on after a tool's result, and templates drop it elsewhere.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._thought = ""
        self._waiting: set[str] = set()  # calls without a result
        self._returned: list[Part] = []  # parts of results that are not text

    def say(self, role: str, parts: list[Part]) -> None:
        if role == "user":
            parts, self._returned = self._returned + parts, []
        self._settle()
        if role != "assistant":
            self._thought = ""
        self.messages.append({"role": role, "content": content_of(parts)})

    def think(self, text: str) -> None:
        self._thought = f"{self._thought}\n\n{text}" if self._thought else text

    def call(self, id: str, name: str, arguments: str) -> None:
        self._settle()
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self.messages.append({"role": "assistant", "content": None})
        turn = self.messages[-1]
        if self._thought:
            before = turn.get("reasoning_content")
            turn["reasoning_content"] = f"{before}\n\n{self._thought}" if before else self._thought
            self._thought = ""
        call = {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
        turn.setdefault("tool_calls", []).append(call)
        self._waiting.add(id)

    def awaits(self, id: str) -> bool:
        """Is there a call of this id that has no result yet?"""
        return id in self._waiting

    def give(self, id: str, parts: list[Part]) -> None:
        """The result of the call *id*."""
        self._waiting.discard(id)
        self._thought = ""
        texts = [part for part in parts if part["type"] == "text"]
        self.messages.append({"role": "tool", "tool_call_id": id, "content": content_of(texts)})
        if len(texts) < len(parts):
            self._returned += [text_part(f"From the result of {id}:"), *(p for p in parts if p["type"] != "text")]

    def end(self) -> list[Message]:
        self._settle()
        return self.messages

    def _settle(self) -> None:
        if self._returned:
            self.messages.append({"role": "user", "content": self._returned})
            self._returned = []
