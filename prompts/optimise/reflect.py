"""Instructions rewritten by a model that reads what went wrong: GEPA (Agrawal et al., 2025), by the library `gepa`.

The library runs its own loop, in a thread, with our trials behind it; it says nothing on the terminal. Needs the extra
`optimise`.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prompts.answer import Answer
from prompts.examination import Examined
from prompts.message import text_of
from prompts.optimise.bench import Stopped, Trial, Trials
from prompts.optimise.candidate import Candidate, components, rewritten
from prompts.suite import Case

if TYPE_CHECKING:
    from gepa.core.adapter import EvaluationBatch

FEW = 4  # train cases that a rewriting is made from
SHOWN_CHARACTERS = 600  # of an input or an answer, to the model that writes
REQUEST = """A language model is given these instructions:
```
<curr_param>
```

This is what it did with them, and what was wrong:
```
<side_info>
```

Write better instructions. Say in plain words what to do, how to tell the possible answers apart, and what exactly to
answer with. Be short. Do not quote the inputs above. Where the instructions have a name in double braces, like
{{ name }}, keep it as it is, and add no other. Answer with the new instructions
between ``` and ```, and nothing else."""


class NoGepa(ImportError):
    """The extra is not installed; the message says how to."""


async def search(trials: Trials, seed: int) -> None:
    """Leaves the best in *trials*. Raises Stopped, NoGepa."""
    try:
        from gepa.api import optimize
    except ImportError as error:
        raise NoGepa(f"{error}; install the extra: pip install 'pointsman[optimise]'") from error
    adapter = Adapter(trials, trials.best.candidate, asyncio.get_running_loop())
    cases = trials.cases

    def run() -> None:
        optimize(
            components(trials.best.candidate),
            trainset=list(cases.train),
            valset=list(cases.validation),
            adapter=adapter,  # type: ignore[arg-type]  # its batches are typed as never
            reflection_lm=adapter.write,
            reflection_prompt_template=REQUEST,
            reflection_minibatch_size=min(FEW, len(cases.train)),
            stop_callbacks=adapter.stop,
            logger=Silent(),
            seed=seed,
        )

    try:
        await asyncio.to_thread(run)
    except asyncio.CancelledError:
        adapter.cancelled = True
        raise
    if reason := trials.stop():
        raise Stopped(reason)


class Silent:
    """A logger for `gepa`, which has nobody to tell: trials are heard where they are made."""

    def log(self, message: str) -> None:
        pass


class Adapter:
    """Our trials as `gepa` sees them. Its methods are called in the library's thread."""

    propose_new_texts = None  # the library asks the writing model itself, by `write`

    def __init__(self, trials: Trials, start: Candidate, loop: asyncio.AbstractEventLoop) -> None:
        self._trials, self._start, self._loop = trials, start, loop
        self.cancelled = False
        self.rewritings = 0

    def evaluate(
        self, batch: list[Case], candidate: dict[str, str], capture_traces: bool = False
    ) -> "EvaluationBatch[Any, Any]":
        from gepa.core.adapter import EvaluationBatch

        name = "some train cases" if capture_traces else f"rewriting {self.rewritings}"
        trial: Trial = self._wait(self._trials.evaluate(rewritten(self._start, candidate), batch, name))
        if trial.problem is not None:
            lost = [(case, None, trial.problem) for case in batch]
            return EvaluationBatch([None] * len(batch), [0.0] * len(batch), lost if capture_traces else None)
        texts = [one.attempts[0].answer.text for one in trial.examined]
        scores = [float(one.passed) for one in trial.examined]
        traces = [(one.case, one, feedback(one)) for one in trial.examined]
        return EvaluationBatch(texts, scores, traces if capture_traces else None)

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: "EvaluationBatch[Any, Any]", components_to_update: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        rows = [
            {
                "Input": {name: _short(str(value)) for name, value in case.vars.items()},
                "Answer": _short(_answer(one).text if one is not None else "none, as the instructions were refused"),
                "What was wrong": says,
            }
            for case, one, says in eval_batch.trajectories or ()
        ]
        return dict.fromkeys(components_to_update, rows)

    def write(self, prompt: str | list[dict[str, Any]]) -> str:
        """What the writing model says. Raises Stopped."""
        text = prompt if isinstance(prompt, str) else "\n".join(map(text_of, prompt))
        self.rewritings += 1
        written: str = self._wait(self._trials.propose(text))
        return written

    def stop(self, gepa_state: object) -> bool:
        return self.cancelled or self._trials.stop() is not None

    def _wait(self, doing: Coroutine[Any, Any, Any]) -> Any:
        if self.cancelled:
            doing.close()
            raise Stopped("the search was cancelled")
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result()


def feedback(one: Examined) -> str:
    """Why a case failed, in the words of its assertions; never the words of another case."""
    if one.passed:
        return "nothing: this answer is right"
    return "; ".join(one.result.reasons) or "it failed"


def _answer(one: Examined) -> Answer:
    return one.attempts[0].answer


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
