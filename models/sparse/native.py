"""decode.cpp, compiled for this machine at first use and called as it is: no build step, no wheel of its own.

The library is kept in the user's cache under a hash of what it was made from. Where it cannot be built the reference
serves, which is right and slow.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs
import torch

from models.sparse import reference
from models.sparse.budget import Pages
from models.sparse.reference import Cache

SOURCE = Path(__file__).with_name("decode.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-Wno-psabi")
WIDE = "-mprefer-vector-width=512"  # x86 alone knows it; without it GCC halves the vectors
BUILD_TIMEOUT_SECONDS = 300.0  # it takes six seconds of one core
LAYOUTS = {torch.bfloat16: 1, torch.float16: 2, torch.float32: 3}  # of plain pages; tiles are 0
MOST_DIM = 256  # of a head: the kernel's arrays on the stack

Address, Int, Long = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


class NotBuilt(Exception):
    """The kernel cannot be compiled here; the message says why."""


class Step(ctypes.Structure):
    """`Step` of decode.cpp."""

    _fields_ = (
        ("query", Address),
        ("output", Address),
        ("cache", Address),
        ("bounds", Address),
        ("table", Address),
        ("tokens", Address),
        ("requests", Address),
        ("lengths", Address),
        ("chosen", Address),
        ("query_stride", Long),
        ("output_stride", Long),
        ("table_stride", Long),
        ("block_stride", Long),
        ("head_stride", Long),
        ("count", Int),
        ("kv_heads", Int),
        ("group", Int),
        ("dim", Int),
        ("block", Int),
        ("page", Int),
        ("keep", Int),
        ("sink", Int),
        ("recent", Int),
        ("layout", Int),
        ("threads", Int),
        ("scale", ctypes.c_float),
    )


class Update(ctypes.Structure):
    """`Update` of decode.cpp."""

    _fields_ = (
        ("key", Address),
        ("slots", Address),
        ("bounds", Address),
        ("key_stride", Long),
        ("tokens", Int),
        ("kv_heads", Int),
        ("dim", Int),
        ("page", Int),
        ("layout", Int),
        ("threads", Int),
    )


@functools.cache
def library() -> ctypes.CDLL:
    """Raises NotBuilt."""
    flags = (*FLAGS, WIDE) if platform.machine() == "x86_64" else FLAGS
    made_from = SOURCE.read_bytes() + " ".join(flags).encode() + _processor()
    path = Path(platformdirs.user_cache_dir("pointsman")) / f"sparse-{hashlib.sha256(made_from).hexdigest()[:16]}.so"
    if not path.exists():
        _build(flags, path)
    loaded = ctypes.CDLL(str(path))
    for name in ("pointsman_decode", "pointsman_widen"):
        getattr(loaded, name).restype = None
    return loaded


def _build(flags: tuple[str, ...], path: Path) -> None:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise NotBuilt("there is no C++ compiler; install g++, or name one with CXX")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / path.name
        command = [compiler, *flags, "-o", str(built), str(SOURCE)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=BUILD_TIMEOUT_SECONDS)  # noqa: S603
        except subprocess.CalledProcessError as error:
            raise NotBuilt(f"{compiler} failed: {error.stderr.strip()[-500:]}") from None
        except subprocess.TimeoutExpired:
            raise NotBuilt(f"{compiler} took more than {BUILD_TIMEOUT_SECONDS:.0f} s") from None
        built.replace(path)  # two processes may build it at once: each puts a whole file there


def _processor() -> bytes:
    """What -march=native depends on: a cache may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor().encode()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})).encode()


def layout_number(cache: Cache) -> int:
    return 0 if cache.layout == reference.TILES else LAYOUTS[cache.blocks.dtype]


def decode(
    query: torch.Tensor,
    cache: Cache,
    table: torch.Tensor,
    tokens: torch.Tensor,
    requests: torch.Tensor,
    lengths: torch.Tensor,
    pages: Pages,
    scale: float,
    output: torch.Tensor,
) -> torch.Tensor:
    """`reference.decode`, by the kernel. The index tensors are of 32 bits; a token's heads lie next to each other."""
    kv_heads, block, width = cache.blocks.shape[1:]
    read = torch.empty(len(tokens), kv_heads, pages.keep, dtype=torch.int32)
    step = Step(
        *(t.data_ptr() for t in (query, output, cache.blocks, cache.bounds, table, tokens, requests, lengths, read)),
        *(query.stride(0), output.stride(0), table.stride(0), cache.blocks.stride(0), cache.blocks.stride(1)),
        *(len(tokens), kv_heads, query.shape[1] // kv_heads, width // 2, block),
        *(cache.page_tokens, pages.keep, pages.sink, pages.recent, layout_number(cache), torch.get_num_threads()),
        scale,
    )
    library().pointsman_decode(ctypes.byref(step))
    return read


def widen(cache: Cache, key: torch.Tensor, slots: torch.Tensor) -> None:
    """`reference.widen` of the cache's bounds, by the kernel. *slots* are of 64 bits."""
    update = Update(
        *(key.data_ptr(), slots.data_ptr(), cache.bounds.data_ptr(), key.stride(0)),
        *(min(len(key), len(slots)), key.shape[1], key.shape[2], cache.page_tokens),
        *(layout_number(cache), torch.get_num_threads()),
    )
    library().pointsman_widen(ctypes.byref(update))
