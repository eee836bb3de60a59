import json
import shutil
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from merc.encoders.engine.checkpoint import Checkpoint, check, check_whole, content_hash
from merc.errors import BadSettings, ModelUnavailable

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FETCH = f"hf download org/model --revision {COMMIT}"


@pytest.fixture
def folder(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "model"))


def _cached(hub_cache: Path, tiny: Path) -> Path:
    return Path(shutil.copytree(tiny, hub_cache / "models--org--model/snapshots" / COMMIT))


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
    with pytest.raises(BadSettings, match=r"pytorch_model.bin only, which can run code when read"):
        Checkpoint(str(folder)).identity()
    with pytest.raises(BadSettings, match=r"pytorch_model.bin"):
        Checkpoint(str(folder)).fetch()


def test_a_folder_without_weights_is_not_a_model(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match=r"there is no model.safetensors in it"):
        check(folder)


def _shards(folder: Path, weight_map: object) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_missing_pieces_of_weights_are_named(folder: Path) -> None:
    _shards(folder, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})
    with pytest.raises(ModelUnavailable, match=r"names missing files: model-00002-of-00002.safetensors;"):
        check(folder)
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors")
    check(folder)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(ModelUnavailable, match=r"neither model.safetensors nor model.safetensors.index.json"):
        check(folder)


@pytest.mark.parametrize(
    "named",
    [
        "../elsewhere/model.safetensors",
        "/model.safetensors",
        "sub/model-00001-of-00002.safetensors",
        "pytorch_model.bin",
        "..",
    ],
)
def test_an_index_may_name_only_safetensors_of_its_own_folder(folder: Path, named: str) -> None:
    _shards(folder, {"a": "model-00001-of-00002.safetensors", "b": named})
    with pytest.raises(
        BadSettings,
        match=r"index.json: names .*; only files model.safetensors and model-\*.safetensors of the same folder",
    ):
        check(folder)


@pytest.mark.parametrize("weight_map", [None, {}, ["model-00001-of-00002.safetensors"]])
def test_an_index_without_a_map_is_refused(folder: Path, weight_map: object) -> None:
    _shards(folder, weight_map)
    with pytest.raises(BadSettings, match="has no weight_map"):
        check(folder)


def test_a_configuration_that_names_a_pickle_as_the_weights_is_refused(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "transformers_weights": "weights.bin"}))
    with pytest.raises(BadSettings, match=r"transformers_weights is 'weights.bin'"):
        Checkpoint(str(folder)).identity()


def test_weights_that_were_half_written_are_refused_before_anything_is_loaded(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for kept in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        weights.write_bytes(whole[:kept])
        with pytest.raises(ModelUnavailable, match=r"model.safetensors: incomplete"):
            Checkpoint(str(folder)).identity()
        assert not Checkpoint(str(folder)).is_here()
    weights.write_bytes(whole + b"0")
    with pytest.raises(
        ModelUnavailable, match=rf"damaged, it has {len(whole) + 1} bytes and its header says {len(whole)}"
    ):
        Checkpoint(str(folder)).identity()
    weights.write_bytes(whole)
    assert Checkpoint(str(folder)).is_here()


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"[]",
        b'{"a": 1}',
        b'{"a": {"data_offsets": [0]}}',
        b'{"a": {}}',
        b"\xff\xfe",
        b'{"a": {"data_offsets": ["x", "y"]}}',
    ],
)
def test_a_broken_header_is_named(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ModelUnavailable, match=r"its header is broken"):
        check_whole(tmp_path / "model.safetensors")


def test_a_pointer_of_git_lfs_is_distinguished(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 90868376\n"
    )
    with pytest.raises(ModelUnavailable, match=r"git lfs pull"):
        check_whole(tmp_path / "model.safetensors")


def test_a_whole_file_of_another_writer_is_accepted(tmp_path: Path) -> None:
    header = (
        b'{"__metadata__": {"format": "pt"}, "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}, "a":'
        b' {"data_offsets": [0, 4]}}   '
    )
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(12))
    check_whole(tmp_path / "model.safetensors")


def test_links_to_files_elsewhere_are_followed_and_dead_ones_named(folder: Path, tmp_path: Path) -> None:
    before = Checkpoint(str(folder)).identity()
    (tmp_path / "blobs").mkdir()
    for path in list(folder.iterdir()):
        path.rename(tmp_path / "blobs" / path.name)
        path.symlink_to(tmp_path / "blobs" / path.name)
    assert Checkpoint(str(folder)).identity() == before
    (tmp_path / "blobs" / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match=r"a link to a missing file"):
        Checkpoint(str(folder)).identity()


def test_a_half_written_tokenizer_is_named(folder: Path) -> None:
    content = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(content[: len(content) // 2])
    with pytest.raises(BadSettings, match=r"tokenizer.json: not a JSON file.*download the model again"):
        Checkpoint(str(folder)).identity()


def test_other_copies_of_the_weights_are_neither_needed_nor_part_of_the_identity(folder: Path) -> None:
    before = content_hash(folder)
    (folder / "model.fp32-00001-of-00002.safetensors").write_bytes(b"half")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    check(folder)
    assert content_hash(folder) == before


def test_a_folder_is_here_and_has_a_size(folder: Path) -> None:
    checkpoint = Checkpoint(str(folder))
    assert checkpoint.is_here()
    assert checkpoint.bytes_on_disk() == sum(path.stat().st_size for path in folder.iterdir())
    assert checkpoint.bytes_to_fetch() == 0
    (folder / "model.safetensors").unlink()
    assert (checkpoint.is_here(), checkpoint.bytes_on_disk()) == (False, 0)


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


def test_a_folder_without_configuration_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"no config.json"):
        Checkpoint(str(tmp_path)).identity()


@pytest.mark.parametrize("repo", ["./no/such/folder", "/nowhere", "../x", "", "a/b/c", "-"])
def test_neither_folder_nor_name(repo: str) -> None:
    with pytest.raises(BadSettings, match=r"no model folder|not a name on the hub|no config.json"):
        Checkpoint(repo, COMMIT, offline=True).identity()


@pytest.mark.parametrize("revision", ["", "main", "e2da8e2", COMMIT.upper()])
def test_a_name_on_the_hub_needs_its_commit(revision: str) -> None:
    with pytest.raises(BadSettings, match=r"needs its commit, 40 hex digits"):
        Checkpoint("org/model", revision, offline=True).identity()


def test_offline_and_not_in_the_cache_says_how_to_fetch_it(hub_cache: Path) -> None:
    with pytest.raises(ModelUnavailable, match=FETCH) as caught:
        Checkpoint("org/model", COMMIT, offline=True).identity()
    assert "--offline forbids" in str(caught.value)
    assert caught.value.exit_code == 6


def test_offline_uses_the_cache(hub_cache: Path, tiny_checkpoint: Callable[[str], Path]) -> None:
    there = _cached(hub_cache, tiny_checkpoint("bert"))
    checkpoint = Checkpoint("org/model", COMMIT, offline=True)
    assert checkpoint.identity() == {"repo": "org/model", "revision": COMMIT}
    assert checkpoint.fetch() == there
    assert checkpoint.configuration()["hidden_size"] == 32


def test_a_cache_without_the_weights_counts_as_unavailable(
    hub_cache: Path, tiny_checkpoint: Callable[[str], Path]
) -> None:
    (_cached(hub_cache, tiny_checkpoint("bert")) / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable):
        Checkpoint("org/model", COMMIT, offline=True).identity()


@pytest.mark.parametrize(
    "failure", [LocalEntryNotFoundError("no route"), OfflineModeIsEnabled("switched off"), TimeoutError("too slow")]
)
def test_an_unreachable_hub_says_how_to_fetch_it(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise failure

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    monkeypatch.setattr("merc.hub.silence", lambda: "")
    with pytest.raises(ModelUnavailable, match=FETCH) as caught:
        Checkpoint("org/model", COMMIT).identity()
    assert str(failure) in str(caught.value)
    assert caught.value.__cause__ is failure


@pytest.fixture
def silent_hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a hub where no server listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    return address


def test_a_hub_that_does_not_answer_is_asked_once_and_briefly(
    silent_hub: str, caplog: pytest.LogCaptureFixture
) -> None:
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(
            ModelUnavailable, match=rf"the hub at {silent_hub} does not answer: .*refused.*\n.*{FETCH}"
        ) as caught:
            Checkpoint("org/model", COMMIT).identity()
    with pytest.raises(ModelUnavailable, match="does not answer"):
        Checkpoint("org/model", COMMIT).bytes_to_fetch()
    assert caught.value.exit_code == 6
    assert time.monotonic() - began < 5
    assert "Retrying" not in caplog.text


def test_where_the_hub_does_not_answer_the_cache_is_used(
    silent_hub: str, hub_cache: Path, tiny_checkpoint: Callable[[str], Path]
) -> None:
    there = _cached(hub_cache, tiny_checkpoint("bert"))
    checkpoint = Checkpoint("org/model", COMMIT)
    assert checkpoint.identity() == {"repo": "org/model", "revision": COMMIT}
    assert checkpoint.fetch() == there


def test_the_command_fetches_what_is_read_and_nothing_else() -> None:
    assert (
        Checkpoint("org/model", COMMIT).command
        == f"{FETCH} --include '*.json' --include '*.jinja' --include '*.model' --include 'merges.txt' --include"
        " 'vocab.txt' --include 'model.safetensors' --include 'model-*.safetensors' --exclude '*/*'"
    )


def _model_on(hub: Any, tiny: Path, **more: bytes) -> None:
    hub.models["org/model"] = {COMMIT: {path.name: path.read_bytes() for path in tiny.iterdir()} | more}


def test_only_the_configuration_is_fetched_before_the_weights_are_needed(
    hub: Any, tiny_checkpoint: Callable[[str], Path]
) -> None:
    _model_on(
        hub,
        tiny_checkpoint("bert"),
        **{"pytorch_model.bin": b"pickle", "onnx/model.safetensors": b"other", "modeling.py": b"code"},
    )
    checkpoint = Checkpoint("org/model", COMMIT)
    assert checkpoint.identity() == {"repo": "org/model", "revision": COMMIT}
    assert checkpoint.configuration()["hidden_size"] == 32
    assert hub.sent == {"config.json"}
    assert not checkpoint.is_here()
    size = sum(path.stat().st_size for path in tiny_checkpoint("bert").iterdir())
    assert checkpoint.bytes_to_fetch() == size - (tiny_checkpoint("bert") / "config.json").stat().st_size
    folder = checkpoint.fetch()
    assert hub.sent == {path.name for path in tiny_checkpoint("bert").iterdir()}
    assert (folder / "model.safetensors").read_bytes() == (tiny_checkpoint("bert") / "model.safetensors").read_bytes()
    assert checkpoint.is_here()
    assert (checkpoint.bytes_on_disk(), checkpoint.bytes_to_fetch()) == (size, 0)
    assert Checkpoint("org/model", COMMIT, offline=True).fetch() == folder


def test_an_interrupted_download_continues_where_it_was(hub: Any, tiny_checkpoint: Callable[[str], Path]) -> None:
    _model_on(hub, tiny_checkpoint("bert"))
    hub.broken.add("model.safetensors")
    with pytest.raises(ModelUnavailable, match=FETCH):
        Checkpoint("org/model", COMMIT).fetch()
    assert not Checkpoint("org/model", COMMIT).is_here()
    with pytest.raises(ModelUnavailable, match=FETCH):
        Checkpoint("org/model", COMMIT, offline=True).identity()
    hub.broken.clear()
    hub.sent.clear()
    Checkpoint("org/model", COMMIT).fetch()
    assert hub.sent == {"model.safetensors"}
    assert Checkpoint("org/model", COMMIT).is_here()


def test_a_damaged_file_of_the_cache_is_named_with_the_command_that_fetches_it_anew(
    hub: Any, tiny_checkpoint: Callable[[str], Path]
) -> None:
    _model_on(hub, tiny_checkpoint("bert"))
    folder = Checkpoint("org/model", COMMIT).fetch()
    weights = (folder / "model.safetensors").resolve()
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(ModelUnavailable, match=r"incomplete[^\n]*\n  hf download org/model .* --force-download"):
        Checkpoint("org/model", COMMIT).fetch()


def test_a_revision_that_does_not_exist_is_named(hub: Any, tiny_checkpoint: Callable[[str], Path]) -> None:
    _model_on(hub, tiny_checkpoint("bert"))
    for ask in (Checkpoint.identity, Checkpoint.fetch, Checkpoint.configuration, Checkpoint.bytes_to_fetch):
        with pytest.raises(
            BadSettings, match=rf"no revision {'f' * 40} of org/model; .*https://huggingface.co/org/model/commits/main"
        ):
            ask(Checkpoint("org/model", "f" * 40))


def test_a_model_that_the_hub_does_not_show_may_be_private(hub: Any) -> None:
    with pytest.raises(
        ModelUnavailable,
        match=rf"shows no model org/nosuch .*private(?s:.*)hf auth login\n  hf download org/nosuch --revision {COMMIT}",
    ):
        Checkpoint("org/nosuch", COMMIT).identity()


def test_a_gated_model_says_where_its_terms_are(hub: Any, tiny_checkpoint: Callable[[str], Path]) -> None:
    _model_on(hub, tiny_checkpoint("bert"))
    hub.gated.add("org/model")
    with pytest.raises(
        ModelUnavailable, match=r"accept its terms at https://huggingface.co/org/model; after that:\n  hf auth login"
    ):
        Checkpoint("org/model", COMMIT).identity()


def test_a_revision_without_safetensors_is_refused_before_anything_large_is_fetched(
    hub: Any, tiny_checkpoint: Callable[[str], Path]
) -> None:
    _model_on(hub, tiny_checkpoint("bert"))
    files = hub.models["org/model"][COMMIT]
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    for ask in (Checkpoint.identity, Checkpoint.fetch):
        with pytest.raises(
            BadSettings,
            match=(
                rf"org/model at revision {COMMIT}: has no"
                r" model.safetensors.*https://huggingface.co/org/model/discussions"
            ),
        ):
            ask(Checkpoint("org/model", COMMIT))
    assert "pytorch_model.bin" not in hub.sent


def test_a_hub_that_went_away_does_not_matter_for_what_is_here(
    hub: Any, tiny_checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the client's attempts to reach it, 23 s in all
    _model_on(hub, tiny_checkpoint("bert"))
    folder = Checkpoint("org/model", COMMIT).fetch()
    hub.close()
    assert Checkpoint("org/model", COMMIT).identity() == {"repo": "org/model", "revision": COMMIT}
    assert Checkpoint("org/model", COMMIT).fetch() == folder
    with pytest.raises(ModelUnavailable, match=rf"org/other at revision {COMMIT} is not available: the hub answered"):
        Checkpoint("org/other", COMMIT).fetch()
