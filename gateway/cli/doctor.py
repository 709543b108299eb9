"""pointsman doctor: what this machine has, what it lacks, and how to get it."""

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec

from rich.markup import escape

from gateway.cli.models import is_here, weights_bytes
from gateway.cli.screen import console
from gateway.served import served_catalog
from gateway.settings import load_settings
from models.catalog import CHECKPOINT_ENGINES
from models.torch_python import NoTorch, torch_python
from models.vllm.hardware import find_hardware

GIBIBYTE = 2**30
LEAST_PYTHON = (3, 11)
WORKING_MEMORY_BYTES = GIBIBYTE  # beside the weights: caches of two engines and the gateway itself

NEED_TORCH = ("torch", "transformers")

# module -> (extra, what it is for)
EXTRAS = {
    "xllamacpp": ("llamacpp", "runs GGUF models on this machine"),
    "wordllama": ("embedder", "makes embeddings on this machine"),
    "litellm": ("litellm", "calls hosted providers"),
    "sklearn": ("fit", "learns difficulty from outcomes"),
    "psycopg": ("postgres", "keeps the ledger in PostgreSQL"),
    "redis": ("redis", "shares limits between replicas"),
    "opentelemetry.sdk": ("otel", "sends traces"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` is empty when all is well; `needed` says whether serving depends on it."""

    subject: str
    found: str
    remedy: str = ""
    needed: bool = True


def doctor() -> None:
    """Say what this machine has and lacks for Pointsman, and how to get it; exit status 1 if serving cannot work."""
    findings = [_python(), _memory(), _disk(), _weights(), _engine_wheel(), _torch(), _gpu(), *_extras()]
    for finding in findings:
        mark = "[green]ok  [/]" if not finding.remedy else "[bold red]lack[/]" if finding.needed else "[yellow]opt [/]"
        console.print(f"{mark} {finding.subject:<14} {escape(finding.found)}", highlight=False, soft_wrap=True)
        if finding.remedy:
            console.print(f"     {'':<14} -> {finding.remedy}", highlight=False, markup=False, soft_wrap=True)
    sys.exit(1 if any(f.remedy and f.needed for f in findings) else 0)


def _python() -> Finding:
    remedy = "" if sys.version_info >= LEAST_PYTHON else "install Python 3.11 or newer"
    return Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", remedy)


def _memory() -> Finding:
    served_bytes = sum(map(weights_bytes, served_catalog(load_settings())))
    need_bytes = 2 * served_bytes + WORKING_MEMORY_BYTES  # llama.cpp repacks 4-bit weights for the processor
    try:
        have_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return Finding("memory", "unknown on this system")
    remedy = "serve fewer or smaller models: POINTSMAN_MODELS" if have_bytes < need_bytes else ""
    have, need = f"{have_bytes / GIBIBYTE:.1f} GiB", f"{need_bytes / GIBIBYTE:.1f} GiB"
    found = f"{have}, {os.cpu_count()} cores; the served models need about {need}"
    return Finding("memory", found, remedy)


def _disk() -> Finding:
    settings = load_settings()
    folder = settings.cache_dir
    while not folder.exists():
        folder = folder.parent
    free_bytes = shutil.disk_usage(folder).free
    missing_bytes = sum(weights_bytes(m) for m in served_catalog(settings) if not is_here(settings, m))
    remedy = "free some space, or set POINTSMAN_CACHE_DIR to a larger disk" if free_bytes < missing_bytes else ""
    found = (
        f"{free_bytes / GIBIBYTE:.1f} GiB free at {settings.cache_dir}, {missing_bytes / GIBIBYTE:.1f} still to fetch"
    )
    return Finding("disk", found, remedy)


def _weights() -> Finding:
    settings = load_settings()
    missing = [m.name for m in served_catalog(settings) if weights_bytes(m) and not is_here(settings, m)]
    remedy = "pointsman models pull (pointsman serve does it too)" if missing else ""
    return Finding("weights", f"missing: {', '.join(missing)}" if missing else "all here", remedy, needed=False)


def _engine_wheel() -> Finding:
    local = [m.name for m in served_catalog(load_settings()) if m.engine == "llamacpp"]
    if not local or find_spec("xllamacpp"):
        return Finding("llama.cpp", "installed" if local else "not needed: no served model runs on it")
    return Finding("llama.cpp", "not installed", ".venv/bin/pip install -e '.[llamacpp]'")


def _torch() -> Finding:
    """Needed only where a served model is loaded by it; the commands that make models smaller need it too."""
    settings = load_settings()
    needed = [m.name for m in served_catalog(settings) if m.engine in CHECKPOINT_ENGINES]
    purpose = f"runs {', '.join(needed)}" if needed else "runs vLLM and transformers, and makes models smaller"
    try:
        return Finding("torch", f"{torch_python(NEED_TORCH, settings.torch_python)}, {purpose}")
    except NoTorch as error:
        return Finding("torch", purpose, str(error), needed=bool(needed))


def _gpu() -> Finding:
    found = find_hardware()
    if found.platform == "cpu":
        return Finding("GPU", "none found; models run on the processor")
    memory = f"{found.memory_bytes / GIBIBYTE:.0f} GiB, compute capability {'.'.join(map(str, found.capability))}"
    return Finding("GPU", f"{found.devices} x {found.name}, {memory}")


def _extras() -> list[Finding]:
    findings = []
    for module, (extra, purpose) in EXTRAS.items():
        try:
            here = find_spec(module) is not None
        except ModuleNotFoundError:  # the parent package is missing
            here = False
        remedy = "" if here else f".venv/bin/pip install -e '.[{extra}]'"
        findings.append(Finding(f"extra {extra}", purpose, remedy, needed=False))
    return findings
