"""All searches, one after the other, from the text that is there: the table of them, and what came out."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from prompts.fitted import marks
from prompts.optimise import examples, reflect
from prompts.optimise.bench import Bench, Stopped, Trial
from prompts.optimise.candidate import draft, told
from prompts.template import Template

SEARCHES: Mapping[str, Callable[[Bench, int], Awaitable[None]]] = {
    "examples": lambda bench, seed: examples.search(bench, bench.template, bench.tier, seed),
    "rewrite": lambda bench, seed: _rewritten(bench, seed),
}


@dataclass(frozen=True, slots=True)
class Found:
    """The text that was there, and the best one, both as tried on the validation cases; and why the search ended.

    None where the search ended before the text that is there was tried. `fitted`: marks of the cases it had to itself.
    """

    start: Trial | None
    best: Trial | None
    ended: str
    trials: tuple[Trial, ...]
    fitted: tuple[str, ...] = ()

    @property
    def is_better(self) -> bool:
        return self.start is not None and self.best is not None and self.best.passed > self.start.passed

    def draft(self, template: Template, tier: str) -> Template | None:
        """The best text as a draft of *template*; None where none was better."""
        if not self.is_better or self.best is None:
            return None
        return draft(template, tier, self.best.candidate, self.fitted)


async def _rewritten(bench: Bench, seed: int) -> None:
    if bench.writer is not None:
        await reflect.search(bench, seed)


async def search(bench: Bench, names: Sequence[str] = tuple(SEARCHES), seed: int = 0) -> Found:
    """Raises what a search does that cannot begin."""
    ended, start = "nothing more to try", None
    try:
        start = await bench.evaluate(told(bench.template, bench.tier), bench.cases.validation, "as it is")
        for name in names:
            await SEARCHES[name](bench, seed)
        ended = bench.stop() or ended
    except Stopped as stopped:
        ended = str(stopped)
    seen = marks((*bench.cases.train, *bench.cases.validation))
    return Found(start, bench.best if start is not None else None, ended, tuple(bench.log), seen)
