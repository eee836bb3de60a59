import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from pipeline.encoders.checkpoint import Checkpoint, check, content_hash
from pipeline.errors import BadSettings, ModelUnavailable

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FETCH = f"hf download org/model --revision {COMMIT}"


@pytest.fixture
def folder(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "model"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def _cached(cache: Path, tiny: Path) -> Path:
    return Path(shutil.copytree(tiny, cache / "models--org--model/snapshots" / COMMIT))


def test_the_identity_of_a_folder_is_its_content(folder: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    identity = Checkpoint(str(folder)).identity()
    assert identity == Checkpoint(str(moved), offline=True).identity() == {"sha256": content_hash(folder)}
    (moved / "README.md").write_text("says nothing about the weights")
    (moved / "code.py").write_text("never read")
    assert content_hash(moved) == identity["sha256"]
    weights = bytearray((moved / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (moved / "model.safetensors").write_bytes(weights)
    assert content_hash(moved) != identity["sha256"]


def test_a_renamed_file_is_another_content(folder: Path) -> None:
    before = content_hash(folder)
    (folder / "tokenizer.json").rename(folder / "tokeniser.json")
    assert content_hash(folder) != before


def test_pickled_weights_alone_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadSettings, match=r"pytorch_model.bin alone, which can run code when read"):
        Checkpoint(str(folder)).identity()
    with pytest.raises(BadSettings, match=r"pytorch_model.bin"):
        Checkpoint(str(folder)).fetch()


def test_a_folder_without_weights_is_no_model(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match=r"no \*.safetensors"):
        check(folder)


def test_missing_pieces_of_weights_are_named(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors", "c": "../../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnavailable, match=r"names files that are not there: elsewhere.safetensors, model-00002-of-00002.safetensors"):
        check(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_of_the_author_is_refused(folder: Path, name: str) -> None:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, "auto_map": {"AutoModel": "modeling_evil.Evil"}}))
    with pytest.raises(BadSettings, match=r"auto_map.*modeling_evil.Evil"):
        Checkpoint(str(folder)).identity()


def test_an_adapter_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somewhere/else"}')
    with pytest.raises(BadSettings, match="adapter"):
        check(folder)


@pytest.mark.parametrize("content", ["", "{", "[1]", "\udc80"])
def test_a_broken_configuration_is_named(folder: Path, content: str) -> None:
    (folder / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadSettings, match=r"config.json"):
        Checkpoint(str(folder)).identity()


def test_a_folder_without_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"no config.json"):
        Checkpoint(str(tmp_path)).identity()


@pytest.mark.parametrize("repo", ["./no/such/folder", "/nowhere", "../x", "", "a/b/c", "-"])
def test_neither_folder_nor_name(repo: str) -> None:
    with pytest.raises(BadSettings, match=r"no model folder|no name on the hub|no config.json"):
        Checkpoint(repo, COMMIT, offline=True).identity()


@pytest.mark.parametrize("revision", ["", "main", "e2da8e2", COMMIT.upper()])
def test_a_name_on_the_hub_needs_its_commit(revision: str) -> None:
    with pytest.raises(BadSettings, match=r"needs its commit, 40 hex digits"):
        Checkpoint("org/model", revision, offline=True).identity()


def test_offline_and_not_in_the_cache_says_how_to_fetch_it(cache: Path) -> None:
    with pytest.raises(ModelUnavailable, match=FETCH) as caught:
        Checkpoint("org/model", COMMIT, offline=True).identity()
    assert "--offline forbids" in str(caught.value)
    assert caught.value.exit_code == 6


def test_offline_uses_the_cache(cache: Path, tiny_checkpoint: Callable[[str], Path]) -> None:
    there = _cached(cache, tiny_checkpoint("bert"))
    checkpoint = Checkpoint("org/model", COMMIT, offline=True)
    assert checkpoint.identity() == {"repo": "org/model", "revision": COMMIT}
    assert checkpoint.fetch() == there
    assert checkpoint.configuration()["hidden_size"] == 32


def test_a_cache_without_the_weights_counts_as_unavailable(cache: Path, tiny_checkpoint: Callable[[str], Path]) -> None:
    (_cached(cache, tiny_checkpoint("bert")) / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable):
        Checkpoint("org/model", COMMIT, offline=True).identity()


@pytest.mark.parametrize("failure", [LocalEntryNotFoundError("no route"), OfflineModeIsEnabled("switched off"), TimeoutError("too slow")])
def test_an_unreachable_hub_says_how_to_fetch_it(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise failure

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(ModelUnavailable, match=FETCH) as caught:
        Checkpoint("org/model", COMMIT).identity()
    assert str(failure) in str(caught.value)
    assert caught.value.__cause__ is failure


def test_only_the_configuration_is_asked_for_before_the_weights_are_needed(monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Callable[[str], Path]) -> None:
    asked: list[dict[str, object]] = []

    def download(repo: str, **options: object) -> str:
        asked.append({"repo": repo, **options})
        return str(tiny_checkpoint("bert"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    checkpoint = Checkpoint("org/model", COMMIT)
    checkpoint.identity()
    assert [request["allow_patterns"] for request in asked] == [["config.json"]]
    checkpoint.fetch()
    assert "*.safetensors" in asked[1]["allow_patterns"]
    assert not any("bin" in pattern or "py" in pattern for pattern in asked[1]["allow_patterns"])
    assert {(request["repo"], request["revision"], request["local_files_only"]) for request in asked} == {("org/model", COMMIT, False)}
