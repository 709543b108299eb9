"""Attention of one layer of models, as published, for what measures kernels."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    name: str
    kv_heads: int
    group: int
    dim: int
