"""What every executor promises, and what only a cluster can get wrong. The cluster is real: Ray nodes on this machine,
each with its own processes.
"""

import importlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from merc import timing
from merc.commands.extract import main as extract
from merc.commands.train import main as train
from merc.compute.executors.base import Executor, Listed, Parts, Share, choose
from merc.compute.executors.local import Local
from merc.compute.executors.node import Order
from merc.errors import BadCluster, BadSettings, CannotWrite, ModelUnavailable, PipelineError
from merc.job import RunConfig, RunOptions
from merc.params import Params

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent
PATHS = os.pathsep.join([str(HERE), str(ROOT / "pipeline")])
Work = Callable[..., Any]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with one core each; the folder of the sockets has a short name, since socket paths must be short."""
    import ray
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    (
        Path(folder) / "ray"
    ).mkdir()  # where the address of the last cluster is written; Cluster assumes that the folder exists
    quiet = {
        "PYTHONPATH": PATHS,
        "RAY_TMPDIR": folder,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "OMP_NUM_THREADS": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in quiet.items():
            patch.setenv(name, value)
        made = Cluster(
            initialize_head=True, head_node_args={**_node("first"), "include_dashboard": False, "temp_dir": folder}
        )
        made.add_node(**_node("second"))
        yield made
        ray.shutdown()
        made.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def _node(name: str, **env: str) -> dict[str, Any]:
    return {"num_cpus": 1, "object_store_memory": 80 << 20, "node_name": name, "env_vars": {"TEST_NODE": name, **env}}


@pytest.fixture
def on_ray(cluster: Any) -> Executor:
    return choose(RunOptions(executor="ray", address=cluster.address, device="cpu"))


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def executor(request: pytest.FixtureRequest) -> Executor:
    executor: Executor = Local(1, "cpu") if request.param == "local" else request.getfixturevalue("on_ray")
    return executor


@pytest.fixture
def squares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Creates the work of ``works.py`` in an empty folder."""
    monkeypatch.syspath_prepend(str(HERE))
    (tmp_path / "out").mkdir()
    kind = importlib.import_module("works").Squaring
    return lambda **how: kind(tmp_path / "out", **how)


def _do(executor: Executor, work: Any, parts: Parts, advance: Callable[[int], object] = int) -> dict[int, int]:
    found: dict[int, int] = {}
    for index, facts in executor.map(work, parts, advance):
        assert index not in found
        found[index] = facts
    return found


def _files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_every_part_is_done_once_and_all_progress_is_reported(executor: Executor, squares: Work) -> None:
    counts: list[int] = []
    assert _do(executor, work := squares(), Listed(range(7)), counts.append) == {index: index**2 for index in range(7)}
    assert _files(work.home) == {str(index): str(index**2) for index in range(7)}
    assert sum(counts) == 70


def test_no_parts_are_no_work(executor: Executor, squares: Work) -> None:
    assert _do(executor, squares(), Listed(())) == {}


class Dripping:
    """Yields each part only when the previous one is done; an executor that waits for more parts than can exist would
    hang in practice, and fails here.
    """

    def __init__(self, count: int) -> None:
        self.count, self.given, self.done = count, 0, 0

    def take(self, *, wait: bool) -> int | None:
        if self.given == self.count:
            return None
        if self.given > self.done:
            assert not wait, "waits for a part while another is in progress"
            return None
        self.given += 1
        return self.given - 1


def test_parts_may_come_one_by_one(executor: Executor, squares: Work) -> None:
    parts = Dripping(4)
    for _ in executor.map(squares(), parts, int):
        parts.done += 1
    assert parts.done == 4


def test_what_the_work_logs_is_logged_here_once(
    executor: Executor, squares: Work, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("merc"), "propagate", True)
    caplog.set_level(logging.INFO, "merc")
    _do(executor, squares(), Listed(range(3)))
    messages = [record.getMessage() for record in caplog.records if getattr(record, "stage", "") == "squares/small"]
    assert sorted(set(messages)) == ["nothing is left", *[f"part {index} is squared" for index in range(3)]]
    assert len([one for one in messages if one != "nothing is left"]) == 3


def test_an_error_that_users_can_mend_comes_as_it_was_raised(executor: Executor, squares: Work) -> None:
    with pytest.raises(BadSettings, match=r"squares\.small: clip 3 cannot be squared") as raised:
        _do(executor, squares(errands={2: "settings"}), Listed(range(4)))
    assert raised.value.exit_code == 2


def test_any_other_error_comes_as_it_was_raised(executor: Executor, squares: Work) -> None:
    with pytest.raises(LookupError, match="no such square"):
        _do(executor, squares(errands={0: "unexpected"}), Listed(range(2)))


def test_what_cannot_be_opened_is_known_before_the_first_part(executor: Executor, squares: Work) -> None:
    with pytest.raises(BadSettings, match="cannot be squared"):
        executor.map(squares(opening="settings"), Listed(range(2)), int)


def test_what_is_closed_early_does_no_more(executor: Executor, squares: Work) -> None:
    work = squares(errands=dict.fromkeys(range(2, 20), "wait"))
    results = executor.map(work, Listed(range(20)), int)
    next(results)
    results.close()
    before = _files(work.home)
    time.sleep(0.3)
    assert _files(work.home) == before
    assert not set(before) - {"0", "1"}


def test_what_is_closed_before_its_first_part_leaves_nothing(executor: Executor, squares: Work) -> None:
    work = squares()
    executor.map(work, Listed(range(3)), int).close()
    assert _files(work.home) == {}


def test_only_tokens_of_the_same_work_are_taken_for_left_behind(tmp_path: Path) -> None:
    module = importlib.import_module("merc.compute.executors.ray")
    word, others = "0" * 32, {f".ray-mmgcn-small-{'1' * 32}", f".ray-mmgcn+dclf-{'2' * 32}"}
    for name in (f".ray-mmgcn-{'3' * 32}", *others):
        (tmp_path / name).touch()
    token = tmp_path / f".ray-mmgcn-{word}"
    module._put_down(Order(b"", {}, token, word, tmp_path, Share(1, "cpu"), 1))
    assert _files(tmp_path) == {**dict.fromkeys(others, ""), token.name: word}


def test_without_ray_its_extra_is_named(squares: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadSettings, match=r'pip install "merc-pipeline\[ray\]"') as raised:
        choose(RunOptions(executor="ray", address="local")).map(squares(), Listed(()), int)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("command", [extract, train])
def test_an_address_that_is_invalid_is_refused(command: Any) -> None:
    for given, words in (("ray://head:10001", "valid: auto, local, HOST:PORT"), ("head", "valid: auto")):
        refused = CliRunner().invoke(command, ["--executor", "ray", "--address", given])
        assert (refused.exit_code, words in refused.stderr) == (2, True), refused.stderr


def test_an_address_without_a_cluster_to_use_it_is_refused() -> None:
    with pytest.raises(BadSettings, match="only --executor ray has an address"):
        RunOptions.of(Params({}), address="local")


def test_the_command_line_wins_over_the_settings() -> None:
    params = Params({"run": {"executor": "ray", "address": "head:6379", "cores_per_worker": 8}})
    assert (RunOptions.of(params).address, RunOptions.of(params).cores_per_worker) == ("head:6379", 8)
    assert RunOptions.of(params, None, "local").executor == "local"
    assert RunOptions.of(params, None, None, "auto").address == "auto"
    with pytest.raises(BadSettings, match=r"run\.address.*HOST:PORT"):
        Params({"run": {"address": "head"}}).fill("run", RunConfig)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that connects, which waits for a moment only."""
    connection = importlib.import_module("merc.compute.executors.connection")
    assert connection._ANSWER_SECONDS * 2 < 30
    monkeypatch.setattr(connection, "_ANSWER_SECONDS", 0.5)
    return connection


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nothing", "Connection refused"),
        ("silence", r"no answer within \d+ s"),
        ("a full queue", r"no answer within \d+ s"),
        ("a web server", "it speaks another protocol"),
        ("one that hangs up", "it closes the connection"),
    ],
)
def test_an_address_that_does_not_answer_is_named_within_seconds(what: str, words: str, hurried: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if what == "nothing":
            server.close()
        if what == "a full queue":  # connecting gets no further
            server.listen(0)
        if what in ("a web server", "one that hangs up"):
            answer = b"HTTP/1.1 400 Bad Request\r\n\r\n" if what == "a web server" else b""
            _answering(server, answer, stays=False)
        began = time.monotonic()
        with pytest.raises(
            BadCluster, match=rf"--address {address}: no Ray cluster answers there \({words}\)"
        ) as raised:
            hurried._try(address)
        assert (raised.value.exit_code, time.monotonic() - began < 10) == (1, True)


def test_whatever_speaks_the_protocol_but_is_not_a_cluster_is_named_within_seconds(
    hurried: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        _answering(server, bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]), stays=True)
        with pytest.raises(BadCluster, match=rf"--address {address}: .*no driver could connect within 0 s"):
            hurried._try(address)
    assert capfd.readouterr() == ("", "")


def _answering(server: socket.socket, answer: bytes, *, stays: bool) -> None:
    def serve() -> None:
        with suppress(OSError):  # when the test closes the server
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.recv(100)
                    connection.sendall(answer)
                    while stays and connection.recv(1000):
                        pass

    threading.Thread(target=serve, daemon=True).start()


def test_an_address_in_the_environment_that_is_invalid_is_refused(
    monkeypatch: pytest.MonkeyPatch, hurried: Any
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(
        BadCluster, match="RAY_ADDRESS=head: not an address of a Ray cluster; valid: auto, local, HOST:PORT"
    ):
        hurried.connect("auto", 1)


def test_an_empty_address_in_the_environment_is_none_at_all(monkeypatch: pytest.MonkeyPatch, hurried: Any) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    tried: list[str] = []

    def _try(address: str) -> None:
        tried.append(address)
        raise BadCluster("it was tried")

    monkeypatch.setattr(hurried, "_try", _try)
    with pytest.raises(BadCluster, match="it was tried"):
        hurried.connect("auto", 1)
    assert tried == ["auto"]


def test_a_cluster_of_this_process_has_a_token_that_is_written_nowhere(
    monkeypatch: pytest.MonkeyPatch, hurried: Any
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    hurried._lock_out_others()
    token = os.environ["RAY_AUTH_TOKEN"]
    assert len(token) == 64
    hurried._lock_out_others()
    assert os.environ["RAY_AUTH_TOKEN"] == token
    del os.environ["RAY_AUTH_TOKEN"]
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    hurried._lock_out_others()
    assert "RAY_AUTH_TOKEN" not in os.environ


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["l" * 90, "ü"])
def test_a_folder_in_which_ray_cannot_start_is_named(folder: str, demonstration: Path, tmp_path: Path) -> None:
    arguments = ["--dataset", "demo-meld", "--raw", str(demonstration / "raw"), "--out", str(tmp_path / "out")]
    command = [str(BIN / "merc-extract"), *arguments, "--modalities", "text", "--executor", "ray", "--address", "local"]
    (tmp_path / folder).mkdir()
    ended = subprocess.run(
        command,
        env={**os.environ, "RAY_TMPDIR": str(tmp_path / folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "--address local: Ray cannot be started: " in ended.stderr
    assert "its folder is RAY_TMPDIR, or else /tmp: a short path of ASCII characters" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


_GUARDED = """
import sys
from ray.cluster_utils import Cluster
how = {"num_cpus": 1, "include_dashboard": False, "temp_dir": sys.argv[1]}
made = Cluster(initialize_head=True, head_node_args=how)
print(made.address, flush=True)
sys.stdin.read()
made.shutdown()
"""


@pytest.mark.slow
def test_a_cluster_that_asks_for_a_token_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = importlib.import_module("merc.compute.executors.connection")
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "ray").mkdir()
        asked = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}
        for name in asked:
            monkeypatch.delenv(name, raising=False)
        head = subprocess.Popen(
            [sys.executable, "-P", "-c", _GUARDED, folder],
            env={**os.environ, **asked, "RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with head:
            assert head.stdout is not None
            address = head.stdout.readline().strip()
            with pytest.raises(
                BadCluster, match=rf"--address {address}: .*asks for its authentication token; set RAY_"
            ):
                connection._try(address)
            for name, value in asked.items():
                monkeypatch.setenv(name, value)
            connection._try(address)


@pytest.mark.slow
def test_a_signal_while_ray_connects_ends_the_command_as_any_other_time(demonstration: Path, tmp_path: Path) -> None:
    arguments = ["--dataset", "demo-meld", "--raw", str(demonstration / "raw"), "--out", str(tmp_path / "out")]
    command = [str(BIN / "merc-extract"), *arguments, "--modalities", "text", "--executor", "ray", "--address", "local"]
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            command,
            env={**os.environ, "RAY_TMPDIR": folder, "HOME": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        _until(lambda: list(Path(folder).glob("ray/session_*/logs/gcs_server*")), process)
        process.send_signal(signal.SIGTERM)
        told, log = process.communicate(timeout=120)
        assert (process.returncode, told) == (130, "")
        assert [line for line in log.splitlines() if "interrupted; finished work is kept" not in line] == []
        assert not (Path(folder) / ".ray").exists()


@pytest.mark.slow
def test_the_command_ends_with_1_where_no_cluster_answers(demonstration: Path, tmp_path: Path) -> None:
    arguments = [
        "--dataset",
        "demo-meld",
        "--raw",
        str(demonstration / "raw"),
        "--out",
        str(tmp_path),
        "--modalities",
        "text",
        "--limit",
        "1",
    ]
    command = [str(BIN / "merc-extract"), *arguments, "--executor", "ray"]
    ended = subprocess.run(
        command,
        env={**os.environ, "RAY_ADDRESS": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert (
        "ERROR --address 127.0.0.1:1: no Ray cluster answers there (Connection refused)"
        in ended.stderr.splitlines()[-1]
    )
    assert list(tmp_path.iterdir()) == []  # writing even the manifest would have been pointless


@pytest.fixture
def another_node(cluster: Any) -> Iterator[Callable[..., None]]:
    """Adds a node to the cluster until the end of the test."""
    added = []

    def add(name: str, folder: Path | None = None, **env: str) -> Any:
        before = Path.cwd()
        os.chdir(folder or before)
        added.append(cluster.add_node(**_node(name, **env)))
        os.chdir(before)
        return added[-1]

    yield add
    for node in added:
        if node in cluster.worker_nodes:
            cluster.remove_node(node, allow_graceful=False)


@pytest.mark.parametrize("what", ["its head", "this machine's node"])
def test_a_cluster_that_is_stopped_in_the_middle_is_named(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("merc.compute.executors.ray")
    monkeypatch.setattr(module, "_HEAD_SECONDS", 0.2)
    monkeypatch.setattr(module, "_OWN_NODE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as head, socket.create_server(("127.0.0.1", 0)) as own:
        context = SimpleNamespace(gcs_address=f"127.0.0.1:{head.getsockname()[1]}", get_node_id=lambda: "a")
        nodes = [{"NodeID": "a", "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": own.getsockname()[1]}]
        pulse = module._Pulse(SimpleNamespace(get_runtime_context=lambda: context, nodes=lambda: nodes))
        assert pulse.check()
        stopped = head if what == "its head" else own
        port = stopped.getsockname()[1]
        stopped.close()
        assert not pulse.check()
        time.sleep(0.3)
        with pytest.raises(BadCluster, match=rf"was stopped: {what} at 127\.0\.0\.1:{port} no longer answers"):
            pulse.check()


@pytest.mark.slow
def test_a_node_with_another_version_is_refused_by_name(
    on_ray: Executor, another_node: Callable[..., Any], squares: Work, tmp_path: Path
) -> None:
    shutil.copytree(
        ROOT / "pipeline" / "merc", tmp_path / "other" / "merc", ignore=shutil.ignore_patterns("__pycache__")
    )
    with (tmp_path / "other" / "merc" / "files.py").open("a") as file:
        file.write("# changed\n")
    another_node("old", PYTHONPATH=os.pathsep.join([str(tmp_path / "other"), str(HERE)]))
    with pytest.raises(
        BadCluster, match=r"node old \(.+\): it has sources \w{12} instead of \w{12}; install the same version"
    ) as raised:
        _do(on_ray, squares(), Listed(range(2)))
    assert raised.value.exit_code == 1
    assert _files(tmp_path / "out") == {}  # nothing was done, and the token is removed


@pytest.mark.slow
def test_a_node_that_lacks_something_is_named(
    on_ray: Executor, another_node: Callable[..., Any], squares: Work, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    another_node("poor", folder=tmp_path / "elsewhere")
    work = squares()
    object.__setattr__(
        work, "home", Path(f"/proc/self/cwd/{os.path.relpath(tmp_path / 'out')}")
    )  # the processes of that node were started in another folder
    with pytest.raises(
        BadCluster,
        match=r"node poor \(.+\): it does not see the output: .*out must be on a file system that all nodes share",
    ):
        _do(on_ray, work, Listed(range(2)))

    with pytest.raises(ModelUnavailable, match=r"node poor \(.+\): its model is not on this machine") as lacking:
        _do(on_ray, squares(model=True), Listed(range(2)))
    assert lacking.value.exit_code == 6

    with pytest.raises(CannotWrite, match=r"node poor \(.+\): .*No space left on device") as full:
        _do(on_ray, squares(errands=dict.fromkeys(range(80), "full")), Listed(range(80)))
    assert full.value.exit_code == 1


@pytest.mark.slow
def test_a_part_that_ends_every_worker_ends_the_run(
    on_ray: Executor, squares: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merc.compute.executors.ray._LOSSES", 2)
    with pytest.raises(BadCluster, match="2 workers were lost with part 0 in progress"):
        _do(on_ray, squares(errands={0: "die"}), Listed(range(1)))


def _settings(folder: Path, demonstration: Path) -> None:
    """Settings of the small demonstration with an audio encoder whose model, with random weights, is next to them,
    under a relative path.
    """
    import torch
    import transformers

    torch.manual_seed(1)
    size = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 96,
        "conv_dim": [32] * 7,
        "vocab_size": 8,
    }
    more = {
        "num_conv_pos_embeddings": 32,
        "num_conv_pos_embedding_groups": 4,
        "do_stable_layer_norm": True,
        "feat_extract_norm": "layer",
    }
    transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**size, **more)).save_pretrained(folder / "model")
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(
        folder / "model"
    )
    settings = yaml.safe_load((demonstration / "params.yaml").read_text())
    settings["media"] |= {"utterances_per_part": 2, "frames_per_clip": 2}
    settings["extraction"] = {"utterances_per_part": 20, "neural_clips_per_part": 20}
    settings["encoders"] = {
        "audio": {"tiny": {"family": "waveform", "repo": "./model", "licence": "none", "training_data_overlap": "none"}}
    }
    settings["recipes"] = {"baseline": {"epochs": 2, "seeds": [0, 1]}}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))


def _bytes(folder: Path) -> dict[str, bytes]:
    """Digest of every lasting file: not of scratch files or the times of epochs."""
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {".scratch", timing.FOLDER} & set(path.parts)
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _workers_on(node: str) -> list[int]:
    """Ids of the processes of that node that imported this package's worker."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (
                f"TEST_NODE={node}\0".encode() in (entry / "environ").read_bytes()
                and b"ray::Worker" in (entry / "cmdline").read_bytes()
            ):
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


def _until(condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_lost_node_and_a_killed_driver_change_no_byte(
    cluster: Any, another_node: Callable[..., Any], demonstration: Path, tmp_path: Path
) -> None:
    _settings(tmp_path, demonstration)
    arguments = [
        "--dataset",
        "demo-meld",
        "--raw",
        str(demonstration / "raw"),
        "--modalities",
        "audio,visual",
        "--encoder",
        "audio=tiny",
    ]
    arguments += ["--max-failed", "20%", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        undisturbed = CliRunner().invoke(
            extract, [*arguments, "--workers", "1", "--out", "undisturbed"], catch_exceptions=False
        )
        assert undisturbed.exit_code == 0, undisturbed.stderr
        trained = CliRunner().invoke(
            train, ["--dataset", "demo-meld", "--recipe", "baseline@audio", "--out", "undisturbed", "--device", "cpu"]
        )
        assert trained.exit_code == 0, trained.stderr

    def start() -> "subprocess.Popen[str]":
        command = [
            str(BIN / "merc-extract"),
            *arguments,
            "--out",
            "on_ray",
            "--executor",
            "ray",
            "--address",
            cluster.address,
        ]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    third = another_node("third")
    killed = start()
    _until(lambda: list((tmp_path / "on_ray").rglob("media/*.done/part-*.json")), killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "on_ray").rglob("media/*.done/part-*.json")}
    deadline = time.monotonic() + 30
    while (
        _workers_on("first") + _workers_on("second") + _workers_on("third")
    ):  # they end with the driver, not a run later
        assert time.monotonic() < deadline
        time.sleep(0.05)

    resumed = start()
    _until(lambda: _workers_on("third"), resumed)
    assert all(path.stat().st_mtime_ns == at for path, at in done.items())
    cluster.remove_node(third, allow_graceful=False)
    told, log = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, log
    assert told == undisturbed.stdout.replace("undisturbed", "on_ray")
    assert all(line[:2] == "20" for line in log.splitlines()), log  # none of the lines is Ray's
    assert _bytes(tmp_path / "on_ray") == _bytes(tmp_path / "undisturbed")
    assert not list((tmp_path / "on_ray").rglob(".ray-*"))

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        more = ["--runs", "runs_on_ray", "--executor", "ray", "--address", cluster.address]
        trained = CliRunner().invoke(
            train, ["--dataset", "demo-meld", "--recipe", "baseline@audio", "--out", "on_ray", "--device", "cpu", *more]
        )
    assert trained.exit_code == 0, trained.stderr
    assert _bytes(tmp_path / "runs_on_ray") == _bytes(tmp_path / "runs")


@pytest.mark.slow
def test_the_second_driver_on_an_output_ends_with_7(cluster: Any, hold: Callable[[Path], Any], tmp_path: Path) -> None:
    hold(tmp_path / "demo-meld")
    refused = CliRunner().invoke(
        extract, ["--dataset", "demo-meld", "--out", str(tmp_path), "--executor", "ray", "--address", cluster.address]
    )
    assert (refused.exit_code, "is writing there" in refused.stderr) == (7, True)


def test_errors_of_a_cluster_are_explained_ones() -> None:
    assert issubclass(BadCluster, PipelineError)
