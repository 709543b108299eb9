"""The settings of the prompt library."""

from pathlib import Path

from pydantic import Field

from gateway.section import Section


class PromptsSection(Section):
    """Prompts are in the database; a folder of files is a second door to them."""

    folder: Path | None = Field(
        default=None,
        description="a folder of prompts that is read at the start and with each reload; what is new in it is saved",
    )
