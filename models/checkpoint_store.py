"""The store's folders of weights: made or fetched into a temporary folder, checked whole, then moved into their place.

The digest decides, not the source, as for the store's files. Synchronous; what needs torch runs in the Python that has
it. A pull that was interrupted is begun anew, except that a snapshot's whole files are kept.
"""

import contextlib
import http.client
import os
import shutil
from pathlib import Path
from urllib.parse import quote

import orjson

from models import job
from models.checkpoint import CONTENT, PICKLES, CheckpointError, Facts, check, contents, digest, size_bytes
from models.job import JobFailed, Step
from models.store import (
    DISK_FULL,
    ModelStore,
    NotEnoughSpace,
    NotInStore,
    OnProgress,
    Progress,
    PullFailed,
    SourceFailed,
    StoreError,
    WrongDigest,
    human,
    locked,
    read_hub,
    reason_of,
)
from models.torch_python import NoTorch, torch_python
from models.weights import (
    Checkpoint,
    CheckpointSource,
    CommandSource,
    FolderSource,
    GgufSource,
    HubSource,
    SnapshotSource,
    WeightsFile,
)

GGUF_MODULES = ("torch", "transformers", "gguf")
LISTING_LIMIT_BYTES = 4 << 20  # a repository of some thousand files
DOCUMENT_LIMIT_BYTES = 64 << 20  # what is no weights: the largest tokenizers are 35 MB


class CheckpointStore:
    """Below the store's root: `checkpoints/<digest>` are whole, checked, read-only folders.

    *python*: the named interpreter for what needs torch; see `models.torch_python`.
    """

    def __init__(self, store: ModelStore, python: Path | None = None) -> None:
        self._store = store
        self._python = python

    def path(self, checkpoint: Checkpoint) -> Path:
        return self._store.root / "checkpoints" / checkpoint.sha256

    def has(self, checkpoint: Checkpoint) -> bool:
        """Cheap: there, and of the right size. `verify` reads the bytes."""
        path = self.path(checkpoint)
        return path.is_dir() and size_bytes(path) == checkpoint.size_bytes

    def verify(self, checkpoint: Checkpoint) -> Path:
        """Read all of it and return its path. Raises NotInStore; WrongDigest after deleting what was there."""
        path = self.path(checkpoint)
        if not path.is_dir():
            raise NotInStore(f"{path}: not in the store; `pointsman models pull NAME` makes or fetches it")
        found, _ = digest(path)
        if found != checkpoint.sha256:
            _delete(path)
            raise WrongDigest(f"{path}: has digest {found}; deleted, `pointsman models pull NAME` brings it back")
        return path

    def pull(self, checkpoint: Checkpoint, on_progress: OnProgress = lambda _: None, *, chats: bool = True) -> Path:
        """The path of *checkpoint*, made or fetched by the first source that can. Raises PullFailed, NotEnoughSpace.

        *chats*: without a chat template it is refused. Of two processes the second waits, and then finds the folder.
        """
        if self.has(checkpoint):
            return self.path(checkpoint)
        partials = self._store.root / "partial"
        try:
            partials.mkdir(parents=True, exist_ok=True)
            self.path(checkpoint).parent.mkdir(exist_ok=True)
            with locked(partials / f"{checkpoint.sha256}.lock"):
                if not self.has(checkpoint):
                    self._pull_from_any(checkpoint, partials, on_progress, chats)
        except OSError as error:
            raise PullFailed(
                f"{self._store.root}: cannot be used: {error}; POINTSMAN_CACHE_DIR names another folder"
            ) from error
        return self.path(checkpoint)

    def adopt(self, folder: Path, *, chats: bool = True) -> Checkpoint:
        """Move the finished *folder*, whose papers (README.md) stay with it, into the store; what a command made.

        The checkpoint names no way to get it again: the caller adds a source. Raises CheckpointError, OSError.
        """
        check(folder, chats=chats)
        sha256, size = digest(folder)
        checkpoint = Checkpoint(sha256=sha256, size_bytes=size, sources=(FolderSource(folder=str(folder)),))
        self.path(checkpoint).parent.mkdir(parents=True, exist_ok=True)
        self._keep(folder, checkpoint)
        return checkpoint

    def _pull_from_any(self, checkpoint: Checkpoint, partials: Path, on_progress: OnProgress, chats: bool) -> None:
        failures = []
        for source in checkpoint.sources:
            partial = partials / f"{checkpoint.sha256}.checkpoint"
            self._check_space(checkpoint.size_bytes - (size_bytes(partial) if partial.is_dir() else 0))
            try:
                self._bring(source, partial, checkpoint, on_progress)
                check(partial, chats=chats)
                self._check_digest(partial, checkpoint)
                self._keep(partial, checkpoint)
                return
            except (SourceFailed, CheckpointError, JobFailed, NoTorch, StoreError) as error:
                failures.append(f"  {label(source)}: {error}")
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, OSError) and error.errno in DISK_FULL:
                    self._check_space(checkpoint.size_bytes)
                failures.append(f"  {label(source)}: {reason_of(error)}")
            if not isinstance(source, SnapshotSource):
                _delete(partial)
        raise PullFailed("\n".join([f"no source gave the checkpoint {checkpoint.sha256}", *failures]))

    def _bring(self, source: CheckpointSource, partial: Path, checkpoint: Checkpoint, on_progress: OnProgress) -> None:
        """Fill the folder *partial*."""
        match source:
            case GgufSource():
                self._make_of_gguf(source, partial, checkpoint.size_bytes, on_progress)
            case SnapshotSource():
                _fetch_snapshot(source, partial, checkpoint.size_bytes, on_progress)
            case FolderSource():
                _copy(Path(source.folder).expanduser(), partial, label(source), on_progress)
            case CommandSource():
                raise SourceFailed(f"it is made on this machine, by: {source.command}")

    def _make_of_gguf(self, source: GgufSource, partial: Path, total_bytes: int, on_progress: OnProgress) -> None:
        python = torch_python(GGUF_MODULES, self._python)
        gguf = self._store.pull(source.gguf, on_progress)
        _delete(partial)

        def tell(step: Step) -> None:
            share = step.done / step.total if step.total else 0.0
            on_progress(Progress(f"{label(source)}: {step.what}", int(share * total_bytes), total_bytes))

        settings = {"gguf": str(gguf), "folder": str(partial), "dtype": source.dtype}
        job.run(python, "models.checkpoint_of_gguf", settings, tell)

    def _check_digest(self, partial: Path, checkpoint: Checkpoint) -> None:
        found, size = digest(partial)
        if found != checkpoint.sha256:
            raise SourceFailed(
                f"gave other bytes: digest {found}, {size} bytes; the catalogue says {checkpoint.sha256},"
                f" {checkpoint.size_bytes} bytes. If you trust them, write these two into the row"
            )

    def _keep(self, folder: Path, checkpoint: Checkpoint) -> None:
        for path in folder.iterdir():
            if path.is_file():
                path.chmod(0o444)  # engines map the files: nothing may write to them
                with path.open("rb") as written:
                    os.fsync(written.fileno())
        place = self.path(checkpoint)
        if place.is_dir():  # of another size, or the same made again
            _delete(place)
        os.replace(folder, place)

    def _check_space(self, needed_bytes: int) -> None:
        free_bytes = shutil.disk_usage(self._store.root).free
        if free_bytes < needed_bytes:
            raise NotEnoughSpace(
                f"{self._store.root}: {human(needed_bytes)} needed, {human(free_bytes)} free; make room,"
                " or set POINTSMAN_CACHE_DIR to a folder on a larger disk, and pull again"
            )


def label(source: CheckpointSource) -> str:
    match source:
        case GgufSource():
            return f"GGUF {source.gguf.sha256[:12]} as {source.dtype}"
        case SnapshotSource():
            return f"hub {source.snapshot}@{source.revision[:12]}"
        case FolderSource():
            return f"folder {source.folder}"
        case CommandSource():
            return "command"


def facts_in(store: CheckpointStore, checkpoint: Checkpoint) -> Facts:
    """What engines must know of a checkpoint that is here. Raises CheckpointError."""
    return check(store.path(checkpoint), chats=False)


def _copy(folder: Path, partial: Path, source: str, on_progress: OnProgress) -> None:
    """The contents of *folder*, after a look at whether they can be used at all. Raises CheckpointError, OSError."""
    check(folder, chats=False)
    _delete(partial)
    partial.mkdir()
    total_bytes, done_bytes = size_bytes(folder), 0
    for path in contents(folder):
        shutil.copyfile(path, partial / path.name)
        done_bytes += path.stat().st_size
        on_progress(Progress(source, done_bytes, total_bytes))


def _fetch_snapshot(source: SnapshotSource, partial: Path, total_bytes: int, on_progress: OnProgress) -> None:
    """Those files of the repository that belong to a checkpoint; the whole ones that are here already stay."""
    repository = f"{quote(source.snapshot)}/{{}}/{quote(source.revision, safe='')}"
    try:
        listing = orjson.loads(read_hub(f"api/models/{repository.format('tree')}", LISTING_LIMIT_BYTES))
        files = [one for one in listing if one["type"] == "file"]
        names = [str(one["path"]) for one in files]
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise SourceFailed("the hub's list of its files cannot be read") from error
    if not any(name.endswith(".safetensors") for name in names):
        pickles = [name for name in names if Path(name).suffix in PICKLES]
        remedy = "look for a revision or a conversion that has them; a pickle runs whatever code is in it"
        raise SourceFailed(f"has no safetensors{f', only {pickles[0]}' if pickles else ''}: {remedy}")
    partial.mkdir(exist_ok=True)
    done_bytes = 0
    for one in files:
        name = str(one["path"])
        if "/" in name or Path(name).suffix not in CONTENT:
            continue
        at = partial / name
        if one.get("lfs"):
            weights = HubSource(hub=source.snapshot, filename=name, revision=source.revision)
            file = WeightsFile(sha256=one["lfs"]["oid"], size_bytes=one["lfs"]["size"], sources=(weights,))
            if not at.is_file():
                ahead = _part_of(on_progress, done_bytes, total_bytes)
                os.replace(ModelStore(partial / "files").pull(file, ahead), at)
        elif not at.is_file():
            at.write_bytes(read_hub(f"{repository.format('resolve')}/{quote(name)}", DOCUMENT_LIMIT_BYTES))
        done_bytes += at.stat().st_size
        on_progress(Progress(label(source), done_bytes, total_bytes))
    _delete(partial / "files")


def _part_of(on_progress: OnProgress, before_bytes: int, total_bytes: int) -> OnProgress:
    """That of one file, told as a part of all: *before_bytes* are done."""
    return lambda told: on_progress(Progress(told.source, before_bytes + told.done_bytes, total_bytes))


def _delete(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
