"""The catalogue: which models there are, what they cost, where their weights come from. Reads one YAML file."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, model_validator

from models.engine import Tokens, Usage
from models.weights import Checkpoint, Numerics, Strict, VllmServing, WeightsFile, Wheel
from prompts.yamlfile import Problem, YamlError, problems_in, read_yaml

BUILTIN_CATALOG = Path(__file__).with_name("catalog.yaml")
BUILD_HEX_DIGITS = 12
SECONDS_PER_HOUR = 3600
TOKENS_PER_PRICE = 1_000_000

AUTO = "auto"  # what a client writes to let the router choose; no model may take the name


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("its port must be between 1 and 65535")
    if parts.username is not None:
        raise ValueError("credentials do not belong into an address: name their variable in api_key_env")
    return url


ServerUrl = Annotated[str, Field(pattern=r"^https?://[^/?#]+[^?#]*$"), AfterValidator(_checked_url)]


class CatalogError(ValueError):
    """The catalogue file is wrong; the message names the file, the row and the remedy."""


class Price(Strict):
    """Either per million tokens, or per hour of engine time. Money in US dollars."""

    input_usd: Decimal | None = Field(default=None, ge=0)
    output_usd: Decimal | None = Field(default=None, ge=0)
    cached_input_usd: Decimal | None = Field(default=None, ge=0)
    hour_usd: Decimal | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _one_way(self) -> "Price":
        given = [usd is not None for usd in (self.input_usd, self.output_usd, self.cached_input_usd)]
        by_token, by_hour = all(given[:2]), self.hour_usd is not None
        if by_token == by_hour or (by_hour and any(given)):
            raise ValueError("a price is either input_usd and output_usd (per million tokens), or hour_usd")
        return self


class Speed(Strict):
    """Measured tokens per second, one request at a time; used to estimate cost before or without a call."""

    prompt_tokens_per_second: float = Field(gt=0)
    completion_tokens_per_second: float = Field(gt=0)


class Ability(StrEnum):
    """What a request may need of a model beyond text in and text out."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    TOOLS = "tools"
    STRUCTURED = "structured"
    LOGPROBS = "logprobs"
    CHOICES = "choices"
    REASONING = "reasoning"
    IMAGES = "images"
    AUDIO = "audio"
    FILES = "files"
    MEDIA_URLS = "media_urls"


# What any current OpenAI-speaking server of text models does; a row that says otherwise lists its own.
TEXT_ABILITIES = frozenset(
    {Ability.CHAT, Ability.COMPLETIONS, Ability.TOOLS, Ability.STRUCTURED, Ability.LOGPROBS, Ability.CHOICES}
)

# LiteLLM loses the ends of all choices of a stream but one; our engine of transformers has no grammar and no parser;
# vLLM reads calls of tools only with the parser of that model.
USUAL_ABILITIES: Mapping[str, tuple[Ability, ...]] = {
    "litellm": (Ability.CHAT, Ability.TOOLS, Ability.STRUCTURED),
    "transformers": (Ability.CHAT, Ability.COMPLETIONS, Ability.LOGPROBS),
    "vllm": (Ability.CHAT, Ability.COMPLETIONS, Ability.STRUCTURED, Ability.LOGPROBS, Ability.CHOICES),
}
CHECKPOINT_ENGINES = ("vllm", "transformers")  # those that read a folder of safetensors, in the Python that has torch


class Model(Strict):
    """One row: one build (weights, quantisation, attention) behind one engine."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$")
    engine: Literal["llamacpp", "vllm", "transformers", "openai", "litellm", "embedder", "scripted"]
    tier: int = Field(ge=0, description="rank by cost: 0 is the cheapest; the highest tier is the safe tier")
    context_tokens: int = Field(gt=0)
    abilities: frozenset[Ability] = Field(
        default=TEXT_ABILITIES,
        min_length=1,
        description="what it can do; requests that need more go elsewhere. choices: `n` over 1; structured: JSON as "
        "response_format; media_urls: fetch images by URL (its server then calls addresses that clients choose)",
    )
    counts: Literal["last", "vllm", "llamacpp"] = Field(
        default="last",
        description="when a server of engine openai counts a stream's tokens: with its last chunk, or, asked in "
        "vLLM's or llama.cpp's way, with each one, so that an answer cut short can be charged by tokens",
    )
    licence: str = ""
    file: WeightsFile | None = Field(default=None, description="a GGUF file, which the engine llamacpp reads")
    checkpoint: Checkpoint | None = Field(
        default=None, description="a folder of safetensors, which the engines vllm and transformers read"
    )
    adapter: Checkpoint | None = Field(default=None, description="a LoRA laid over the checkpoint, by the engine vllm")
    taught: tuple[str, ...] = Field(
        default=(), description="marks of the suites' cases that these weights were made from, which prove nothing here"
    )
    numerics: Numerics = Numerics()
    vllm: VllmServing = VllmServing()
    package: Wheel | None = Field(
        default=None, description="the installed package, at its version, whose weights the engine embedder reads"
    )
    base_url: ServerUrl | None = None
    replicas: tuple[ServerUrl, ...] = Field(default=(), description="further base URLs that serve the same build")
    api_key_env: str | None = Field(default=None, description="environment variable that holds the server's key")
    served_as: str | None = Field(default=None, description="the server's name for the model; its own name when unset")
    price: Price | None = None
    speed: Speed | None = None
    parallel: int = Field(default=2, gt=0, description="answers made at the same time, by each replica")
    queue: int = Field(default=32, ge=0, description="requests that may wait for one of them")
    retries: int = Field(default=1, ge=0, le=5, description="repetitions of a call that failed before its first block")
    hedge_after_seconds: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="silence after which a second replica is asked; None: never",
    )
    threads: int | None = Field(default=None, gt=0, description="None: every core")
    batch_tokens: int = Field(default=64, gt=0, description="prompt tokens computed between two looks at the client")
    memory_limit_bytes: int | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _usual_abilities(cls, row: Any) -> Any:
        """Of a row that does not list its own."""
        usual = USUAL_ABILITIES.get(str(row.get("engine"))) if isinstance(row, dict) else None
        if usual is None:
            return row
        serving = row.get("vllm")
        parser = serving.get("tool_parser") if isinstance(serving, dict) else getattr(serving, "tool_parser", None)
        return {"abilities": usual if parser is None else (*usual, Ability.TOOLS), **row}

    @model_validator(mode="after")
    def _complete(self) -> "Model":
        if self.engine == "litellm" and self.served_as is None:
            raise ValueError("engine litellm needs 'served_as', LiteLLM's name of the model, e.g. anthropic/claude-...")
        if self.engine == "llamacpp" and self.file is None:
            raise ValueError("engine llamacpp needs 'file' (sha256, size_bytes, sources)")
        if self.engine in CHECKPOINT_ENGINES and self.checkpoint is None:
            raise ValueError(f"engine {self.engine} needs 'checkpoint' (sha256, size_bytes, sources)")
        if problem := self._numerics_problem():
            raise ValueError(problem)
        if self.engine == "openai" and self.base_url is None:
            raise ValueError("engine openai needs 'base_url', e.g. http://127.0.0.1:8000/v1")
        if self.engine == "embedder" and self.package is None:
            raise ValueError("engine embedder needs 'package', e.g. wordllama==0.1.0")
        if self.replicas and self.engine != "openai":
            raise ValueError("'replicas' are servers, which only engine openai calls; remove them")
        addresses = [self.address, *self.replicas]
        twice = sorted({address for address in addresses if addresses.count(address) > 1})
        if twice:
            raise ValueError(f"'base_url' and 'replicas' name {twice[0]} more than once; keep one")
        return self

    def _numerics_problem(self) -> str | None:
        """What is said of how to compute, and this engine does not heed."""
        numerics, computes = self.numerics, self.engine in CHECKPOINT_ENGINES
        if not computes and (self.checkpoint or numerics != Numerics()):
            return f"'checkpoint' and 'numerics' are for the engines {' and '.join(CHECKPOINT_ENGINES)}; remove them"
        if self.engine != "vllm" and (self.adapter or self.vllm != VllmServing()):
            return "'adapter' and 'vllm' are for the engine vllm; remove them"
        vllms_own = numerics.kv_cache_dtype != "auto" or numerics.attention_budget_tokens is not None
        if self.engine == "transformers" and (vllms_own or numerics.quantization == "fp8"):
            return "kv_cache_dtype, attention_budget_tokens and fp8 are for the engine vllm; remove them"
        if self.engine == "vllm" and Ability.TOOLS in self.abilities and self.vllm.tool_parser is None:
            return "the ability tools needs vllm.tool_parser, how this model writes calls; add it, or take tools out"
        speculative = self.vllm.speculative
        if speculative is not None and (speculative.method == "draft") != (speculative.draft is not None):
            return "vllm.speculative has a 'draft' (a checkpoint) with method draft, and none with ngram"
        if numerics.attention_budget_tokens and numerics.attention_budget_tokens > self.context_tokens:
            return "attention_budget_tokens is more than context_tokens: it would never be used; remove it"
        return None

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """All that its engine reads."""
        draft = self.vllm.speculative.draft if self.vllm.speculative else None
        return tuple(one for one in (self.checkpoint, self.adapter, draft) if one is not None)

    @property
    def address(self) -> str:
        """Where it is served; its name where this machine serves it."""
        return self.base_url or self.name

    @property
    def chats(self) -> bool:
        return Ability.CHAT in self.abilities

    @property
    def remote_name(self) -> str:
        return self.served_as or self.name

    @cached_property
    def build(self) -> str:
        """What evidence is bound to: 12 hex digits over everything that can change an answer."""
        weights = self.file.sha256 if self.file else self.package or f"{self.base_url}|{self.remote_name}"
        if self.checkpoint is not None:
            weights = "|".join([self.checkpoint.sha256, self.adapter.sha256 if self.adapter else ""])
            weights += f"|{self.numerics.model_dump_json(exclude_defaults=True)}"
        return hashlib.sha256(f"{self.engine}|{weights}".encode()).hexdigest()[:BUILD_HEX_DIGITS]

    def cost_usd(self, usage: Tokens, engine_seconds: float) -> Decimal | None:
        """What *usage* cost; None when the row has no price."""
        if self.price is None:
            return None
        if self.price.hour_usd is not None:
            return self.price.hour_usd * Decimal(repr(engine_seconds)) / SECONDS_PER_HOUR
        assert self.price.input_usd is not None
        assert self.price.output_usd is not None
        cached_usd = self.price.cached_input_usd if self.price.cached_input_usd is not None else self.price.input_usd
        fresh_tokens = usage.prompt_tokens - usage.cached_tokens
        total = fresh_tokens * self.price.input_usd + usage.cached_tokens * cached_usd
        return (total + usage.completion_tokens * self.price.output_usd) / TOKENS_PER_PRICE

    def expected_cost_usd(self, usage: Tokens, *, warm: bool = False) -> Decimal | None:
        """What *usage* would cost here; its cached tokens are in the prompt cache where that is *warm*, else none are.
        None when price or speed is not known.
        """
        if not warm and usage.cached_tokens:
            usage = Usage(usage.prompt_tokens, usage.completion_tokens)
        if self.price is None or self.price.hour_usd is None:
            return self.cost_usd(usage, 0.0)
        seconds = self.expected_seconds(usage)
        return None if seconds is None else self.cost_usd(usage, seconds)

    def expected_seconds(self, usage: Tokens) -> float | None:
        """How long *usage* would be worked on, its cached tokens for no time; None when the speed is not known."""
        if self.speed is None:
            return None
        seconds = (usage.prompt_tokens - usage.cached_tokens) / self.speed.prompt_tokens_per_second
        return seconds + usage.completion_tokens / self.speed.completion_tokens_per_second


@dataclass(frozen=True, slots=True)
class Catalog:
    """Models by name, cheapest tier first. `aliases` map names that applications hard-code to `auto` or a model.
    `chatting`: the models that answer conversations, cheapest tier first: what the router chooses among.
    """

    models: Mapping[str, Model]
    aliases: Mapping[str, str]
    chatting: tuple[Model, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "chatting", tuple(model for model in self if Ability.CHAT in model.abilities))

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models.values())

    @property
    def safe(self) -> Model:
        """The model that may always serve: the last of the highest tier that chats."""
        return self.chatting[-1]

    def models_for(self, needs: frozenset[Ability]) -> tuple[Model, ...]:
        """Those that have the abilities, cheapest tier first."""
        return tuple(model for model in self if needs <= model.abilities)

    def only(self, names: tuple[str, ...]) -> "Catalog":
        """The catalogue reduced to *names*. Raises CatalogError for a name it does not have."""
        unknown = [name for name in names if name not in self.models]
        if unknown:
            raise CatalogError(f"no model {', '.join(unknown)} in the catalogue; it has: {', '.join(self.models)}")
        return Catalog({m.name: m for m in self if m.name in names}, self.aliases)


class _CatalogFile(Strict):
    models: tuple[Model, ...] = Field(min_length=1)
    aliases: dict[str, str] = Field(default_factory=dict)


def load_catalog(path: Path = BUILTIN_CATALOG) -> Catalog:
    """Read and check *path*. Raises CatalogError with a line for every mistake, each with its remedy."""
    try:
        document = read_yaml(path)
        raw = _CatalogFile.model_validate(document.value)
    except FileNotFoundError as error:
        raise CatalogError(f"{path}: no such file; set POINTSMAN_CATALOG to a catalogue, or unset it") from error
    except OSError as error:
        raise CatalogError(f"{path}: cannot be read: {error.strerror}") from error
    except YamlError as error:
        raise CatalogError(str(error)) from error
    except ValidationError as error:
        raise CatalogError(document.tell_all(problems_in(_CatalogFile, error))) from error
    names = [m.name for m in raw.models]
    if problems := row_problems(raw.models) + chat_problems(raw.models) + alias_problems(raw.aliases, names):
        raise CatalogError(document.tell_all(problems))
    return catalog_of(raw.models, raw.aliases)


def catalog_of(models: Iterable[Model], aliases: Mapping[str, str]) -> Catalog:
    return Catalog({m.name: m for m in sorted(models, key=lambda m: m.tier)}, aliases)


def row_problems(models: Sequence[Model]) -> list[Problem]:
    """What is wrong with rows that stand beside each other."""
    names = [m.name for m in models]
    problems = []
    for place, name in enumerate(names):
        if name in names[:place]:
            problems.append(Problem(("models", place, "name"), None, f"two have the name {name}; rename one"))
        if name == AUTO:
            remedy = f"none may have the name {AUTO}, which asks the router to choose; rename it"
            problems.append(Problem(("models", place, "name"), None, remedy))
    return problems


def chat_problems(models: Iterable[Model]) -> list[Problem]:
    if any(Ability.CHAT in m.abilities for m in models):
        return []
    return [Problem(("models",), None, "none has the ability chat, so nothing could answer; add a row that has")]


def alias_problems(aliases: Mapping[str, str], names: Sequence[str]) -> list[Problem]:
    """The aliases that mean none of *names*."""
    return [
        Problem(("aliases", alias), None, f"no model {target}; it may be {AUTO} or one of {', '.join(names)}")
        for alias, target in aliases.items()
        if target not in (AUTO, *names)
    ]
