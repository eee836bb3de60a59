"""Results are read as written by training, checked, and summarised over the seeds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from merc.errors import BadTable
from merc.reports.results import Spread, read_history, read_recipes, read_record

WriteRun = Callable[..., Path]


def test_mean_and_spread_over_the_seeds() -> None:
    spread = Spread([0.50, 0.52, 0.57])
    # Mean 0.53; squares of -0.03, -0.01, 0.04 sum to 0.0026, halved and rooted: 0.036056.
    assert spread.percent() == "53.00 ± 3.61"
    assert spread.std == pytest.approx(0.036056, abs=1e-6)


def test_a_single_seed_has_no_spread() -> None:
    assert Spread([0.5]).std is None
    assert Spread([0.5]).percent() == "50.00"


def test_confusion_is_the_sum_over_the_seeds(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(classes=["no", "yes"], scores=[(0.5, 0.4), (0.5, 0.4), (0.5, 0.4)])
    (recipe,) = read_recipes(tmp_path / "runs", "tiny")
    of_seeds = [seed.test.confusion for seed in recipe.seeds.values()]
    assert recipe.confusion == [
        [sum(matrix[row][column] for matrix in of_seeds) for column in (0, 1)] for row in (0, 1)
    ]


def test_without_runs_there_are_no_recipes(tmp_path: Path) -> None:
    assert read_recipes(tmp_path / "runs", "tiny") == []


def test_features_name_encoder_and_modality(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(modalities=["audio"])
    assert read_recipes(tmp_path / "runs", "tiny")[0].features == "audio acoustic"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": {}}, "no seed has been run"),
        ({"dataset": "other"}, "dataset is 'other', the folder's name is 'tiny'"),
        ({"recipe": "other"}, "recipe is 'other'"),
        ({"parameters": "many"}, "parameters: Input should be a valid integer"),
        ({"encoders": {"text": "ngrams"}}, "encoders names none for audio"),
        ({"majority": {}}, "majority has no"),
        ({"classes": ["neutral", "joy"]}, "the confusion matrix of seed 0 is not 2 x 2"),
    ],
)
def test_results_that_training_would_not_write_are_refused(
    changes: dict[str, Any], message: str, write_run: WriteRun, tmp_path: Path
) -> None:
    write_run(replace=changes)
    with pytest.raises(BadTable, match=message) as raised:
        read_recipes(tmp_path / "runs", "tiny")
    assert "results.json" in str(raised.value)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), 57.2, -0.1])
def test_a_score_that_is_not_a_share_is_refused_naming_file_and_key(
    write_run: WriteRun, tmp_path: Path, score: float
) -> None:
    path = write_run() / "results.json"
    results = json.loads(path.read_text())
    results["seeds"]["1"]["test"]["weighted_f1"] = score
    path.write_text(json.dumps(results))
    with pytest.raises(
        BadTable, match=r"baseline/results.json: not the results of a run: seeds.1.test.weighted_f1: Input should be"
    ):
        read_recipes(tmp_path / "runs", "tiny")


def test_results_that_are_not_json_are_refused(write_run: WriteRun, tmp_path: Path) -> None:
    (write_run() / "results.json").write_text("{")
    with pytest.raises(BadTable, match="not a JSON file"):
        read_recipes(tmp_path / "runs", "tiny")


def test_history_by_seed_and_epoch(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(epochs=3)
    (recipe,) = read_recipes(tmp_path / "runs", "tiny")
    epochs = read_history(tmp_path / "runs", recipe)
    assert [(one.seed, one.epoch) for one in epochs] == [("0", 1), ("0", 2), ("0", 3), ("1", 1), ("1", 2), ("1", 3)]
    assert epochs[4].train_loss == 1.05


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seed,epoch\n0,1\n", "no column dev_weighted_f1, train_loss"),
        ("seed,epoch,train_loss,dev_weighted_f1\n0,1,low,0.5\n", "history.csv, line 2: could not convert"),
    ],
)
def test_a_broken_history_is_refused(content: str, message: str, write_run: WriteRun, tmp_path: Path) -> None:
    folder = write_run()
    (folder / "history.csv").write_text(content)
    (recipe,) = read_recipes(tmp_path / "runs", "tiny")
    with pytest.raises(BadTable, match=message):
        read_history(tmp_path / "runs", recipe)


def test_a_run_without_history_or_record_is_read(write_run: WriteRun, tmp_path: Path) -> None:
    folder = write_run()
    (recipe,) = read_recipes(tmp_path / "runs", "tiny")
    assert read_record(tmp_path / "runs", recipe)["inputs"] == {"shards": "0"}
    for name in ("history.csv", "record.json"):
        (folder / name).unlink()
    assert read_history(tmp_path / "runs", recipe) == []
    assert read_record(tmp_path / "runs", recipe) == {}
