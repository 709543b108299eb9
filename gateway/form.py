"""Reads a multipart form with one file, piece by piece as it arrives. Knows the format, not where the file goes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from gateway.errors import InvalidRequest

PARTS_LIMIT = 16  # OpenAI's upload has four
FIELD_LIMIT_BYTES = 4096  # a purpose is a word
FILE_FIELD = "file"


@dataclass(slots=True)
class _Part:
    disposition: bytes = b""
    name: str = ""
    is_file: bool = False
    value: bytearray = field(default_factory=bytearray)


class FormReader:
    """`feed` it the body; when `end` has not complained, `fields` and `filename` are all that was sent."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidRequest("an upload must be multipart/form-data with a boundary", code="invalid_form")
        self._fields: dict[str, str] = {}
        self.filename: str | None = None
        self._part = _Part()
        self._parts = 0
        self._header = b""
        self._value = b""
        self._content = bytearray()
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part,
                    "on_header_field": self._on_header_name,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise InvalidRequest(f"the form cannot be read: {error}", code="invalid_form") from error

    @property
    def fields(self) -> Mapping[str, str]:
        """Those that are not the file."""
        return self._fields

    def feed(self, piece: bytes) -> bytes:
        """The part of the file's content that is in *piece*. Raises InvalidRequest."""
        self._content.clear()
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise InvalidRequest(f"the form cannot be read: {error}", code="invalid_form") from error
        return bytes(self._content)

    def end(self) -> None:
        """Raises InvalidRequest when the form is not whole."""
        if not self._ended:
            raise InvalidRequest("the form ends before its last boundary", code="invalid_form")
        if self.filename is None:
            raise InvalidRequest(f"the form has no {FILE_FIELD!r}", param=FILE_FIELD, code="missing_required_parameter")

    def _on_part(self) -> None:
        self._parts += 1
        if self._parts > PARTS_LIMIT:
            raise InvalidRequest(f"the form has more than {PARTS_LIMIT} parts", code="invalid_form")
        self._part = _Part()

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._part.disposition = self._value
        self._header = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._part.disposition)
        if b"name" not in options:
            raise InvalidRequest("a part of the form has no name", code="invalid_form")
        self._part.name = _text(options[b"name"])
        self._part.is_file = b"filename" in options
        if self._part.is_file:
            if self._part.name != FILE_FIELD or self.filename is not None:
                raise InvalidRequest(f"the form must have one file, as {FILE_FIELD!r}", param=self._part.name[:100])
            self.filename = _text(options[b"filename"])

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._content += data[start:end]
            return
        self._part.value += data[start:end]
        if len(self._part.value) > FIELD_LIMIT_BYTES:
            raise InvalidRequest(
                f"a field of the form is longer than {FIELD_LIMIT_BYTES} bytes", param=self._part.name[:100]
            )

    def _on_part_end(self) -> None:
        if not self._part.is_file:
            self._fields[self._part.name] = _text(bytes(self._part.value))

    def _on_end(self) -> None:
        self._ended = True


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
