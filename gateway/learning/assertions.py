"""A cheap check of what a cheaper model answered on trust, off the client's path: has it the form that was asked for?
JSON, the request's schema, the arguments that a function strictly takes (`prompts.form`).

Its outcomes may take trust away, and do not give it unless the owner says so: the form may be right and the answer
wrong (`router.sources`).
"""

from collections.abc import Sequence
from time import time
from typing import TYPE_CHECKING

from gateway.learning.answered import Said, said
from gateway.learning.told import Outcomes, Tried
from prompts.form import form_of, forms_of_calls, wants_form
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
        if decision.template is None or not wants_form(asked.body) or model.name == held.runtime.knowledge.safe.name:
            return False
        return not held.runtime.settings.clamp_to_budget  # an answer that we cut off ourselves says nothing

    def ended(
        self,
        asked: "Asked",
        decision: Decision,
        model: "Model",
        blocks: Sequence[bytes],
        tried: Tried | None = None,
    ) -> None:
        """The answer is whole, and the client has it."""
        answer = said(blocks, streamed=asked.stream)
        passed = _keeps_form(answer, asked) if answer is not None else None
        key = decision.group or decision.template
        if passed is not None and key is not None:
            self._outcomes.tell(Source.ASSERTION, (key, model.build), passed=passed, at=time(), tried=tried)


def _keeps_form(answer: Said, asked: "Asked") -> bool | None:
    """None for an answer of which no form was asked: a text beside tools, a refusal in a field of its own."""
    if answer.calls:
        forms = forms_of_calls(asked.body)
        kept = [name in forms and forms[name].keeps(arguments) for name, arguments in answer.calls]
        return all(kept) if forms else None
    form = form_of(asked.body)
    return form.keeps(answer.text) if form is not None and answer.text is not None else None
