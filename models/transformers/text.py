"""Tokens to text as they come: no half characters, and nothing that may turn out to be the end that was asked for."""

from collections.abc import Callable, Sequence

BROKEN = "\ufffd"  # what decoders write for bytes that are no character yet
LONGEST_CHARACTER_TOKENS = 4  # a character has four bytes at most, and a token one at least

Decode = Callable[[Sequence[int]], str]


class Detokenizer:
    """Decodes a window of the newest tokens, since what a token is written as depends on the one before it."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._told = ""  # of the window

    def feed(self, token: int) -> str:
        """What *token* adds; empty while a character is not whole."""
        self._window.append(token)
        text = self._decode(self._window)
        if text.endswith(BROKEN) and len(self._window) <= LONGEST_CHARACTER_TOKENS + 1:
            return ""
        added = text[len(self._told) :]
        self._window, self._told = self._window[-1:], self._decode(self._window[-1:])
        return added


class Stops:
    """Text up to the first of *stops*, which is not told."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """What can be told now; all that comes behind an end that was found is dropped."""
        if not self._stops or self.found:
            return "" if self.found else text
        self._held += text
        ends = [place for place in (self._held.find(stop) for stop in self._stops) if place >= 0]
        if ends:
            self.found = True
            told, self._held = self._held[: min(ends)], ""
            return told
        keep = max(_begun(self._held, stop) for stop in self._stops)
        told, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return told

    def rest(self) -> str:
        """What was held back, when the answer has come to another end."""
        held, self._held = self._held, ""
        return held


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of *text* may be the beginning of *stop*."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
