"""A text through guardrails, whole or as it grows: what was found is masked or ends it. Knows texts only.

A growing text is given out up to where something could still begin that its next characters would make a finding; so
any way to cut it gives the same text, and no beginning of a finding is ever given out.
"""

from collections.abc import Sequence

from gateway.guardrails.rail import Action, Finding, Guardrail


class Refused(Exception):
    """A guardrail refuses the text. `passed` is what may be given out of it, before the finding."""

    def __init__(self, rail: Guardrail, finding: Finding, passed: str) -> None:
        super().__init__(f"the guardrail {rail.name!r} found {finding.label}")
        self.rail = rail
        self.finding = finding
        self.passed = passed


class Sieve:
    """One growing text through *rails*, each of which looks at what the one before it lets pass."""

    def __init__(self, rails: Sequence[Guardrail]) -> None:
        self._steps = [_Step(rail) for rail in rails]

    def feed(self, text: str) -> str:
        """What may be given out now. Raises Refused."""
        return self._through(text, ended=False)

    def end(self) -> str:
        """The rest. Raises Refused. What is fed after it is another text."""
        return self._through("", ended=True)

    def _through(self, text: str, *, ended: bool) -> str:
        refused: Refused | None = None
        for step in self._steps:
            try:
                text = step.take(text, ended=ended or refused is not None)
            except Refused as problem:  # what passed before the finding still has to pass the other rails
                refused, text = problem, problem.passed
        if refused is not None:
            refused.passed = text
            raise refused
        return text


def sieved(rails: Sequence[Guardrail], text: str) -> str:
    """A whole text with what *rails* found masked. Raises Refused."""
    sieve = Sieve(rails)
    return sieve.feed(text) + sieve.end()


class _Step:
    """One rail's view of the text: what is not given out yet, and the character before it."""

    def __init__(self, rail: Guardrail) -> None:
        self._rail = rail
        self._text = ""
        self._at = 0  # 0, or 1 behind the character that findings may look back at

    def take(self, text: str, *, ended: bool) -> str:
        self._text += text
        decided = len(self._text) if ended else self._rail.decided(self._text)
        passed: list[str] = []
        at = self._at
        for finding in self._rail.findings(self._text, at):
            if finding.start >= decided:
                break
            passed.append(self._text[at : finding.start])
            if self._rail.action is Action.REFUSE:
                raise Refused(self._rail, finding, "".join(passed))
            passed.append(finding.mask)
            at = finding.end
        if at < decided:
            passed.append(self._text[at:decided])
            at = decided
        kept_from = len(self._text) if ended else max(0, at - 1)
        self._text, self._at = self._text[kept_from:], 0 if ended else at - kept_from
        return "".join(passed)
