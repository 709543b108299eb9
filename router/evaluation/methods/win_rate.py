"""Baselines: two of RouteLLM's routers (arXiv 2406.18665, section 4.2), on the static embedding and the same prompts.

Both say how likely the large model wins the prompt; they know nothing of templates. The paper's own embedding and
battles between models (Chatbot Arena) are not here: these are its methods, not its weights.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from router.evaluation.estimator import Estimate
from router.evaluation.samples import Outcomes, Prompts, Stage
from router.evaluation.tables import Floats

GAMMA = 10.0  # the paper's, for the weight of a similar battle
CHUNK_PROMPTS = 500
FACTOR_STRENGTH = 1.0  # inverse of the ridge penalty on the embedding's weights


@dataclass(frozen=True, slots=True)
class SimilarityWeighted:
    """A Bradley-Terry model per prompt, in which the fitted prompt i weighs GAMMA^(1 + s_i / max s). With two models
    its maximum likelihood is the weighted share of wins, a tie being half a win.
    """

    name: str = "routellm-sw"
    stage: Stage = Stage.BEFORE

    def fit(self, prompts: Prompts, outcomes: Outcomes) -> "FittedSimilarityWeighted":
        return FittedSimilarityWeighted(prompts.views.embeddings, (1 + np.sign(outcomes.gain)) / 2)


@dataclass(frozen=True, slots=True, eq=False)
class FittedSimilarityWeighted:
    embeddings: Floats  # (N, 256)
    wins: Floats  # (N,): 1, 0, or 0.5 for a tie

    def estimate(self, prompts: Prompts) -> Estimate:
        found = np.empty(len(prompts))
        for start in range(0, len(prompts), CHUNK_PROMPTS):
            likeness = prompts.views.embeddings[start : start + CHUNK_PROMPTS] @ self.embeddings.T
            weights = GAMMA ** (1 + likeness / np.maximum(likeness.max(axis=1, keepdims=True), 1e-9))
            found[start : start + CHUNK_PROMPTS] = (weights @ self.wins) / weights.sum(axis=1)
        return Estimate(found)


@dataclass(frozen=True, slots=True)
class MatrixFactors:
    """The bilinear score of model and prompt. With two models their difference is linear in the embedding, so it is a
    logistic regression of wins on it, ties left out.
    """

    name: str = "routellm-mf"
    stage: Stage = Stage.BEFORE

    def fit(self, prompts: Prompts, outcomes: Outcomes) -> "FittedFactors":
        decided = outcomes.gain != 0
        wins = outcomes.gain[decided] > 0
        if len(set(wins.tolist())) < 2:
            return FittedFactors(np.zeros(prompts.views.embeddings.shape[1]))
        scale = np.sqrt(prompts.views.embeddings.shape[1])
        model = LogisticRegression(C=FACTOR_STRENGTH / scale, max_iter=500)
        return FittedFactors(scale * model.fit(scale * prompts.views.embeddings[decided], wins).coef_[0])


@dataclass(frozen=True, slots=True, eq=False)
class FittedFactors:
    weights: Floats  # (256,)

    def estimate(self, prompts: Prompts) -> Estimate:
        return Estimate(prompts.views.embeddings @ self.weights)
