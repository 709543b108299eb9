"""What this machine computes with: GPUs of NVIDIA's as their driver tells of them, else the processor."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ASK = ("--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits")
ASK_TIMEOUT_SECONDS = 20.0  # a driver that was not used for a while takes some seconds to wake
MEBIBYTE = 2**20

Platform = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Hardware:
    """`memory_bytes` of one device; `capability` of a GPU in NVIDIA's words, (9, 0) of an H100."""

    platform: Platform
    memory_bytes: int
    devices: int = 1
    cores: int = 1
    capability: tuple[int, int] = (0, 0)
    name: str = ""


# For a machine that is not this one.
TYPICAL: Mapping[str, Hardware] = {
    "cpu": Hardware("cpu", 64 * 2**30, cores=8, name="a processor of 8 cores, 64 GiB"),
    "cuda": Hardware("cuda", 80 * 2**30, cores=16, capability=(9, 0), name="NVIDIA H100"),
}


def find_hardware() -> Hardware:
    """Takes a tenth of a second where there is a GPU."""
    return _gpus() or processor()


def _gpus() -> Hardware | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        told = subprocess.run(  # noqa: S603  # a list, no shell
            [program, *ASK], capture_output=True, text=True, timeout=ASK_TIMEOUT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None  # a driver without a device
    return gpus_told(told.stdout, os.cpu_count() or 1)


def gpus_told(text: str, cores: int) -> Hardware | None:
    """What nvidia-smi wrote; None where it tells of no device. Of several unlike ones, the weakest."""
    found = []
    for line in text.splitlines():
        name, memory, capability = (part.strip() for part in [*line.split(","), "", ""][:3])
        major, _, minor = capability.partition(".")
        if memory.isdecimal() and major.isdecimal() and minor.isdecimal():
            found.append((int(memory) * MEBIBYTE, (int(major), int(minor)), name))
    if not found:
        return None
    memory_bytes, capability_of, _ = min(found)
    return Hardware("cuda", memory_bytes, len(found), cores, min(capability_of, *(c for _, c, _ in found)), found[0][2])


def processor() -> Hardware:
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Hardware("cpu", memory_bytes, cores=len(os.sched_getaffinity(0)))
