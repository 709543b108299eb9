"""What each of several processes may do of what all together may."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.workers.crew import ALONE, Crew
from models.catalog import Model


def row(parallel: int, queue: int) -> Model:
    return Model(name="m", engine="scripted", tier=0, context_tokens=1, parallel=parallel, queue=queue)


@given(st.integers(1, 300), st.integers(0, 300), st.integers(1, 40))
def test_the_shares_come_to_what_the_row_says_but_for_one_place_each(parallel: int, queue: int, size: int) -> None:
    shares = [Crew(place, size).row(row(parallel, queue)) for place in range(size)]
    assert sum(share.parallel for share in shares) == max(parallel, size)
    assert sum(share.queue for share in shares) == queue
    assert max(s.parallel for s in shares) - min(s.parallel for s in shares) <= 1


def test_a_process_alone_has_the_whole_row() -> None:
    whole = row(2, 32)
    assert ALONE.row(whole) is whole
