import json

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import BadSettings, BadTable
from pipeline.parts import RunOptions
from pipeline.training import checkpoint
from pipeline.training.dataset import read_split
from pipeline.training.stage import train
from pipeline.training.trainer import predict


@pytest.fixture
def model_file(make_shards, params, tmp_path):
    layout = make_shards()
    made = train(params, layout, RunOptions(device="cpu"), recipe="all", runs=tmp_path / "runs")
    return layout, made / "seed-1" / "model.safetensors"


def test_a_model_that_is_read_back_scores_as_the_trained_one(model_file):
    layout, path = model_file
    loaded = checkpoint.load(path)
    split = loaded.standardisation.apply(read_split(layout.shards, "test", loaded.model.modalities, len(loaded.header.classes)))
    import pyarrow.parquet as pq

    rows = pq.read_table(path.parents[1] / "predictions.parquet", filters=[("seed", "=", 1), ("split", "=", "test")])
    expected = torch.tensor(rows["probabilities"].to_pylist())
    torch.testing.assert_close(predict(loaded.model, split).softmax(dim=1), expected, atol=1e-6, rtol=0)
    assert loaded.header.classes == ("neutral", "joy", "anger")
    assert loaded.header.dims == {"text": 6, "audio": 5, "visual": 4}
    assert (loaded.header.seed, loaded.header.recipe["name"], loaded.header.encoders["audio"]) == (1, "all", "audio-encoder")


def changed(path, tmp_path, change):
    from safetensors import safe_open

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
        (lambda tensors, header: header.update(model_settings={"hidden_units": 8}), BadSettings, "layers"),
        (lambda tensors, header: header.update(extra=1), BadTable, "not a trained model"),
        (lambda tensors, header: header.update(dims={"text": 6}), BadTable, "do not fit"),
        (lambda tensors, header: tensors.pop("standardisation.text.mean"), BadTable, "do not fit"),
        (lambda tensors, header: tensors.pop("model.branches.text.absent_H"), BadTable, "absent_H"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(model_file, tmp_path, change, error, words):
    with pytest.raises(error, match=words):
        checkpoint.load(changed(model_file[1], tmp_path, change))


def test_a_file_that_is_no_safetensors_file_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(BadTable, match="not a trained model"):
        checkpoint.load(tmp_path / "model.safetensors")
