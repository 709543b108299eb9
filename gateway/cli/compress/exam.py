"""What a model passes of cases that nobody has learnt from or chosen by, asked through its engine."""

from dataclasses import dataclass

from gateway.cli.compress.lesson import Subject
from gateway.cli.engines import started
from gateway.cli.prompts.answers import answers_path, kept_answers
from gateway.cli.prompts.asking import of_engine
from gateway.cli.prompts.examining import parameters_of, renderer
from gateway.cli.screen import count_bar
from gateway.settings import Settings
from models.catalog import Model
from models.engine import Engine
from prompts.examination import Examination, Examined, examine
from prompts.suite import Suite
from router.bounds import lower_bound, wilson_interval

TABLE_CONFIDENCE = 0.95  # of the interval that is shown


@dataclass(frozen=True, slots=True)
class Exam:
    """`proven`: the exact one-sided bound, which is held against a bar."""

    model: str
    passed: int
    total: int
    interval: tuple[float, float]
    proven: float
    median_seconds: float | None
    tokens: tuple[int, int] | None

    @classmethod
    def of(cls, model: str, examination: Examination, confidence: float) -> "Exam":
        passed, total = sum(one.passed for one in examination.results), len(examination.results)
        counted = (examination.prompt_tokens, examination.completion_tokens)
        return cls(
            model,
            passed,
            total,
            wilson_interval(passed, total, TABLE_CONFIDENCE),
            lower_bound(passed, total, confidence),
            examination.median_seconds,
            None if None in counted else counted,  # type: ignore[arg-type]  # both are numbers then
        )

    @property
    def cells(self) -> tuple[str, ...]:
        low, high = self.interval
        seconds = "" if self.median_seconds is None else f"{self.median_seconds:.2f}"
        return self.model, f"{self.passed}/{self.total}", f"{low:.2f} to {high:.2f}", f"{self.proven:.2f}", seconds

    @property
    def says(self) -> str:
        return f"{self.passed}/{self.total}, Wilson {self.interval[0]:.2f} to {self.interval[1]:.2f}"

    def document(self) -> dict[str, object]:
        return {
            "model": self.model,
            "passed": self.passed,
            "total": self.total,
            "interval": list(self.interval),
            "proven": self.proven,
            "median_seconds": self.median_seconds,
        }


async def sat(settings: Settings, row: Model, subject: Subject, suite: Suite) -> Exam:
    """*suite* by the model of *row*, whose engine is started for it."""
    async with started(settings, row) as engine:
        return Exam.of(row.name, await answered(settings, engine, row, subject, suite), settings.confidence)


async def answered(settings: Settings, engine: Engine, row: Model, subject: Subject, suite: Suite) -> Examination:
    """Answers that were given before are not asked for again."""
    with kept_answers(answers_path(settings.data_dir)) as kept, count_bar() as bar:
        task = bar.add_task(f"{row.name}: {subject.template.id}", total=len(suite.cases))

        def tell(done: int, total: int, last: Examined) -> None:
            bar.update(task, completed=done)

        return await examine(
            suite,
            renderer(subject.template, subject.tier),
            of_engine(engine, row),
            build=row.build,
            parameters=parameters_of(subject.template, subject.tier),
            kept=kept,
            concurrency=row.parallel,
            progress=tell,
        )
