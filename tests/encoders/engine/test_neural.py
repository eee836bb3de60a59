"""What all encoders with a checkpoint share, tested with a text encoder and with one defined here."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merc.encoders.engine.base import UtteranceInput
from merc.encoders.engine.neural import check_layer
from merc.encoders.text.transformer import Transformer
from merc.errors import BadSettings, ModelUnavailable

SETTINGS: dict[str, Any] = {
    "family": "transformer",
    "pooling": "mean",
    "max_tokens": 32,
    "licence": "MIT",
    "training_data_overlap": "none known",
}


@pytest.fixture
def folder(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "model"))


def _encoder(folder: Path, **settings: Any) -> Transformer:
    return Transformer(Transformer.Config(repo=str(folder), **{**SETTINGS, **settings}))


@pytest.mark.parametrize(
    "settings",
    [
        {"revision": "f" * 40},
        {"licence": "other"},
        {"training_data_overlap": "MELD"},
        {"dim": 32},
        {"megabytes": 12.5},
        {"tokens_per_batch": 7},
        {"tokens_per_batch": "auto"},
        {"linear_layers": "onednn"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_what_decides_no_vector_is_not_in_the_identity(folder: Path, settings: dict[str, Any]) -> None:
    assert _encoder(folder, **settings).identity() == _encoder(folder).identity()


@pytest.mark.parametrize(
    "settings",
    [
        {"layer": 4},
        {"pooling": "first"},
        {"dtype": "bfloat16"},
        {"attention": "eager"},
        {"max_tokens": 31},
        {"history_turns": 1},
    ],
)
def test_what_decides_the_vectors_is_in_the_identity(folder: Path, settings: dict[str, Any]) -> None:
    assert _encoder(folder, **settings).identity() != _encoder(folder).identity()


def test_the_identity_follows_the_weights_not_their_place(folder: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert _encoder(moved).identity() == _encoder(folder).identity()
    assert _encoder(moved).provenance() == _encoder(folder).provenance()
    weights = bytearray((moved / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (moved / "model.safetensors").write_bytes(weights)
    assert _encoder(moved).identity() != _encoder(folder).identity()
    assert _encoder(moved).provenance()["revision"] != _encoder(folder).provenance()["revision"]


def test_the_provenance_says_what_the_encoder_is_without_naming_the_folder(folder: Path) -> None:
    provenance = _encoder(folder, dtype="bfloat16", layer=3).provenance()
    revision = provenance.pop("revision")
    assert revision.startswith("sha256:")
    assert len(revision) == len("sha256:") + 64
    assert provenance == {
        "encoder": "folder with a bert model", "layer": 3, "licence": "MIT", "training_data_overlap": "none known",
        "dtype": "bfloat16", "attention": "sdpa",
        "pooling": "mean", "sample_rate_hz": None, "max_tokens": 32, "history_turns": 0, "speaker_names": False,
    }  # fmt: skip


def test_automatic_budgets_depend_on_the_device_and_given_ones_do_not(folder: Path) -> None:
    encoder = _encoder(folder)
    budgets = []
    for device in ("cpu", "cuda:0"):
        encoder.settle(32, device)
        budgets.append(encoder.budget.units)
    assert budgets == [1024, 65536]
    given = _encoder(folder, tokens_per_batch=300)
    given.settle(32, "cuda:0")
    assert (given.budget.units, given.budget.unit) == (300, "tokens")


@pytest.mark.parametrize("value", [0, -1, "automatic"])
def test_a_budget_that_is_not_a_number_of_tokens_is_refused(folder: Path, value: Any) -> None:
    with pytest.raises(ValueError, match="tokens_per_batch"):
        _encoder(folder, tokens_per_batch=value)


def test_a_dim_stated_wrongly_is_refused_and_a_right_one_is_known_before_loading(folder: Path) -> None:
    assert _encoder(folder, dim=32).planned_dim() == 32
    message = r"the settings state dim: 384, but its vectors have 32 numbers; correct it, or omit it"
    with pytest.raises(BadSettings, match=message):
        _encoder(folder, dim=384).load("cpu")
    with pytest.raises(BadSettings, match=message):
        _encoder(folder).__class__(Transformer.Config(repo=str(folder), dim=384, **SETTINGS)).settle(32, "cpu")


def test_a_half_written_checkpoint_is_not_to_be_had(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for ask in (_encoder(folder).identity, lambda: _encoder(folder).load("cpu")):
        with pytest.raises(
            ModelUnavailable,
            match=r"model.safetensors: incomplete, it has \d+ bytes and its header says \d+; copy or download",
        ) as caught:
            ask()
        assert caught.value.exit_code == 6


def test_weights_of_other_shapes_than_the_configuration_says_are_refused_in_the_librarys_words(folder: Path) -> None:
    configuration = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**configuration, "intermediate_size": 96}))
    with pytest.raises(BadSettings, match=r"transformers cannot load it: .*mismatch"):
        _encoder(folder).load("cpu")


def test_weights_that_are_not_in_the_files_are_never_made_up(folder: Path) -> None:
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    [size] = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    renamed = json.dumps({name.replace("layer.3.", "layer.9."): place for name, place in header.items()}).encode()
    weights.write_bytes(struct.pack("<Q", len(renamed)) + renamed + content[8 + size :])
    with pytest.raises(
        BadSettings,
        match=r"16 of the weights of a BertModel are not in its files, among them encoder.layer.3.attention",
    ) as caught:
        _encoder(folder).load("cpu")
    assert "copy or download it again, or choose another checkpoint" in str(caught.value)


def test_weights_of_a_head_that_is_not_used_may_be_missing(folder: Path) -> None:
    weights = folder / "model.safetensors"
    text = [UtteranceInput(utterance_id="a", text="no")]
    whole = _encoder(folder)
    whole.load("cpu")
    expected = whole.encode(text).embeddings
    content = weights.read_bytes()
    [size] = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    renamed = json.dumps({name.replace("pooler.", "head."): place for name, place in header.items()}).encode()
    weights.write_bytes(struct.pack("<Q", len(renamed)) + renamed + content[8 + size :])
    without_head = _encoder(folder)
    without_head.load("cpu")
    np.testing.assert_array_equal(without_head.encode(text).embeddings, expected)


def test_an_attention_that_the_model_lacks_is_refused_in_the_librarys_words(
    tiny_checkpoint: Callable[[str], Path],
) -> None:
    with pytest.raises(BadSettings, match=r"transformers cannot load it: .*attn_implementation"):
        _encoder(tiny_checkpoint("deberta-v2")).load("cpu")


@pytest.mark.parametrize(("layer", "expected"), [(-1, 12), (12, 12), (0, 0), (-13, 0), (-12, 1), (7, 7)])
def test_layers_are_counted_from_the_embeddings_and_from_the_end(layer: int, expected: int) -> None:
    assert check_layer("model", layer, 12) == expected


@pytest.mark.parametrize(("layer", "lowest"), [(13, 0), (-14, 0), (2, 3), (-11, 3)])
def test_a_layer_that_is_not_there_is_refused_with_those_that_are(layer: int, lowest: int) -> None:
    with pytest.raises(BadSettings, match=rf"model: layer {layer}; valid: {lowest} to 12, or -1 to {lowest - 13}"):
        check_layer("model", layer, 12, lowest)
