"""The store of checkpoints: whatever goes wrong, its place holds the whole folder or nothing."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest

from models import checkpoint_store, job
from models.checkpoint import of_folder
from models.checkpoint_store import CheckpointStore
from models.job import JobFailed
from models.store import ModelStore, NotEnoughSpace, NotInStore, PullFailed, WrongDigest
from models.weights import (
    Checkpoint,
    CheckpointSource,
    CommandSource,
    FolderSource,
    GgufSource,
    SnapshotSource,
    UrlSource,
    WeightsFile,
)
from tests.models.checkpoints import write_checkpoint


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(ModelStore(tmp_path / "store"))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = write_checkpoint(tmp_path / "made")
    (folder / "README.md").write_text("papers", encoding="utf-8")
    (folder / "modeling.py").write_text("raise SystemExit", encoding="utf-8")
    return folder


def from_folder(folder: Path) -> Checkpoint:
    return of_folder(folder, FolderSource(folder=str(folder)))


def places(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "store" / "checkpoints").glob("*"))


def leftovers(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "store" / "partial").rglob("*") if path.suffix != ".lock")


# A folder of this machine


def test_a_folder_is_copied_whole_without_code_and_papers(store: CheckpointStore, made: Path, tmp_path: Path) -> None:
    checkpoint, seen = from_folder(made), list[tuple[int, int]]()
    path = store.pull(checkpoint, lambda told: seen.append((told.done_bytes, told.total_bytes)))

    assert store.has(checkpoint)
    assert store.verify(checkpoint) == path
    assert sorted(one.name for one in path.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert not any(os.access(one, os.W_OK) and one.stat().st_mode & 0o222 for one in path.iterdir())
    assert seen[-1] == (checkpoint.size_bytes, checkpoint.size_bytes)
    assert leftovers(tmp_path) == []


def test_the_second_pull_reads_nothing(store: CheckpointStore, made: Path) -> None:
    checkpoint = from_folder(made)
    store.pull(checkpoint)
    shutil.rmtree(made)

    assert store.pull(checkpoint) == store.path(checkpoint)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        pytest.param(
            lambda f: (f / "config.json").write_text('{"architectures": ["X"]}'), "gave other bytes", id="other"
        ),
        pytest.param(lambda f: (f / "tokenizer.json").unlink(), "no tokenizer", id="no tokenizer"),
        pytest.param(lambda f: (f / "chat_template.jinja").unlink(), "no chat template", id="no template"),
        pytest.param(lambda f: (f / "model.safetensors").rename(f / "model.bin"), "pickle", id="pickle"),
        pytest.param(lambda f: (f / "model.safetensors").write_bytes(b"\1" * 9), "cut short", id="truncated"),
        pytest.param(shutil.rmtree, "no such folder", id="gone"),
    ],
)
def test_what_is_not_the_checkpoint_is_refused_and_nothing_is_kept(
    store: CheckpointStore, made: Path, tmp_path: Path, spoil: Callable[[Path], object], told: str
) -> None:
    checkpoint = from_folder(made)
    spoil(made)
    with pytest.raises(PullFailed, match=told):
        store.pull(checkpoint)

    assert not store.has(checkpoint)
    assert (places(tmp_path), leftovers(tmp_path)) == ([], [])


def test_the_next_source_is_asked_when_one_fails(store: CheckpointStore, made: Path) -> None:
    folder = FolderSource(folder=str(made))
    checkpoint = of_folder(made, CommandSource(command="pointsman models quantize x"), folder)

    assert store.pull(checkpoint).is_dir()


def test_what_a_command_makes_is_told_with_the_command(store: CheckpointStore, made: Path) -> None:
    checkpoint = of_folder(made, CommandSource(command="pointsman models quantize small --scheme w8a8"))
    with pytest.raises(PullFailed, match="pointsman models quantize small --scheme w8a8"):
        store.pull(checkpoint)


def test_an_adopted_folder_is_moved_into_its_place(store: CheckpointStore, made: Path) -> None:
    expected = from_folder(made).sha256
    checkpoint = store.adopt(made)

    assert checkpoint.sha256 == expected
    assert store.verify(checkpoint).is_dir()
    assert not made.exists()


def test_a_full_disk_is_told_before_anything_is_written(
    store: CheckpointStore, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(NotEnoughSpace, match="POINTSMAN_CACHE_DIR"):
        store.pull(from_folder(made))

    assert (places(tmp_path), leftovers(tmp_path)) == ([], [])


def test_an_interrupted_copy_leaves_its_place_empty_and_the_next_pull_mends_it(
    store: CheckpointStore, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(shutil, "copyfile", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.pull(from_folder(made))
    assert places(tmp_path) == []

    assert store.pull(from_folder(made)).is_dir()
    assert leftovers(tmp_path) == []


def _interrupted(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes()[:3])
    raise KeyboardInterrupt


def test_verify_deletes_what_was_changed(store: CheckpointStore, made: Path) -> None:
    checkpoint = from_folder(made)
    with pytest.raises(NotInStore):
        store.verify(checkpoint)
    config = store.pull(checkpoint) / "config.json"
    config.chmod(0o644)
    config.write_text(config.read_text().replace("llama", "LLAMA"), encoding="utf-8")
    with pytest.raises(WrongDigest, match="deleted"):
        store.verify(checkpoint)

    assert not store.has(checkpoint)


# A GGUF file: the work itself is tested where torch is


def gguf_of(made: Path, tmp_path: Path) -> Checkpoint:
    content = b"GGUF"
    (tmp_path / "weights.gguf").write_bytes(content)
    source = UrlSource(url=(tmp_path / "weights.gguf").as_uri())
    file = WeightsFile(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content), sources=(source,))
    return of_folder(made, GgufSource(gguf=file))


def test_without_torch_the_remedy_is_told(store: CheckpointStore, made: Path, tmp_path: Path) -> None:
    with pytest.raises(PullFailed, match=r"torch.*make torch.*POINTSMAN_TORCH_PYTHON"):
        CheckpointStore(ModelStore(tmp_path / "store")).pull(gguf_of(made, tmp_path))


def test_the_python_that_has_torch_makes_it_of_a_gguf_file(
    store: CheckpointStore, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def run(python: Path, module: str, settings: dict[str, Any], on_step: Callable[[job.Step], None]) -> dict[str, Any]:
        asked.append((module, settings))
        on_step(job.Step("writing", 1, 3))
        shutil.copytree(made, settings["folder"])
        return {}

    monkeypatch.setattr(checkpoint_store, "torch_python", lambda modules, named: Path("python"))
    monkeypatch.setattr(job, "run", run)
    seen: list[str] = []
    path = store.pull(gguf_of(made, tmp_path), lambda told: seen.append(told.source))

    [(module, settings)] = asked
    assert module == "models.checkpoint_of_gguf"
    assert Path(settings["gguf"]).read_bytes() == b"GGUF"
    assert settings["dtype"] == "bfloat16"
    assert any("writing" in source for source in seen)
    assert path.is_dir()


def test_a_job_that_fails_is_told_and_leaves_nothing(
    store: CheckpointStore, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(python: Path, module: str, settings: dict[str, Any], on_step: object) -> dict[str, Any]:
        (Path(settings["folder"])).mkdir()
        (Path(settings["folder"]) / "config.json").write_text("half", encoding="utf-8")
        raise JobFailed("transformers cannot make weights of this GGUF file: Llama17 is not known")

    monkeypatch.setattr(checkpoint_store, "torch_python", lambda modules, named: Path("python"))
    monkeypatch.setattr(job, "run", run)
    with pytest.raises(PullFailed, match="Llama17"):
        store.pull(gguf_of(made, tmp_path))

    assert (places(tmp_path), leftovers(tmp_path)) == ([], [])


# A snapshot of the hub


class Hub(NamedTuple):
    """`folder` is what the repository r/m holds; `asked` are the paths, in order."""

    folder: Path
    asked: list[str]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found = Hub(write_checkpoint(tmp_path / "hub"), [])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            body = _listing(found.folder) if self.path.startswith("/api/") else _file(found.folder, self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listing(folder: Path) -> bytes:
    items: list[dict[str, Any]] = [{"type": "directory", "path": "onnx"}]
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}
        items.append({"type": "file", "path": path.name, "size": len(content)})
        if path.suffix in (".safetensors", ".bin"):
            items[-1]["lfs"] = lfs
    return json.dumps(items).encode()


def _file(folder: Path, path: str) -> bytes:
    return (folder / path.rpartition("/")[2]).read_bytes()


def snapshot(folder: Path) -> Checkpoint:
    return of_folder(folder, SnapshotSource(snapshot="r/m", revision="abc123"))


def test_a_snapshot_is_fetched_at_its_revision_without_pickles(
    store: CheckpointStore, hub: Hub, tmp_path: Path
) -> None:
    checkpoint = snapshot(hub.folder)
    (hub.folder / "pytorch_model.bin").write_bytes(b"pickle")
    (hub.folder / "README.md").write_text("card", encoding="utf-8")
    path = store.pull(checkpoint)

    assert store.verify(checkpoint) == path
    assert hub.asked[0] == "/api/models/r/m/tree/abc123"
    assert "/r/m/resolve/abc123/model.safetensors" in hub.asked
    assert not [one for one in hub.asked if one.endswith((".bin", ".md"))]
    assert leftovers(tmp_path) == []


def test_a_repository_of_pickles_alone_is_refused_before_one_is_fetched(store: CheckpointStore, hub: Hub) -> None:
    checkpoint = snapshot(hub.folder)
    (hub.folder / "model.safetensors").rename(hub.folder / "pytorch_model.bin")
    with pytest.raises(PullFailed, match=r"no safetensors, only pytorch_model\.bin"):
        store.pull(checkpoint)

    assert hub.asked == ["/api/models/r/m/tree/abc123"]


def test_a_snapshot_that_broke_off_keeps_its_whole_files(store: CheckpointStore, hub: Hub) -> None:
    checkpoint = snapshot(hub.folder)
    (hub.folder / "tokenizer.json").rename(hub.folder.parent / "away")
    with pytest.raises(PullFailed, match="no tokenizer"):
        store.pull(checkpoint)
    (hub.folder.parent / "away").rename(hub.folder / "tokenizer.json")
    hub.asked.clear()

    assert store.verify(checkpoint) if store.pull(checkpoint) else False
    assert hub.asked == ["/api/models/r/m/tree/abc123", "/r/m/resolve/abc123/tokenizer.json"]


def test_a_list_that_is_none_is_a_failure_of_the_source(store: CheckpointStore, hub: Hub, made: Path) -> None:
    (hub.folder / "model.safetensors").unlink()
    sources: list[CheckpointSource] = [SnapshotSource(snapshot="r/m", revision="a"), FolderSource(folder=str(made))]

    assert store.pull(of_folder(made, *sources)).is_dir()
