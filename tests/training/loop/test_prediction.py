import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from merc import files
from merc.commands.train import main
from merc.errors import BadSettings, BadTable
from merc.job import RunOptions
from merc.params import Params
from merc.training.loop.prediction import label, labelled_schema
from merc.training.recipes.resolution import resolve
from merc.training.stage import train


@pytest.fixture
def model_file(made_once, make_shards, tree, tmp_path):
    """The model of a run that is trained once, and copied."""
    tree["recipes"]["all"] |= {"seeds": [3], "epochs": 12, "patience_epochs": 12}
    trained = made_once(
        "trained", lambda runs: train(resolve(Params(tree), "all"), make_shards(), RunOptions(device="cpu"), runs=runs)
    )
    shutil.copytree(trained, tmp_path / "runs")
    return tmp_path / "runs" / "tiny" / "all" / "models" / "seed-3" / "model.safetensors"


def changed_info(layout, change):
    path = layout.shards / "meta" / "info.json"
    info = files.read_json(path)
    change(info)
    files.write_json(path, info)
    return layout.shards


def test_dialogues_without_labels_are_labelled_as_those_with(model_file, make_shards, tmp_path):
    def nameless(split, rows):
        for row in rows:
            truth[split] += row["emotion_index"]
            row["emotion_index"] = [-1] * len(row["emotion_index"])

    truth = {"train": [], "dev": [], "test": []}
    out = tmp_path / "there" / "labels.parquet"
    label(model_file, make_shards(change=nameless, dataset="unknown").shards, out)
    table = pq.read_table(out)
    assert table.schema.equals(labelled_schema(3))
    assert set(table["label"].to_pylist()) == {-1}
    assert set(table["seed"].to_pylist()) == {3}
    assert table["split"].to_pylist() == [split for split, labels in truth.items() for _ in labels]
    assert table["emotion"].to_pylist() == [
        ("neutral", "joy", "anger")[index] for index in table["predicted"].to_pylist()
    ]
    assert np.mean(table["predicted"].to_numpy() == np.concatenate(list(truth.values()))) > 0.8


def test_the_labels_are_those_that_the_run_predicted(model_file, make_shards, tmp_path):
    made = label(model_file, make_shards().shards, tmp_path / "labels.parquet", split="test")
    run = pq.read_table(model_file.parents[2] / "predictions.parquet", filters=[("split", "=", "test")])
    assert made.drop_columns(["emotion", "probabilities"]).equals(run.drop_columns(["probabilities"]))
    np.testing.assert_allclose(made["probabilities"].to_pylist(), run["probabilities"].to_pylist(), atol=1e-6)


def test_a_dialogue_longer_than_any_seen_is_labelled(model_file, make_shards, tmp_path):
    def long(split, rows):
        row = rows[0]
        row.update({name: value * 300 for name, value in row.items() if isinstance(value, list)})
        row["utterance_ids"] = [f"{split}/long_{position}" for position in range(len(row["texts"]))]
        row["n_utterances"] = len(row["texts"])

    made = label(
        model_file, make_shards(change=long, splits={"test": 1}, dataset="long").shards, tmp_path / "labels.parquet"
    )
    assert len(made) >= 300
    assert np.isfinite(np.array(made["probabilities"].to_pylist())).all()


def test_labels_of_another_label_set_are_not_passed_off_as_the_models(model_file, make_shards, tmp_path):
    def relabel(info):
        info["classes"] = ["neutral", "joy", "fear"]
        for counts in info["counts"].values():
            counts["labels"]["fear"] = counts["labels"].pop("anger")

    shards = changed_info(make_shards(dataset="other"), relabel)
    assert set(label(model_file, shards, tmp_path / "labels.parquet")["label"].to_pylist()) == {-1}


@pytest.mark.parametrize(
    ("made", "change", "words"),
    [
        ({"modalities": ["text", "audio"]}, lambda info: None, "the model needs visual, which the shards"),
        (
            {},
            lambda info: info["encoders"]["audio"].update(name="wav2vec2"),
            "audio vectors of the encoder audio-encoder.*are of wav2vec2",
        ),
        ({}, lambda info: info["dims"].update(text=7), "text vectors of 6 numbers.* have 7"),
    ],
)
def test_shards_that_do_not_fit_the_model_are_refused(model_file, make_shards, tmp_path, made, change, words):
    shards = changed_info(make_shards(dataset="other", **made), change)
    with pytest.raises(BadSettings, match=words):
        label(model_file, shards, tmp_path / "labels.parquet")
    assert not (tmp_path / "labels.parquet").exists()


def test_vectors_of_another_encoder_are_labelled_where_that_is_wanted(model_file, make_shards, tmp_path):
    shards = changed_info(make_shards(dataset="other"), lambda info: info["encoders"]["audio"].update(name="wav2vec2"))
    assert len(label(model_file, shards, tmp_path / "labels.parquet", force=True))


def test_an_unknown_split_is_named_with_those_there_are(model_file, make_shards, tmp_path):
    with pytest.raises(BadTable, match=r"no split 'tset'; did you mean 'test'"):
        label(model_file, make_shards().shards, tmp_path / "labels.parquet", split="tset")


def test_the_command_labels(model_file, make_shards, tmp_path):
    shards, out = make_shards().shards, tmp_path / "labels.parquet"
    done = CliRunner().invoke(
        main, ["--predict", str(model_file), "--shards", str(shards), "--split", "dev", "--predictions", str(out)]
    )
    assert (done.exit_code, done.stdout) == (0, f"{out}\n")
    assert set(pq.read_table(out)["split"].to_pylist()) == {"dev"}


@pytest.mark.parametrize("content", ["cut", "pickle", "nothing"])
def test_the_command_explains_a_file_that_is_not_a_model(model_file, make_shards, tmp_path, content):
    bad = tmp_path / "bad.safetensors"
    if content != "nothing":
        bad.write_bytes(model_file.read_bytes()[:-100] if content == "cut" else b"\x80\x04pickle")
    assert CliRunner().invoke(main, ["--predict", str(bad), "--shards", str(make_shards().shards)]).exit_code == 4


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--dataset", "x"],
        ["--predict", "x"],
        ["--shards", "x"],
        ["--predict", "x", "--shards", "y", "--recipe", "z"],
    ],
)
def test_the_command_wants_something_to_train_or_to_label(options):
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 2
    assert "--dataset and --recipe" in done.output
