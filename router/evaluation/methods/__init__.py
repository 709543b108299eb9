"""The methods under test, one idea a file. Here a better learner takes the place of a worse one."""

from collections.abc import Sequence

from router.evaluation.estimator import Estimator
from router.evaluation.methods.after import PointsmanAfter
from router.evaluation.methods.agreement import Agreement
from router.evaluation.methods.before import PointsmanBefore
from router.evaluation.methods.coin import Coin
from router.evaluation.methods.complexity import ComplexityRules
from router.evaluation.methods.length import Length
from router.evaluation.methods.neighbours import Neighbours
from router.evaluation.methods.served import Served
from router.evaluation.methods.template import TemplateLookup
from router.evaluation.methods.win_rate import MatrixFactors, SimilarityWeighted
from router.evaluation.samples import Stage

POINTSMAN = "pointsman"
METHODS: Sequence[Estimator] = (
    PointsmanBefore(),
    Served(),
    Coin(),
    Length(),
    TemplateLookup(),
    Neighbours(),
    SimilarityWeighted(),
    MatrixFactors(),
    ComplexityRules(),
    PointsmanAfter(),
    Coin(stage=Stage.AFTER),
    Agreement(),
)
