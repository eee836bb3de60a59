"""Fixtures for all tests; all run on a CPU, without a network and without downloads, except those marked
``needs_cuda``.
"""

import hashlib
import heapq
import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml
from filelock import FileLock

from merc.compute.pool import Lost
from merc.log import logger

from .shared_hub import TOKEN, SharedHub

ROOT = Path(__file__).resolve().parents[1]
MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real MELD annotations and clips, named by MERC_REAL_DATA; the test is skipped without it."""
    folder = os.environ.get("MERC_REAL_DATA")
    if not folder:
        pytest.skip("MERC_REAL_DATA is not set: no real data to test on")
    return Path(folder)


def pytest_configure(config: pytest.Config) -> None:
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(config.rootpath / "pipeline"), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    config.addinivalue_line(
        "markers", "needs_cuda: runs on cuda:0; skipped without a GPU, fails there if FAIL_WITHOUT_CUDA=1"
    )
    config.addinivalue_line("markers", "durable: is about what a power cut leaves, and has the real os.fsync")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips tests marked ``needs_cuda`` where there is no GPU, or fails them, so that a test run meant for a GPU does
    not pass without one.
    """
    if item.get_closest_marker("needs_cuda") is None:
        return
    import torch

    if not torch.cuda.is_available():
        (pytest.fail if os.environ.get("FAIL_WITHOUT_CUDA") == "1" else pytest.skip)(
            "torch finds no GPU with CUDA here"
        )


@pytest.fixture(params=["cpu", pytest.param("cuda:0", marks=pytest.mark.needs_cuda)])
def device(request: pytest.FixtureRequest) -> str:
    """The CPU, and the GPU where there is one."""
    return str(request.param)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Returns the folder with a name; ``make(folder)`` fills it once per test run, in whichever process asks first.
    Copy it to change it.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "made-once"
    shared.mkdir(exist_ok=True)

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        whole, unfinished = shared / name, shared / f"{name}.unfinished"
        with FileLock(shared / f"{name}.lock"):
            if not whole.exists():
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(whole)
        return whole

    return folder


@pytest.fixture(scope="session")
def demo_settings() -> dict[str, Any]:
    """The block ``demo`` of the smallest corpus with every oddity, in very short clips."""
    return {
        "seed": 3,
        "meld_train_dialogues": 3,
        "meld_dev_dialogues": 1,
        "meld_test_dialogues": 2,
        "iemocap_dialogues": 6,
        "iemocap_turns": 8,
        "clip_seconds_min": 0.8,
        "clip_seconds_max": 0.9,
        "misleading_words": 0.25,
        "misleading_voice": 0.25,
        "misleading_face": 0.25,
        "unexpected_turns": 0.1,
    }


@pytest.fixture(scope="session")
def demonstration(made_once: MadeOnce, demo_settings: dict[str, Any]) -> Path:
    """A folder where ``merc-extract --modalities text`` found no corpus and made the demonstration with
    ``demo_settings``; its ``raw`` holds both corpora.
    """

    def make(folder: Path) -> None:
        settings = yaml.safe_load((ROOT / "params.yaml").read_text())
        (folder / "params.yaml").write_text(yaml.safe_dump({**settings, "demo": demo_settings}))
        command = [str(Path(sys.executable).parent / "merc-extract"), "--dataset", "demo-meld", "--modalities", "text"]
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
        assert made.returncode == 0, made.stderr

    return made_once("demonstration", make)


_FSYNC = os.fsync


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """No file of a test needs to survive a power cut, so none is flushed; on a slow disk flushing takes longer than
    everything else.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        yield


@pytest.fixture(autouse=True)
def _durable(request: pytest.FixtureRequest) -> Iterator[None]:
    """The real os.fsync for tests marked ``durable``."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("durable") is not None:
            patch.setattr(os, "fsync", _FSYNC)
        yield


@pytest.fixture(autouse=True)
def _untouched_log() -> Iterator[None]:
    """Restores the log: commands send it to stderr, bypassing pytest's ``caplog``, and ray stamps all records of the
    process.
    """
    before = logger.handlers[:], logger.level, logger.propagate
    factory = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(factory)
    logger.handlers[:], logger.level, logger.propagate = before


class _CrewHere:
    """Stands in for :class:`merc.compute.pool.Crew`: a task is done in this process when its outcome is requested, the
    heaviest first.
    """

    def __init__(self, function: Callable[[Any], Any], *_: object) -> None:
        self._function = function
        self._orders: list[tuple[float, int, Any]] = []

    def __enter__(self) -> "_CrewHere":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, key: int, task: Any, *, weight: float = 0.0, **_: object) -> None:
        heapq.heappush(self._orders, (-weight, key, task))

    def next_outcome(self) -> tuple[int, Any]:
        _, key, task = heapq.heappop(self._orders)
        try:
            return key, self._function(task)
        except Exception as error:
            return key, Lost("raised", traceback.format_exc(), error)


@pytest.fixture
def without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work of worker processes is done in this one, which has already imported everything: for tests that are about
    the work, not the processes.
    """
    monkeypatch.setattr("merc.compute.pool.Crew", _CrewHere)


class Hub(ThreadingHTTPServer):
    """A local server for the requests of huggingface_hub.

    Attributes:
        models: name → revision → file → content.
        gated: names of models whose files are refused.
        broken: names of files that are temporarily unavailable.
        sent: names of the files whose content was requested.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _HubRequest)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.models: dict[str, dict[str, dict[str, bytes]]] = {}
        self.gated: set[str] = set()
        self.broken: set[str] = set()
        self.sent: set[str] = set()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _HubRequest(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, with_content: bool) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        listing = parts[:2] == ["api", "models"]
        if not listing and "resolve" not in parts:  # the client also requests its own version
            return self._refuse(404, "")
        owner, name, _, revision, *rest = parts[2:] if listing else parts
        model = f"{owner}/{name}"
        if model not in self.server.models:
            return self._refuse(401, "RepoNotFound")
        if revision not in self.server.models[model]:
            return self._refuse(404, "RevisionNotFound")
        if model in self.server.gated:
            return self._refuse(403, "GatedRepo")
        files = self.server.models[model][revision]
        if listing:
            return self._send(
                json.dumps(
                    [
                        {"type": "file", "path": path, "size": len(data), "oid": _oid(data)}
                        for path, data in files.items()
                    ]
                ).encode()
            )
        file = "/".join(rest)
        if file not in files:
            return self._refuse(404, "EntryNotFound")
        headers = {"ETag": f'"{_oid(files[file])}"', "X-Repo-Commit": revision}
        if not with_content:
            return self._send(b"", headers | {"Content-Length": str(len(files[file]))})
        self.server.sent.add(file)
        return self._refuse(403, "") if file in self.server.broken else self._send(files[file], headers)

    def _refuse(self, status: int, code: str) -> None:
        self._send(b"", {"X-Error-Code": code, "X-Error-Message": code}, status)

    def _send(self, data: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)


def _oid(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub and of other publishers' files."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    return tmp_path / "hub"


@pytest.fixture
def hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub without models, for the real client with an empty cache."""
    running = Hub()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        running.address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    yield running
    running.close()


@pytest.fixture
def shared_hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedHub]:
    """A hub without repositories that the real client, logged in, pushes to and pulls from, with Git LFS and without
    delays between retries.
    """
    running = SharedHub()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for name, value in {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True, "ENDPOINT": running.address}.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        running.address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    for module in ("utils._http", "file_download"):
        monkeypatch.setattr(
            f"huggingface_hub.{module}.time", SimpleNamespace(**{**vars(time), "sleep": lambda _seconds: None})
        )
    yield running
    running.close()


@pytest.fixture
def hold() -> Iterator[Callable[[Path], "subprocess.Popen[str]"]]:
    """Starts a process that holds the lock of an output until it is killed or its input ends."""
    code = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from merc import lock
        with lock.held(Path(sys.argv[1])):
            print("held", flush=True)
            sys.stdin.read()
        """
    )
    processes = []

    def start(output: Path) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def _varint(value: int) -> bytes:
    return bytes([value & 127 | 128]) + _varint(value >> 7) if value > 127 else bytes([value])


def _field(number: int, value: int | str | bytes) -> bytes:
    """A field of a protobuf message: a number, or length-prefixed bytes."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _sface_like(weights: np.ndarray) -> bytes:
    """An ONNX model with SFace's input (1, 3, 112, 112): means over 28 x 28 pixels, flattened, multiplied by (numbers,
    48) weights.

    Numbers of the fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
    """

    def attribute(name: str, *values: int) -> bytes:  # AttributeProto: name 1, i 3, ints 8, type 20 (INT 2, INTS 7)
        numbers = (
            [_field(3, values[0]), _field(20, 2)]
            if len(values) == 1
            else [*(_field(8, value) for value in values), _field(20, 7)]
        )
        return _field(5, _field(1, name) + b"".join(numbers))

    def node(
        kind: str, inputs: Sequence[str], output: str, *attributes: bytes
    ) -> bytes:  # NodeProto: input 1, output 2, name 3, op_type 4, attribute 5
        names = b"".join(_field(1, name) for name in inputs)
        return _field(1, names + _field(2, output) + _field(3, output) + _field(4, kind) + b"".join(attributes))

    def about(
        name: str, *shape: int
    ) -> bytes:  # ValueInfoProto: name 1, type 2 → tensor_type 1 → elem_type 1 (FLOAT 1), shape 2 → dim 1 → dim_value 1
        dims = b"".join(_field(1, _field(1, size)) for size in shape)
        return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))

    # TensorProto: dims 1, data_type 2 (FLOAT 1), name 8, raw_data 9
    tensor = (
        b"".join(_field(1, size) for size in weights.shape)
        + _field(2, 1)
        + _field(8, "weights")
        + _field(9, weights.astype("<f4").tobytes())
    )
    graph = (
        node("AveragePool", ["data"], "means", attribute("kernel_shape", 28, 28), attribute("strides", 28, 28))
        + node("Flatten", ["means"], "flat", attribute("axis", 1))
        + node("Gemm", ["flat", "weights"], "fc1", attribute("transB", 1))
        + _field(2, "tiny")
        + _field(5, tensor)
        + _field(11, about("data", 1, 3, 112, 112))
        + _field(12, about("fc1", 1, weights.shape[0]))
    )
    return (
        _field(1, 7) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 11))
    )  # ModelProto: ir_version 1, graph 7, opset_import 8


@pytest.fixture(scope="session")
def sface_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``tiny.onnx``, a model with SFace's input and output, and ``weights.npy``, (128, 48)."""
    folder = tmp_path_factory.mktemp("sface")
    weights = np.random.default_rng(17).normal(size=(128, 48)).astype(np.float32)
    (folder / "tiny.onnx").write_bytes(_sface_like(weights))
    np.save(folder / "weights.npy", weights)
    return folder
