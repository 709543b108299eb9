"""Two builds of the same weights are two models: what one has proved says nothing about the other."""

from typing import Any

import pytest
import yaml

from gateway.settings import Settings
from models.catalog import Catalog
from models.scripted import ScriptedEngine
from prompts.message import template_key
from router.bar import Bar, Tally
from router.decision import Knowledge
from router.difficulty import Difficulty
from router.evidence import Evidence
from tests.gateway.wire import CHAT, OpenRig
from tests.rig import say

pytestmark = pytest.mark.anyio

WEIGHTS = {"sha256": "0123456789abcdef" * 4, "size_bytes": 1, "sources": [{"folder": "/models/tiny"}]}
PRICES = {"small": "0.1", "whole": "0.5", "large": "1"}
ROWS: dict[str, dict[str, Any]] = {
    "small": {"engine": "vllm", "checkpoint": WEIGHTS, "numerics": {"quantization": "nf4"}},
    "whole": {"engine": "vllm", "checkpoint": WEIGHTS},
    "large": {"engine": "scripted"},
}
CATALOG = yaml.safe_dump(
    {
        "models": [
            {
                "name": name,
                "tier": tier,
                "context_tokens": 1000,
                "price": {"input_usd": PRICES[name], "output_usd": PRICES[name]},
                **engine,
            }
            for tier, (name, engine) in enumerate(ROWS.items())
        ]
    }
)
BODY = {
    "model": "auto",
    "messages": [{"role": "system", "content": "Name the capital."}, {"role": "user", "content": "Of France?"}],
}


@pytest.mark.parametrize("proved", ["small", "whole"])
async def test_auto_uses_the_build_that_has_proved_itself_and_not_its_sibling(rig: OpenRig, proved: str) -> None:
    def knowing(catalog: Catalog, settings: Settings) -> Knowledge:
        tallies = {(template_key(BODY) or "", catalog.models[proved].build): Tally(passed=200, total=200, paired=200)}
        return Knowledge(tuple(catalog), Evidence(tallies), Difficulty({}), {}, Bar(0.95, pass_rate=0.9))

    others = {"whole": ScriptedEngine("whole", say("whole answer"))}
    async with rig(catalog=CATALOG, others=others, knowledge_maker=knowing) as r:
        response = await r.http.post(CHAT, json=BODY)

        assert response.headers["x-pointsman-model"] == proved
        assert response.headers["x-pointsman-basis"] == "evidence"


async def test_without_evidence_of_either_the_safe_tier_serves(rig: OpenRig) -> None:
    others = {"whole": ScriptedEngine("whole", say("whole answer"))}
    async with rig(catalog=CATALOG, others=others) as r:
        response = await r.http.post(CHAT, json=BODY)

        assert response.headers["x-pointsman-model"] == "large"
