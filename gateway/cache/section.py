"""The settings of the cache of answers."""

from typing import Literal

from pydantic import Field

from gateway.section import Section

MEBIBYTE = 1024 * 1024


class SemanticTemplate(Section):
    """A template whose requests may be answered from one like them, once the outcomes prove it."""

    template: str = Field(min_length=1, max_length=64, description="the template's key, as in x-pointsman-template")
    threshold: float = Field(gt=0, le=1, description="least cosine similarity of the two prompts")


class CacheSection(Section):
    """Off unless enabled. What is kept is the engine's answer, before any guardrail."""

    enabled: bool = Field(
        default=False, description="answer a request that was answered before without calling a model"
    )
    backend: Literal["memory", "redis"] = Field(default="memory", description="where answers are kept: memory or redis")
    redis_url: str | None = Field(
        default=None,
        pattern=r"^(redis|rediss|unix)://",
        description="the Redis or Valkey that keeps them, best one that may evict; that of redis_url when unset",
    )
    ttl_seconds: int = Field(default=3600, ge=1, description="how long an answer is kept")
    max_bytes: int = Field(
        default=64 * MEBIBYTE, ge=MEBIBYTE, description="of all answers in memory; the longest unused go"
    )
    always: bool = Field(
        default=False, description="also for requests with a temperature and no seed, of which each answer is another"
    )
    shared_by: Literal["caller", "team"] = Field(
        default="caller", description="who gets an answer again: the caller who got it first, or all of a team"
    )
    finish_reasons: tuple[str, ...] = Field(
        default=("stop", "tool_calls", "length"),
        min_length=1,
        description="answers that ended for one of these are kept",
    )
    semantic: tuple[SemanticTemplate, ...] = Field(
        default=(), description="templates whose requests may be answered from one like them, each with its threshold"
    )
