"""Baseline: the rules by which LiteLLM's complexity router scores a prompt. Its SDK is optional, imported when asked.

Nothing is fitted: the rules are the product's own, with its default weights and words.
"""

import importlib
import importlib.util
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from router.evaluation.estimator import Estimate
from router.evaluation.samples import Outcomes, Prompts, Stage

MODULE = "litellm.router_strategy.complexity_router.complexity_router"
TIERS = {"tiers": {"SIMPLE": "small", "MEDIUM": "small", "COMPLEX": "large", "REASONING": "large"}}


def is_there() -> bool:
    return importlib.util.find_spec("litellm") is not None


@dataclass(frozen=True, slots=True)
class ComplexityRules:
    name: str = "litellm-complexity"
    stage: Stage = Stage.BEFORE

    def fit(self, prompts: Prompts, outcomes: Outcomes) -> "LoadedRules":
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it fetches a table of prices otherwise
        router = importlib.import_module(MODULE).ComplexityRouter
        return LoadedRules(
            router(
                model_name="auto",
                ctx=None,  # the router that would call models; scoring needs none
                complexity_router_config=TIERS,
                default_model="small",
                derive_savings_baseline=False,
            )
        )


@dataclass(frozen=True, slots=True)
class LoadedRules:
    router: Any

    def estimate(self, prompts: Prompts) -> Estimate:
        return Estimate(np.array([self.router.classify(text)[1] for text in prompts.texts], dtype=np.float64))
