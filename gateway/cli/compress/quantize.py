"""pointsman models quantize: fewer bits for a checkpoint's weights."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from gateway.cli.compress.made import finish
from gateway.cli.compress.running import CALIBRATION, Calibration, CompressFailed, Out, Source, do, text_of
from gateway.cli.compress.sources import named
from gateway.settings import load_settings

HELP = """Quantise a model: its weights in four or eight bits, as a new checkpoint with a card and a catalogue row.

rtn-w4a16    four bits, each weight to its nearest level; one scale for a group of 64 weights. For vLLM.

gptq-w4a16   the same form, but what a rounding breaks is mended in the weights to come, by a calibration text. Minutes.

w8a8         eight bits, activations too, while serving: the fastest on processors with int8 instructions. For vLLM.

nf4, int8    as bitsandbytes stores them: for the engine transformers, and for vLLM on GPUs by its plugin.

--bits-per-layer FILE gives layers bits of their own: YAML of patterns and 4, 8 or 16 (left as it is), the last that
matches holds; `*.down_proj: 8` for one kind, `model.layers.0.*: 16` for one block. On a GPU, or a processor as well.

The result appears when it is whole. Interrupted, the same command goes on after the last block that was done.

Examples:

pointsman models quantize smollm2-135m-instruct-q4_1 --method gptq-w4a16 --out builds/135m-gptq

pointsman models bench builds/135m-gptq && pointsman models card builds/135m-gptq
"""


class Method(StrEnum):
    RTN = "rtn-w4a16"
    GPTQ = "gptq-w4a16"
    W8A8 = "w8a8"
    NF4 = "nf4"
    INT8 = "int8"


NEEDS = {Method.NF4: ("bitsandbytes", "accelerate"), Method.INT8: ("bitsandbytes", "accelerate")}
FOR_TRANSFORMERS = (Method.NF4, Method.INT8)


def quantize(
    source: Source,
    method: Annotated[Method, typer.Option(help="how; see above")],
    out: Out,
    group: Annotated[int, typer.Option(help="of four bits: weights that share a scale, 32, 64 or 128")] = 64,
    bits_per_layer: Annotated[
        Path | None, typer.Option(help="YAML: bits by pattern of a layer's name", exists=True, dir_okay=False)
    ] = None,
    calibration: Calibration = CALIBRATION,
) -> None:
    settings = load_settings()
    origin = named(settings, source)
    if bits_per_layer is not None and method in FOR_TRANSFORMERS:
        raise CompressFailed(f"--bits-per-layer: {method} has the same bits everywhere; take w8a8 or a w4a16 method")
    asked: dict[str, Any] = {
        "source": str(origin.folder.resolve()),
        "result": str(out.resolve()),
        "method": str(method),
        "group": group,
        "bits": {} if bits_per_layer is None else bits_of(bits_per_layer),
        "calibration": [text_of(calibration)] if method is Method.GPTQ else [],
    }
    result = do(settings, "quantize", asked, f"quantize {origin.name}", *NEEDS.get(method, ()))
    facts = {"method": str(method), "group": group, "bits_per_weight": result.get("bits_per_weight")}
    finish(origin, out, "quantize", facts, engine="transformers" if method in FOR_TRANSFORMERS else "vllm")


def bits_of(path: Path) -> dict[str, int]:
    """Raises CompressFailed."""
    try:
        said = yaml.safe_load(text_of(path))
    except yaml.YAMLError as error:
        raise CompressFailed(f"{path}: is not YAML: {error}") from error
    if not isinstance(said, dict) or not all(isinstance(k, str) and type(v) is int for k, v in said.items()):
        raise CompressFailed(f"{path}: must be lines of a pattern and its bits, such as '*.down_proj': 8")
    return said
