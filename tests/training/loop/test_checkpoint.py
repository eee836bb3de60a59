import json

import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from merc.errors import BadSettings, BadTable
from merc.job import RunOptions
from merc.params import Params
from merc.training.data.dataset import Standardisation, read_split
from merc.training.loop import checkpoint
from merc.training.loop.trainer import predict
from merc.training.models.context_gru import ContextGRU
from merc.training.recipes.resolution import resolve
from merc.training.stage import train

HEADER = checkpoint.Header(
    model="context_gru",
    model_settings={"hidden_units": 8, "layers": 1, "dropout": 0.1, "speakers": "same"},
    dims={"text": 6, "audio": 5},
    classes=("neutral", "joy", "anger"),
    label_set="tiny3",
    dataset="tiny",
    recipe={"name": "all"},
    seed=0,
    encoders={"text": "t", "audio": "a"},
    feature_limit_std=10.0,
    version=ContextGRU.VERSION,
)


@pytest.fixture
def model_file(tmp_path):
    """A model that was not trained."""
    model = ContextGRU(ContextGRU.Config(**HEADER.model_settings), HEADER.dims, 3)
    ones = {name: torch.ones(dim) for name, dim in HEADER.dims.items()}
    checkpoint.save(tmp_path / "model.safetensors", model, Standardisation(mean=ones, std=ones, limit=10.0), HEADER)
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_model_that_is_read_back_scores_as_the_trained_one(make_shards, tree, tmp_path, share):
    layout = make_shards()
    tree["recipes"]["all"]["speaker_normalisation"] = {"audio": share}
    made = train(resolve(Params(tree), "all"), layout, RunOptions(device="cpu"), runs=tmp_path / "runs")
    loaded = checkpoint.load(made / "models" / "seed-1" / "model.safetensors")
    assert loaded.standardisation.speaker_shares == {"audio": share}
    split = loaded.standardisation.apply_(
        read_split(layout.shards, "test", loaded.model.modalities, len(loaded.header.classes))
    )
    rows = pq.read_table(made / "predictions.parquet", filters=[("seed", "=", 1), ("split", "=", "test")])
    expected = torch.tensor(rows["probabilities"].to_pylist())
    torch.testing.assert_close(predict(loaded.model, split).softmax(dim=1), expected, atol=1e-6, rtol=0)
    assert loaded.header.classes == ("neutral", "joy", "anger")
    assert loaded.header.dims == {"text": 6, "audio": 5, "visual": 4}
    assert (loaded.header.seed, loaded.header.recipe["name"], loaded.header.encoders["audio"]) == (
        1,
        "all",
        "audio-encoder",
    )


def test_equal_weights_give_equal_bytes(model_file, tmp_path):
    loaded = checkpoint.load(model_file)
    checkpoint.save(tmp_path / "again.safetensors", loaded.model, loaded.standardisation, loaded.header)
    assert (tmp_path / "again.safetensors").read_bytes() == model_file.read_bytes()


def changed(path, tmp_path, change):
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["merc"])
    change(tensors, header)
    save_file(tensors, tmp_path / "changed.safetensors", metadata={"merc": json.dumps(header)})
    return tmp_path / "changed.safetensors"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda tensors, header: header.update(model="../../evil"), BadSettings, "evil"),
        (lambda tensors, header: header.update(model_settings={"hidden_units": 8, "layer": 1}), BadSettings, "layers"),
        (lambda tensors, header: header.update(extra=1), BadTable, "not a model trained"),
        (
            lambda tensors, header: header.update(version=1),
            BadTable,
            "trained as version 1 of context_gru, which is now 3",
        ),
        (lambda tensors, header: header.update(dims={"text": 6}), BadTable, "do not fit"),
        (lambda tensors, header: tensors.pop("standardisation.text.mean"), BadTable, "do not fit"),
        (lambda tensors, header: tensors.pop("model.branches.text.absent_H"), BadTable, "absent_H"),
        (
            lambda tensors, header: tensors["model.branches.text.absent_H"].fill_(float("nan")),
            BadTable,
            "absent_H holds a value that is not finite",
        ),
        (
            lambda tensors, header: tensors["standardisation.text.std"].fill_(float("inf")),
            BadTable,
            "text.std holds a value that is not finite",
        ),
        (
            lambda tensors, header: header["dims"].update(text=10**9),
            BadTable,
            "the mean of text has the shape .6., expected 1000000000 numbers",
        ),
        (lambda tensors, header: header["dims"].update(text=-6), BadTable, "dims.text"),
        (lambda tensors, header: header["dims"].update(text=0), BadTable, "dims.text"),
        (lambda tensors, header: header.pop("dims"), BadTable, "dims"),
        (
            lambda tensors, header: header["model_settings"].update(hidden_units=10**9),
            BadTable,
            "do not fit context_gru",
        ),
        (lambda tensors, header: header["model_settings"].update(layers=10**9), BadSettings, "layers"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(model_file, tmp_path, change, error, words):
    with pytest.raises(error, match=words):
        checkpoint.load(changed(model_file, tmp_path, change))


def test_a_file_that_is_not_a_safetensors_file_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(BadTable, match="not a model trained"):
        checkpoint.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("header", ["[" * 100_000, "[]", "null", "7", "{", '{"model": []}'])
def test_a_header_that_is_invalid_is_refused(model_file, tmp_path, header):
    with safe_open(model_file, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, tmp_path / "changed.safetensors", metadata={"merc": header})
    with pytest.raises(BadTable, match=r"changed\.safetensors: not a model trained"):
        checkpoint.load(tmp_path / "changed.safetensors")


@pytest.mark.usefixtures("toy_framework")
def test_a_model_inside_a_framework_is_read_back_with_it(make_shards, params, tmp_path):
    layout = make_shards()
    made = train(resolve(params, "all+toy"), layout, RunOptions(device="cpu"), runs=tmp_path / "runs")
    loaded = checkpoint.load(made / "models" / "seed-0" / "model.safetensors")
    assert (loaded.header.framework, loaded.header.framework_settings) == ("toy", {"scale": 0.5})
    split = loaded.standardisation.apply_(
        read_split(layout.shards, "test", loaded.model.modalities, len(loaded.header.classes))
    )
    rows = pq.read_table(made / "predictions.parquet", filters=[("seed", "=", 0), ("split", "=", "test")])
    torch.testing.assert_close(
        predict(loaded.model, split).softmax(dim=1), torch.tensor(rows["probabilities"].to_pylist()), atol=1e-6, rtol=0
    )
