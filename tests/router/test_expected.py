"""What a request is expected to cost: fresh tokens, cached ones, an answer, and waiting; unknown stays unknown."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from models.catalog import Price
from router.expected import Expected
from tests.router.world import SMALL, model

WARM = SMALL.model_copy(
    update={"price": Price(input_usd=Decimal(10), output_usd=Decimal(20), cached_input_usd=Decimal(1))}
)
HOURLY = SMALL.model_copy(update={"price": Price(hour_usd=Decimal("0.36"))})  # 100 tokens a second, 0.0001 USD each


def test_each_part_has_its_price() -> None:
    expected = Expected(1000, 100, cached_tokens=600, wait_seconds=3.0, wait_usd=Decimal("0.5"))
    assert expected.cost_usd(WARM) == Decimal("0.5066")  # 400 at 10, 600 at 1, 100 at 20 for a million
    assert expected.cost_usd(SMALL) == Decimal("0.5011")  # has no price of its own for cached tokens
    assert expected.cost_usd(HOURLY) == Decimal("0.5005")  # works for 5 seconds, and pays for no waiting
    assert expected.cached_share == 0.6


def test_what_has_no_price_has_no_cost_however_long_it_would_wait() -> None:
    expected = Expected(1000, 100, wait_usd=Decimal(1))
    assert expected.cost_usd(model("x", 0, usd=None)) is None
    slow = HOURLY.model_copy(update={"speed": None})
    assert expected.cost_usd(slow) is None


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.floats(0, 1), st.decimals(0, 1, places=6))
def test_a_warm_cache_never_costs_more_and_a_wait_never_less(
    prompt: int, completion: int, share: float, wait_usd: Decimal
) -> None:
    cold = Expected(prompt, completion)
    warm = cold._replace(cached_tokens=int(share * prompt))
    for of in (WARM, SMALL, HOURLY):
        cold_usd, warm_usd = cold.cost_usd(of), warm.cost_usd(of)
        assert cold_usd is not None
        assert warm_usd is not None
        assert warm_usd <= cold_usd
        assert warm._replace(wait_usd=wait_usd).cost_usd(of) == warm_usd + wait_usd
