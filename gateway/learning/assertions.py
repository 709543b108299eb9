"""A cheap check of what a cheaper model answered on trust: where JSON was asked for, is it JSON? Off the client's path.

Its outcomes may take trust away, and do not give it unless the owner says so: the form may be right and the answer
wrong (`router.sources`). The schema itself is not checked, as no validator of schemas is among our dependencies.
"""

from collections.abc import Sequence
from time import time
from typing import TYPE_CHECKING

from gateway.learning.answered import said, wants_json
from gateway.learning.told import Outcomes
from prompts.compare import is_json
from router.decision import Decision
from router.sources import Source

if TYPE_CHECKING:
    from gateway.held import Held
    from gateway.schema import Asked
    from models.catalog import Model


class Assertions:
    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes

    def wants(self, held: "Held", asked: "Asked", decision: Decision, model: "Model") -> bool:
        """Whether the answer of *model* to *asked* is to be looked at."""
        if decision.template is None or not wants_json(asked.body) or model.name == held.runtime.knowledge.safe.name:
            return False
        return not held.runtime.settings.clamp_to_budget  # an answer that we cut off ourselves says nothing

    def ended(self, asked: "Asked", decision: Decision, model: "Model", blocks: Sequence[bytes]) -> None:
        """The answer is whole, and the client has it. One that is no text alone is left out."""
        answer = said(blocks, streamed=asked.stream)
        key = decision.group or decision.template
        if answer is not None and answer.text is not None and key is not None:
            self._outcomes.tell(Source.ASSERTION, (key, model.build), passed=is_json(answer.text), at=time())
