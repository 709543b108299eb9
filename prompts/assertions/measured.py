"""Assertions about what an answer took. What is not known fails them, and their negations."""

from decimal import Decimal

from prompts.assertions.kind import Assertion, Given, Kind, Threshold, Verdict, no_value, not_evaluated


def _latency(assertion: Assertion, given: Given) -> Verdict:
    assert assertion.threshold is not None
    if given.answer.seconds is None:
        return not_evaluated("how long the answer took is not known")
    took = given.answer.seconds * 1000
    return Verdict(took <= assertion.threshold, f"took {took:.0f} ms of {assertion.threshold:g} ms")


def _cost(assertion: Assertion, given: Given) -> Verdict:
    assert assertion.threshold is not None
    cost = given.answer.cost_usd
    if cost is None:
        return not_evaluated("what the answer cost is not known; give the model a price")
    return Verdict(cost <= Decimal(repr(assertion.threshold)), f"cost ${cost:f} of ${assertion.threshold:g}")


KINDS: dict[str, Kind] = {
    "latency": Kind(no_value, _latency, threshold=Threshold.REQUIRED, unit="milliseconds"),
    "cost": Kind(no_value, _cost, threshold=Threshold.REQUIRED, unit="US dollars"),
}
