"""Where the weights of the active-speaker network come from, and which files are refused."""

import hashlib
import io
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from merc.errors import BadSettings, ModelUnavailable
from merc.media.active_speaker import weights
from merc.media.config import Config as MediaConfig

COMMIT = "b" * 40
CONTENT = b"not a network, but a file"
NAME = "weight/some.model"
FIRST = "model.visualEncoder.block1.s_3.weight"


class Repository(ThreadingHTTPServer):
    """Serves files by path, some of them with fewer bytes than announced."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.asked = 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Clients may hang up."""


class _Request(BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        self.server.asked += 1
        name = self.path.lstrip("/")
        content = self.server.files.get(name)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write((content or b"")[: -5 if name in self.server.cut else None])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def repository(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    running = Repository()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def published(config: MediaConfig, repository: Repository) -> MediaConfig:
    """Settings that name a file of ``repository``."""
    repository.files[f"{COMMIT}/{NAME}"] = CONTENT
    stated = {"speaker_url": repository.address, "speaker_revision": COMMIT, "speaker_name": NAME}
    return config.model_copy(update={**stated, "speaker_sha256": hashlib.sha256(CONTENT).hexdigest()})


def test_a_local_file_goes_first(published: MediaConfig, repository: Repository, tmp_path: Path) -> None:
    file = tmp_path / "mine.model"
    file.write_bytes(b"mine")
    local = published.model_copy(update={"speaker_file": str(file)})
    assert weights.path(local, offline=False) == file
    assert weights.content(local) == hashlib.sha256(b"mine").hexdigest()
    assert not repository.asked


@pytest.mark.parametrize(("name", "words"), [("gone.model", "is not there"), (".", "is a folder")])
def test_a_local_file_that_is_invalid_is_named(published: MediaConfig, name: str, words: str) -> None:
    wrong = published.model_copy(update={"speaker_file": name})
    for ask in (lambda: weights.path(wrong, offline=True), lambda: weights.content(wrong)):
        with pytest.raises(BadSettings, match=rf"media\.speaker_file: '{name}' {words}"):
            ask()


def test_the_authors_file_is_fetched_once_and_then_found_offline(
    published: MediaConfig, repository: Repository
) -> None:
    fetched = weights.path(published, offline=False)
    assert fetched.read_bytes() == CONTENT
    assert weights.path(published, offline=True) == weights.path(published, offline=False) == fetched
    assert weights.content(published) == hashlib.sha256(CONTENT).hexdigest()
    assert repository.asked == 1


def test_a_damaged_file_in_the_cache_is_fetched_again_or_named(published: MediaConfig) -> None:
    fetched = weights.path(published, offline=False)
    fetched.write_bytes(CONTENT[:9])
    with pytest.raises(ModelUnavailable, match="the file in the cache has the sha256"):
        weights.path(published, offline=True)
    assert weights.path(published, offline=False).read_bytes() == CONTENT


def test_another_file_than_the_settings_state_is_refused_and_not_kept(
    published: MediaConfig, repository: Repository, hub_cache: Path
) -> None:
    repository.files[f"{COMMIT}/{NAME}"] = b"another"
    with pytest.raises(ModelUnavailable, match=r"the sha256 of what .* sent is .*media\.speaker_sha256 states"):
        weights.path(published, offline=False)
    assert _kept(hub_cache) == []


def test_half_a_file_is_refused_and_not_kept(published: MediaConfig, repository: Repository, hub_cache: Path) -> None:
    repository.cut.add(f"{COMMIT}/{NAME}")
    with pytest.raises(ModelUnavailable, match="not available"):
        weights.path(published, offline=False)
    assert _kept(hub_cache) == []


def test_an_endless_file_is_not_read_to_its_end(
    published: MediaConfig, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_MOST_BYTES", 1000)
    repository.files[f"{COMMIT}/{NAME}"] = bytes(10_000_000)
    assert len(weights._downloaded(f"{repository.address}/{COMMIT}/{NAME}")) < 1_000_000


def test_a_file_that_is_not_to_be_had_says_how_to_get_it(
    published: MediaConfig, repository: Repository, hub_cache: Path
) -> None:
    repository.files.clear()
    closed = published.model_copy(update={"speaker_url": "http://127.0.0.1:9/away"})
    for config, offline, why in (
        (published, True, "it is not in the cache"),
        (published, False, "404"),
        (closed, False, "onnect"),
    ):
        with pytest.raises(ModelUnavailable, match=why) as caught:
            weights.path(config, offline=offline)
        assert caught.value.exit_code == 6
        command = next(line for line in str(caught.value).splitlines() if line.startswith("  curl "))
        assert command.endswith(f"{config.speaker_url}/{COMMIT}/{NAME}")
        assert "media.speaker_file" in str(caught.value)
    file = Path(command.split()[command.split().index("--output") + 1])
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    assert weights.path(published, offline=True) == file


def test_a_hub_client_that_was_told_to_stay_offline_asks_no_one(
    published: MediaConfig, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnavailable, match="it is not in the cache"):
        weights.path(published, offline=False)
    assert not repository.asked


def test_settings_of_weights_are_read_without_torch() -> None:
    code = """if True:
        import sys
        from merc.media.active_speaker import scoring, weights
        from merc.media.config import Config
        weights.content(Config())
        print("torch" in sys.modules)"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_file_as_the_authors_wrote_it_loads(random_file: Path, make_tensors: Callable[..., Any]) -> None:
    network = weights.load(random_file)
    torch.testing.assert_close(network.there.weight_ih_l0, make_tensors()["model.GRU.gru_forward.weight_ih_l0"])
    assert not network.training


def test_the_authors_files_load_and_are_those_the_settings_name(real_data: Path, config: MediaConfig) -> None:
    for name in ("light_asd_talkset.model", "light_asd_ava.model"):
        assert torch.isfinite(weights.load(real_data / "models" / name).classifier.weight).all()
    assert (
        config.speaker_sha256
        == hashlib.sha256((real_data / "models" / "light_asd_talkset.model").read_bytes()).hexdigest()
    )


WRONG_TENSORS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "one is missing": (
        lambda them: {name: one for name, one in them.items() if name != FIRST},
        rf"it lacks 1 of 160 tensors: {FIRST}",
    ),
    "all are missing": (lambda them: {"encoder.weight": torch.zeros(3)}, "it lacks 160 of 160 tensors: model"),
    "there are more": (
        lambda them: {**them, "model.extra": torch.zeros(3)},
        r"holds 1 tensors more than the network has: model\.extra",
    ),
    "another width": (
        lambda them: {**them, FIRST: torch.zeros(16, 1, 1, 3, 3)},
        r"s_3\.weight is \(16, 1, 1, 3, 3\) of torch\.float32, where \(32, 1, 1, 3, 3\)",
    ),
    "another precision": (lambda them: {**them, FIRST: them[FIRST].half()}, r"of torch\.float16, where"),
    "huge without memory": (lambda them: {**them, FIRST: torch.zeros(1).expand(2**40)}, r"is \(1099511627776,\) of"),
    "without numbers": (
        lambda them: {**them, FIRST: torch.zeros(32, 1, 1, 3, 3, device="meta")},
        "is not a tensor of numbers",
    ),
    "sparse": (lambda them: {**them, FIRST: torch.zeros(32, 1, 1, 3, 3).to_sparse()}, "is not a tensor of numbers"),
    "no tensor": (lambda them: {**them, FIRST: [1.0]}, "is not a tensor of numbers, but list"),
    "not a number": (
        lambda them: {**them, FIRST: torch.full((32, 1, 1, 3, 3), torch.nan)},
        "holds numbers that are not finite",
    ),
    "infinite": (
        lambda them: {**them, "lossAV.FC.bias": torch.tensor([0, torch.inf])},
        r"lossAV\.FC\.bias holds numbers that are not finite",
    ),
    "negative variance": (
        lambda them: {**them, FIRST.replace("s_3.weight", "bn_s_3.running_var"): -torch.ones(32)},
        "holds a negative variance",
    ),
    "a list": (lambda them: list(them.values()), "holds a list, expected a mapping from names"),
    "one tensor": (lambda them: torch.zeros(5), "holds a Tensor, expected a mapping from names"),
    "numbered": (lambda them: dict(enumerate(them.values())), "expected a mapping from names to tensors"),
}


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("case", WRONG_TENSORS)
def test_another_network_is_refused_by_name(make_tensors: Callable[..., Any], tmp_path: Path, case: str) -> None:
    change, words = WRONG_TENSORS[case]
    file = tmp_path / "other.model"
    torch.save(change(make_tensors()), file)
    with pytest.raises(
        BadSettings, match=rf"media\.speaker_file: .*other\.model does not hold the weights of Light-ASD: .*{words}"
    ):
        weights.load(file)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for write in (
        lambda thing, file: torch.save({"model": thing}, file),
        lambda thing, file: file.write_bytes(pickle.dumps(thing)),
    ):
        file = tmp_path / "code.model"
        write(_Code(ran), file)
        with pytest.raises(BadSettings, match=r"its pickle asks for posix\.mkdir|not an archive"):
            weights.load(file)
    assert not ran.exists()


class _Code:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_file_that_was_cut_is_refused(random_file: Path, share: float) -> None:
    whole = random_file.read_bytes()
    random_file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(BadSettings, match=r"not an archive as written by torch\.save, or only part of one"):
        weights.load(random_file)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"K\x07tq", b"\x8a\x06\x00\x00\x00\x00\x00\x10tq"), (b"K\x07\x85", b"\x8a\x06\x00\x00\x00\x00\x00\x10\x85")],
)
def test_sizes_that_the_file_does_not_have_are_refused_before_memory_is_taken(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    """For the storage and for the tensor: 2^44 numbers, of which seven exist."""
    file = tmp_path / "huge.model"
    file.write_bytes(_with_pickle(lambda data: data.replace(old, new)))
    with pytest.raises(BadSettings, match="torch cannot read it"):
        weights.load(file)


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "bomb.model"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(100_000_000))
    with pytest.raises(BadSettings, match="its archive is compressed"):
        weights.load(file)


def test_damaged_pickles_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "damaged.model"
    for at in range(0, len(_pickle()), 3):
        file.write_bytes(_with_pickle(lambda data, at=at: data[:at] + bytes([data[at] ^ 0x15]) + data[at + 1 :]))
        with pytest.raises(BadSettings, match=r"media\.speaker_file: .*damaged\.model"):
            weights.load(file)


def test_what_stands_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "note.model"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    with pytest.raises(BadSettings, match="git lfs pull"):
        weights.load(file)
    os.truncate(file, 2**30)
    with pytest.raises(BadSettings, match="it has 1073741824 bytes, and the file of the authors 4175289"):
        weights.load(file)
    for folder in (tmp_path, tmp_path / "gone.model"):
        with pytest.raises(BadSettings, match=r"cannot be read: (Is a directory|No such file or directory)"):
            weights.load(folder)


def _kept(hub_cache: Path) -> list[Path]:
    return [one for one in (hub_cache.parent / "home").rglob("*") if one.is_file()]


def _pickle() -> bytes:
    return zipfile.ZipFile(_seven()).read("archive/data.pkl")


def _seven() -> io.BytesIO:
    written = io.BytesIO()
    torch.save({FIRST: torch.zeros(7)}, written)
    return written


def _with_pickle(change: Callable[[bytes], bytes]) -> bytes:
    """A file of ``torch.save`` with one tensor of seven numbers and a changed pickle."""
    changed = io.BytesIO()
    with zipfile.ZipFile(_seven()) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, change(data) if name.endswith("data.pkl") else data)
    return changed.getvalue()
