"""Server-sent events, split at the byte level. Knows the event-stream format (WHATWG HTML, section 9.2) and no JSON."""

EVENT_LIMIT_BYTES = 16 * 1024 * 1024  # one event; logprobs of a long answer in one piece stay far below
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventTooLong(ValueError):
    """One event grew past EVENT_LIMIT_BYTES without ending."""


class EventSplitter:
    """Bytes in, in pieces of any size, `data` payloads out; comments and other fields are dropped.

    Lines may end in LF, CRLF or CR, a character may be split between pieces, and several `data` lines make one payload
    joined by LF. The work is linear in the bytes, however small the pieces.
    """

    def __init__(self) -> None:
        self._line = bytearray()  # the line that has not ended yet
        self._data: list[bytes] = []
        self._held_bytes = 0
        self._after_cr = False
        self._at_start = True

    def feed(self, piece: bytes) -> list[bytes]:
        """The payloads that *piece* completes. Raises EventTooLong, after which the stream cannot be read on."""
        if not piece:
            return []
        after_cr, self._after_cr = self._after_cr, piece.endswith(b"\r")
        if after_cr:
            piece = piece.removeprefix(b"\n")  # a CRLF split between two pieces is one line end
        *ends, rest = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        payloads = []
        for end in ends:
            self._grow(end)
            payload = self._end_line()
            if payload is not None:
                payloads.append(payload)
        self._grow(rest)
        return payloads

    def _grow(self, part: bytes) -> None:
        self._line += part
        if self._held_bytes + len(self._line) > EVENT_LIMIT_BYTES:
            raise EventTooLong(f"one event is longer than {EVENT_LIMIT_BYTES} bytes")

    def _end_line(self) -> bytes | None:
        """The payload, when the line is the empty one that ends an event with data."""
        line = bytes(self._line)
        self._line.clear()
        if self._at_start:
            line = line.removeprefix(BYTE_ORDER_MARK)
            self._at_start = False
        if not line:
            payload = b"\n".join(self._data) if self._data else None
            self._data, self._held_bytes = [], 0
            return payload
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
            self._held_bytes += len(line) + 1  # an empty line of data takes room too
        return None
