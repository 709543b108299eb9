"""How much of a context a decode step may read, from the environment. Knows tokens and pages; neither torch nor vLLM.

The environment, because vLLM starts its workers as processes of their own and hands them nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

PREFIX = "POINTSMAN_SPARSE_"
PAGE_TOKENS = (16, 32, 64, 128)  # the kernel reads 16 tokens at a time


class SparseRefused(Exception):
    """What sparse attention cannot do, or a setting that makes no sense; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class Pages:
    """A budget in pages of one size: *keep* are read, of which the first *sink* and the last *recent* always."""

    keep: int
    sink: int
    recent: int


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens a decode step reads for each KV head; every field is the setting POINTSMAN_SPARSE_<FIELD>."""

    budget_tokens: int
    sink_tokens: int = 32  # the first tokens draw attention whatever they say (Xiao et al. 2023, StreamingLLM)
    recent_tokens: int = 128
    page_tokens: int = 32
    dense_layers: int = 2  # the first layers attend everywhere: nothing can be left out (Tang et al. 2024, Quest, 4.1)
    dense_below_tokens: int = 0  # contexts shorter than this stay dense; 0: four budgets, where a gain is measurable

    @property
    def threshold_tokens(self) -> int:
        """A context of fewer tokens is attended to in full. Never below the budget: there is nothing to leave out."""
        return max(self.budget_tokens + 1, self.dense_below_tokens or 4 * self.budget_tokens)

    def pages(self) -> Pages:
        """Raises SparseRefused when the budget does not hold what is always kept and one page to choose."""
        page = self.page_tokens
        pages = Pages(
            keep=self.budget_tokens // page,
            sink=-(-self.sink_tokens // page),
            recent=-(-(self.recent_tokens - 1) // page) + 1,  # however the last tokens lie on the pages
        )
        if pages.keep < (least := pages.sink + pages.recent + 1):
            raise SparseRefused(
                f"{PREFIX}BUDGET_TOKENS is {self.budget_tokens}: the sink ({self.sink_tokens}), the recent tokens "
                f"({self.recent_tokens}) and one page to choose ({page}) take {least * page}; ask for that much or more"
            )
        return pages


def budget_from(environment: Mapping[str, str]) -> Budget | None:
    """The budget that *environment* asks for; None when it asks for none. Raises SparseRefused."""
    if not environment.get(f"{PREFIX}BUDGET_TOKENS"):
        return None
    values: dict[str, int] = {}
    for field in fields(Budget):
        name = PREFIX + field.name.upper()
        if text := environment.get(name):
            if not text.isascii() or not text.isdigit():
                raise SparseRefused(f"{name} is {text!r}: it takes a whole number of {field.name.split('_')[-1]}")
            values[field.name] = int(text)
    budget = Budget(**values)
    if budget.page_tokens not in PAGE_TOKENS:
        raise SparseRefused(
            f"{PREFIX}PAGE_TOKENS is {budget.page_tokens}: it may be {', '.join(map(str, PAGE_TOKENS))}"
        )
    if budget.recent_tokens < 1:
        raise SparseRefused(f"{PREFIX}RECENT_TOKENS is 0: the newest page is always read, so it takes 1 or more")
    budget.pages()
    return budget
