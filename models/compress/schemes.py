"""How checkpoints say what was done to which matrix: the `quantization_config` of compressed-tensors. No torch.

W4A16: weights of four bits in groups, activations as they are. W8A8: weights of eight bits per row, activations of
eight bits per token, rounded while serving. What vLLM fuses into one matrix (query, key, value; gate, up) must be done
alike.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from models.job import JobFailed

KEPT, W8A8, W4A16 = 16, 8, 4  # bits of a weight, and the scheme that they stand for
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
FORMATS = {W4A16: "pack-quantized", W8A8: "int-quantized"}


@dataclass(frozen=True, slots=True)
class Plan:
    """`bits` of each matrix by its full name; `group`: inputs with a scale of their own, of four bits."""

    bits: Mapping[str, int]
    group: int

    @classmethod
    def of(cls, matrices: Sequence[str], default: int, rules: Mapping[str, int], group: int) -> "Plan":
        """*rules*: bits by pattern (`*.down_proj`, `model.layers.0.*`); of two that match, the later. Raises
        JobFailed.
        """
        for pattern, bits in rules.items():
            if bits not in (W4A16, W8A8, KEPT):
                raise JobFailed(f"{pattern}: {bits} bits; a layer may have 4, 8 or 16 (16: left as it is)")
            if not any(fnmatchcase(name, pattern) for name in matrices):
                raise JobFailed(f"{pattern}: no layer is called so; they are called like {matrices[0]}")
        plan = cls({name: _last(name, rules, default) for name in matrices}, group)
        plan._check_fused()
        return plan

    def config(self) -> dict[str, Any]:
        """As config.json has it. Raises JobFailed where nothing is quantised."""
        used = sorted({bits for bits in self.bits.values() if bits != KEPT})
        if not used:
            raise JobFailed("every layer keeps 16 bits, so there is nothing to do; give some of them 4 or 8")
        main = max(used, key=lambda bits: sum(1 for one in self.bits.values() if one == bits))
        groups = {}
        for number, bits in enumerate(used):
            # The rule for the most stands for all that is not named; others are named one by one.
            targets = ["Linear"] if bits == main else [_exactly(name) for name, one in self.bits.items() if one == bits]
            groups[f"group_{number}"] = {"targets": targets, **_scheme(bits, self.group)}
        return {
            "quant_method": "compressed-tensors",
            "format": FORMATS[main] if len(used) == 1 else "mixed-precision",
            "quantization_status": "compressed",
            "ignore": ["lm_head", *(name for name, bits in self.bits.items() if bits == KEPT)],
            "config_groups": groups,
        }

    def _check_fused(self) -> None:
        for name, bits in self.bits.items():
            home, _, own = name.rpartition(".")
            for together in FUSED:
                for other in together if own in together else ():
                    if self.bits.get(f"{home}.{other}", bits) != bits:
                        raise JobFailed(
                            f"{home}: {own} has {bits} bits and {other} {self.bits[f'{home}.{other}']}; engines fuse "
                            f"{', '.join(together)} into one matrix: give them the same"
                        )


def _last(name: str, rules: Mapping[str, int], default: int) -> int:
    found = [bits for pattern, bits in rules.items() if fnmatchcase(name, pattern)]
    return found[-1] if found else default


def _exactly(name: str) -> str:
    return f"re:^{re.escape(name)}$"


def _scheme(bits: int, group: int) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": "int", "symmetric": True, "dynamic": False}
    if bits == W4A16:
        return {
            "format": FORMATS[bits],
            "weights": {**weights, "strategy": "group", "group_size": group},
            "input_activations": None,
        }
    activations = {"num_bits": bits, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
    return {
        "format": FORMATS[bits],
        "weights": {**weights, "strategy": "channel", "group_size": None},
        "input_activations": activations,
    }
