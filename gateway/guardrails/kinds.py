"""The table of the kinds of guardrails. A new one is a file with its section, and its name here."""

from typing import Annotated

from pydantic import Field

from gateway.guardrails.blocklist import Blocklist
from gateway.guardrails.pii import Pii

RailSettings = Annotated[Blocklist | Pii, Field(discriminator="kind")]
