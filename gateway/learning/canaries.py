"""What a canary's answers show: each is compared with what the safe tier says to the same, once the client has it.

It is the shadow turned round (`gateway.learning.shadows`): the cheaper model has answered, and the safe tier is asked
aside. The same is promised of the outcome, and the same is dropped: where another comparison runs, where nobody is to
be disturbed, where a caller withholds his request. The money is not that of exploring: what is asked is what the safe
tier would have answered without the canary, and it ends with the canary. Where nothing of the first VAIN_LIMIT could be
compared, this process asks no more; other sources may still tell.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING

import structlog

from gateway.keys import Caller
from gateway.learning.answered import Said, said
from gateway.learning.aside import (
    Aside,
    OneAtATime,
    ask_aside,
    body_of,
    comparer_of,
    cosine,
    is_quiet,
    may_be_compared,
    opened,
)
from gateway.learning.store import Key
from gateway.learning.told import Outcomes, Tried
from gateway.ledger.charge import Outcome
from models.catalog import Model
from models.engine import EngineError
from router.decision import Decision
from router.sources import Source

if TYPE_CHECKING:
    from gateway.held import Held
    from gateway.schema import Asked

log = structlog.get_logger(__name__)

CANARIES = Caller("canary", "the gateway itself, for its canaries")  # no key has such an id; see gateway.keys
VAIN_LIMIT = 20  # answers of one canary that could not be compared, while none could
SEEN_LIMIT = 1_024  # canaries of which that is remembered


@dataclass(frozen=True, slots=True)
class Compared(Aside):
    """*judged* has answered, of the version `tried`; the safe tier is to be asked."""

    judged: Model | None = None
    tried: Tried | None = None

    @property
    def key(self) -> Key:
        assert self.judged is not None
        assert self.decision.template is not None
        return self.decision.template, self.judged.build


class Comparisons:
    """From one event loop."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self._in_vain: OrderedDict[tuple[str, ...], int] = OrderedDict()  # -1 once something was compared
        self._comparing = OneAtATime("canary")

    @property
    def rests(self) -> bool:
        """No comparison is under way."""
        return self._comparing.rests

    def draw(self, held: "Held", asked: "Asked", decision: Decision, answering: Model, tried: Tried) -> Compared | None:
        """What to do once *answering* has answered; None for nothing."""
        runtime = held.runtime
        safe = runtime.knowledge.safe
        assert asked.prompt is not None
        if safe.name not in asked.prompt.variants or safe.name == answering.name:
            return None
        if not may_be_compared(asked, held.headers) or not asked.needs <= safe.abilities:
            return None
        if runtime.settings.learning.compare.get(decision.template or "") == "none":
            return None
        drawn = Compared(runtime, asked, decision, safe, held.request_id, CANARIES, answering, tried)
        return drawn if self._in_vain.get(_asked_of(drawn), 0) < VAIN_LIMIT else None

    def ended(self, drawn: Compared, blocks: Sequence[bytes]) -> None:
        """The client has the answer, whole."""
        if not self.rests or not is_quiet(drawn.runtime, drawn.model):
            return
        answer = said(blocks, streamed=drawn.asked.stream)
        self._comparing.start(self._run(drawn, answer))

    async def close(self) -> None:
        """Give up what runs; its charge is closed."""
        await self._comparing.close()

    async def _run(self, drawn: Compared, answer: Said | None) -> None:
        try:
            same = await _is_same(drawn, answer)
        except EngineError as error:  # the safe tier's, of which the canary is not guilty
            log.info("a canary was not compared", model=drawn.model.name, error=error.message)
        except Exception:  # nobody waits for it
            log.exception("a canary was not compared", request_id=drawn.request_id)
        else:
            self._remember(_asked_of(drawn), is_comparable=same is not None)
            self._outcomes.tell(
                Source.SHADOW,
                drawn.key,
                passed=bool(same),
                at=time(),
                incomparable=same is None,
                tried=drawn.tried,
            )

    def _remember(self, key: tuple[str, ...], *, is_comparable: bool) -> None:
        times = self._in_vain.pop(key, 0)
        self._in_vain[key] = -1 if is_comparable or times < 0 else times + 1
        if len(self._in_vain) > SEEN_LIMIT:
            self._in_vain.popitem(last=False)


def _asked_of(drawn: Compared) -> tuple[str, ...]:
    """What is tried, and how it is compared, which a reload may change."""
    return (*drawn.key, str(drawn.runtime.settings.learning.compare.get(drawn.key[0])))


async def _is_same(drawn: Compared, answer: Said | None) -> bool | None:
    """Whether the safe tier says the same; None where that cannot be compared with anything. Raises EngineError."""
    asked = drawn.asked.told(drawn.model.name)
    tab = opened(drawn)
    try:
        right = await ask_aside(drawn, tab, body_of(asked.body, drawn.model.context_tokens, drawn.model))
    except TimeoutError:
        tab.close(Outcome.CUT, None)
        return None
    finally:
        tab.close(Outcome.FAILED, None)  # cancelled, or a fault; after another close it does nothing
    comparer = comparer_of(drawn, right)
    if comparer is None or right is None or right.text is None:
        return None
    if answer is None or answer.text is None or not answer.is_whole:
        return False
    vectors = await cosine(drawn.runtime, right.text, answer.text) if comparer.by_vectors else None
    return comparer.same(right.text, answer.text, vectors)
