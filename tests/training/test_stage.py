import csv
import json
import shutil
import statistics
import threading

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from click.testing import CliRunner

from merc.commands.train import main as command
from merc.errors import BadSettings, RawDataMissing, SettingsDiffer
from merc.job import RunOptions
from merc.layout import Layout
from merc.params import Params
from merc.training.loop import seeds
from merc.training.loop.trainer import train_seed
from merc.training.recipes.resolution import resolve
from merc.training.stage import main, train

RUN = RunOptions(device="cpu")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def undisturbed(made_once, make_shards, params):
    """The output of a training of ``all``; made once, do not change it."""
    return (
        made_once("trained-all", lambda folder: train(resolve(params, "all"), make_shards(), RUN, runs=folder))
        / "tiny"
        / "all"
    )


def test_a_run_leaves_the_agreed_files(undisturbed):
    made = undisturbed
    assert set(contents(made)) == {
        "confusion.csv", "history.csv", "record.json", "metrics.json", "predictions.parquet", "results.json",
        "models/seed-0/model.safetensors", "models/seed-1/model.safetensors",
    }  # fmt: skip
    history = list(csv.DictReader((made / "history.csv").open()))
    assert list(history[0]) == [
        "seed", "epoch", "learning_rate", "train_loss", "loss_cross_entropy", "dev_weighted_f1", "dev_accuracy",
        "test_weighted_f1_not_used",
    ]  # fmt: skip
    assert [(row["seed"], row["epoch"]) for row in history] == [
        (seed, str(epoch)) for seed in "01" for epoch in range(1, 6)
    ]
    results = json.loads((made / "results.json").read_text())
    assert results["modalities"] == ["text", "audio", "visual"]
    assert results["classes"] == ["neutral", "joy", "anger"]
    assert results["encoders"] == {"text": "text-encoder", "audio": "audio-encoder", "visual": "visual-encoder"}
    assert results["tag"] == "frozen"
    assert (results["dataset"], results["recipe"], results["model"], results["label_set"]) == (
        "tiny",
        "all",
        "context_gru",
        "tiny3",
    )
    assert (results["causal"], results["selection"]) == (False, "dev weighted F1")
    of_seeds = [results["seeds"][seed]["test"]["weighted_f1"] for seed in ("0", "1")]
    assert results["mean"]["test"]["weighted_f1"] == statistics.fmean(of_seeds)
    assert results["std"]["test"]["weighted_f1"] == statistics.stdev(of_seeds)
    assert results["mean"]["test"]["weighted_f1"] > results["majority"]["test"]["weighted_f1"] + 0.3
    metrics = json.loads((made / "metrics.json").read_text())
    assert metrics["test"]["weighted_f1"] == {
        "mean": results["mean"]["test"]["weighted_f1"],
        "std": results["std"]["test"]["weighted_f1"],
        "majority": results["majority"]["test"]["weighted_f1"],
    }


def test_a_run_on_an_adapted_encoder_is_tagged_unless_its_modality_is_left_out(make_shards, tree, tmp_path):
    tree["recipes"] = {name: {**recipe, "epochs": 1, "seeds": [0]} for name, recipe in tree["recipes"].items()}
    layout = make_shards(labels=lambda label: label)
    path = layout.shards / "meta" / "info.json"
    info = json.loads(path.read_text())
    info["encoders"]["text"]["tag"] = "adapted"
    path.write_text(json.dumps(info))
    for recipe, tag in (("all", "adapted"), ("audio", "frozen")):
        made = train(resolve(Params(tree), recipe), layout, RUN, runs=tmp_path / "runs")
        assert json.loads((made / "results.json").read_text())["tag"] == tag


def test_predictions_and_confusion_agree_with_the_results(make_shards, tree, tmp_path):
    tree["recipes"]["all"]["epochs"] = 2
    made = train(
        resolve(Params(tree), "all"),
        make_shards(labels=lambda label: label if label else -1),
        RUN,
        runs=tmp_path / "runs",
    )
    results = json.loads((made / "results.json").read_text())
    rows = pq.read_table(made / "predictions.parquet").to_pylist()
    classes = results["classes"]
    for seed, found in results["seeds"].items():
        test = [row for row in rows if row["seed"] == int(seed) and row["split"] == "test" and row["label"] >= 0]
        matrix = [
            [sum(row["label"] == actual and row["predicted"] == predicted for row in test) for predicted in range(3)]
            for actual in range(3)
        ]
        assert found["test"]["confusion"] == matrix
        assert sum(one["support"] for one in found["test"]["per_class"].values()) == len(test)
    assert any(row["label"] == -1 for row in rows)
    assert results["unlabelled_in_context"]
    assert all(
        sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)
        and max(row["probabilities"]) == row["probabilities"][row["predicted"]]
        for row in rows
    )
    best = max(results["seeds"], key=lambda seed: results["seeds"][seed]["dev"]["weighted_f1"])
    drawn = list(csv.DictReader((made / "confusion.csv").open()))
    expected = [row for row in rows if row["seed"] == int(best) and row["split"] == "test" and row["label"] >= 0]
    assert [(row["actual"], row["predicted"]) for row in drawn] == [
        (classes[row["label"]], classes[row["predicted"]]) for row in expected
    ]


def test_one_seed_has_no_spread(make_shards, tree, tmp_path):
    tree["recipes"]["text"]["seeds"] = [4]
    made = train(resolve(Params(tree), "text"), make_shards(), RUN, runs=tmp_path / "runs")
    assert json.loads((made / "results.json").read_text())["std"]["test"] == {
        "weighted_f1": None,
        "accuracy": None,
        "macro_f1": None,
    }


def test_the_same_settings_give_the_same_bytes(make_shards, params, tmp_path, undisturbed):
    again = train(resolve(params, "all"), make_shards(), RunOptions(device="cpu", workers=7), runs=tmp_path / "runs")
    assert again == tmp_path / "runs" / "tiny" / "all"
    assert contents(again) == contents(undisturbed)


def test_what_the_epochs_of_each_seed_took_is_next_to_the_run(undisturbed):
    fingerprint = json.loads((undisturbed / "record.json").read_text())["fingerprint"]
    for seed in (0, 1):
        times = json.loads((undisturbed.parents[1] / ".times" / "tiny" / "all" / f"seed-{seed}.json").read_text())
        assert (times.pop("wall_seconds") > 0, times.pop("cpu_seconds") > 0) == (True, True)
        assert times == {"fingerprint": fingerprint, "device": "cpu", "threads": torch.get_num_threads(), "epochs": 5}


def test_a_killed_run_continues_with_the_next_seed_and_ends_alike(
    make_shards, params, tmp_path, monkeypatch, undisturbed
):
    layout, done = make_shards(), []

    def killed_at_the_second(plan, data, seed, *more):
        done.append(seed)
        if len(done) == 2:
            raise KeyboardInterrupt
        return train_seed(plan, data, seed, *more)

    monkeypatch.setattr(seeds, "train_seed", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        train(resolve(params, "all"), layout, RUN, runs=tmp_path / "runs")
    assert not (tmp_path / "runs" / "tiny" / "all").exists()
    resumed = train(resolve(params, "all"), layout, RUN, runs=tmp_path / "runs")
    assert done == [0, 1, 1]
    assert contents(resumed) == contents(undisturbed)


def test_a_finished_run_is_not_trained_again(make_shards, params, tmp_path, monkeypatch):
    layout = make_shards()
    out = train(resolve(params, "text"), layout, RUN, runs=tmp_path / "runs")
    monkeypatch.setattr(seeds, "train_seed", lambda *args: pytest.fail("trained again"))
    assert train(resolve(params, "text"), layout, RUN, runs=tmp_path / "runs") == out


def test_a_run_with_other_settings_is_refused_naming_the_key(make_shards, tree, tmp_path):
    layout = make_shards()
    train(resolve(Params(tree), "text"), layout, RUN, runs=tmp_path / "runs")
    tree["recipes"]["text"] = {
        **tree["recipes"]["text"],
        "optimizer": {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.0},
    }
    with pytest.raises(SettingsDiffer, match=r"recipes\.text\.optimizer\.learning_rate: 0\.02 there, 0\.01 wanted"):
        train(resolve(Params(tree), "text"), layout, RUN, runs=tmp_path / "runs")
    train(resolve(Params(tree), "text"), layout, RunOptions(device="cpu", overwrite=True), runs=tmp_path / "runs")


def test_shards_made_anew_are_trained_on_anew(make_shards, params, tmp_path):
    runs = tmp_path / "runs"
    train(resolve(params, "text"), make_shards(), RUN, runs=runs)
    before = contents(runs)
    layout = make_shards(modalities=["text"], splits={"train": 30, "dev": 8, "test": 10})
    train(resolve(params, "text"), layout, RUN, runs=runs)
    assert contents(runs) != before


@pytest.mark.parametrize(
    ("made", "recipe", "words"),
    [
        ({"splits": {"train": 8, "test": 4}}, "text", "no dev split.*validation"),
        ({"splits": {"train": 8, "dev": 4}}, "text", "no test split"),
        ({"modalities": ["text", "audio"]}, "visual", "needs visual.*valid: audio, text"),
        ({"labels": lambda label: -1}, "text", "nothing to learn"),
        ({"labels": lambda label: 0}, "text", "nothing to learn.*neutral"),
    ],
)
def test_shards_that_cannot_be_trained_on_are_explained(make_shards, params, tmp_path, made, recipe, words):
    with pytest.raises(BadSettings, match=words):
        train(resolve(params, recipe), make_shards(**made), RUN, runs=tmp_path / "runs")
    assert not list(tmp_path.glob("runs/*/*"))


def test_missing_shards_are_explained(params, tmp_path):
    with pytest.raises(RawDataMissing, match=r"no shards of 'tiny'.*\n  merc-extract --dataset tiny"):
        train(
            resolve(params, "text"),
            Layout(tmp_path / "raw", tmp_path / "features", "tiny"),
            RUN,
            runs=tmp_path / "runs",
        )


def test_the_command_trains_and_replaces_what_is_stale(make_shards, tree, tmp_path):
    layout, file = make_shards(), tmp_path / "params.yaml"
    arguments = [
        "--dataset",
        "tiny",
        "--out",
        str(layout.out),
        "--runs",
        str(tmp_path / "runs"),
        "--params",
        str(file),
        "--recipe",
    ]
    for rate in (0.02, 0.01):
        tree["recipes"]["text"]["optimizer"] = {"name": "adamw", "learning_rate": rate, "weight_decay": 0.0}
        file.write_text(yaml.safe_dump(tree))
        assert CliRunner().invoke(main, [*arguments, "text"]).exit_code == 0
    info = json.loads((tmp_path / "runs" / "tiny" / "text" / "record.json").read_text())
    assert info["settings"]["recipes"]["text"]["optimizer"]["learning_rate"] == 0.01
    assert CliRunner().invoke(main, [*arguments, "tex"]).exit_code == 2
    shutil.rmtree(layout.shards)
    assert CliRunner().invoke(main, [*arguments, "text"]).exit_code == 4


def test_where_another_process_trains_the_same_the_second_ends_with_7_or_waits(make_shards, tree, tmp_path, hold):
    layout = make_shards(labels=lambda label: label)
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump({"recipes": {"all": tree["recipes"]["text"] | {"epochs": 1, "seeds": [0]}}})
    )
    given = [
        "--dataset",
        "tiny",
        "--recipe",
        "all",
        "--out",
        str(layout.out),
        "--runs",
        str(tmp_path / "runs"),
        "--params",
        str(tmp_path / "params.yaml"),
    ]
    process = hold(tmp_path / "runs" / "tiny" / "all")
    refused = CliRunner().invoke(command, given)
    assert refused.exit_code == 7
    assert f"process {process.pid} on " in refused.stderr
    threading.Timer(0.5, process.kill).start()
    assert CliRunner().invoke(command, [*given, "--wait"]).exit_code == 0
    assert "all: already done" in CliRunner().invoke(command, [*given, "--wait"]).stderr
