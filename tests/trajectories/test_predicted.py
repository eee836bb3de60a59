"""Neighbours of a test split by predicted labels, and predictions that do not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merc.errors import BadSettings, BadTable
from merc.layout import Layout
from merc.trajectories.config import Config
from merc.trajectories.predicted import predicted_table

CLASSES = ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]
TEST = [("test/a", "AB", [3, 3]), ("test/b", "ABA", [-1, 6, 6]), ("test/c", "A", [2]), ("test/d", "AB", [5, -1])]
PREDICTED = {"test/a": [0, 4], "test/b": [0, 4, 4], "test/c": [4], "test/d": [4, 0]}


def _config() -> Config:
    return Config(neighbours=2, similarities=("edit", "path_speakers", "pooled"), order_permutations=2)


def _rows(predicted: dict[str, list[int]], seed: int = 0, split: str = "test") -> list[dict[str, Any]]:
    rows = [
        {"seed": seed, "split": split, "dialogue_id": name, "position": position, "predicted": label}
        for name, labels in predicted.items()
        for position, label in enumerate(labels)
    ]
    return rows[::-1]  # in any order


@pytest.fixture
def shards(write_shards: Callable[..., Layout]) -> Path:
    return write_shards({"train": [("train/a", "A", [0])], "test": TEST}).shards


@pytest.fixture
def write(tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    def to_file(rows: list[dict[str, Any]]) -> Path:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "predictions.parquet")
        return tmp_path / "predictions.parquet"

    return to_file


def test_neighbours_come_from_the_predicted_labels_and_the_columns_say_so(
    shards: Path, write: Callable[..., Path]
) -> None:
    other_seed = {name: [1] * len(labels) for name, labels in PREDICTED.items()}
    table = predicted_table(
        shards,
        write(_rows(other_seed, seed=3) + _rows(PREDICTED) + _rows({"dev/a": [0]}, split="dev")),
        _config(),
        CLASSES,
        "test",
    )
    columns = [
        "neighbours_{}_predicted",
        "similarity_{}_predicted",
        "same_scenario_{}_predicted",
        "order_excess_{}_predicted",
    ]
    names = [column.format(name) for name in ("edit", "path_speakers") for column in columns]
    assert table.column_names == ["dialogue_id", "split", "trajectory_predicted", *names]
    rows = {row["dialogue_id"]: row for row in table.to_pylist()}
    assert {name: row["trajectory_predicted"] for name, row in rows.items()} == PREDICTED
    # 0 4 is one change from 0 4 4 and from 4, and two from 4 0; shares of the longer one: 1/3, 1/2.
    assert rows["test/a"]["neighbours_edit_predicted"] == ["test/b", "test/c"]
    assert rows["test/a"]["similarity_edit_predicted"] == pytest.approx([2 / 3, 1 / 2], abs=1e-6)


def test_the_true_labels_change_nothing(
    shards: Path, write: Callable[..., Path], write_shards: Callable[..., Layout]
) -> None:
    before = predicted_table(shards, write(_rows(PREDICTED)), _config(), CLASSES, "test")
    write_shards({"test": [(name, speakers, [1] * len(labels)) for name, speakers, labels in TEST]})
    assert predicted_table(shards, write(_rows(PREDICTED)), _config(), CLASSES, "test").equals(before)


@pytest.mark.parametrize(
    ("rows", "seed", "error", "message"),
    [
        (_rows(PREDICTED), 7, BadSettings, "no predictions of seed 7; there are 0"),
        (_rows(PREDICTED, split="dev"), None, BadSettings, "no predictions for the split 'test'; valid: dev"),
        (_rows({**PREDICTED, "test/b": [0, 4]}), None, BadTable, "2 predictions for the 3 utterances of 'test/b'"),
        (_rows({"test/a": [0, 4]}), None, BadTable, "0 predictions for the 3 utterances of 'test/b'"),
        (_rows({**PREDICTED, "test/c": [7]}), None, BadTable, "between 0 and 6"),
        ([{"seed": 0, "split": "test"}], None, BadTable, "not a table of predictions"),
        (
            [{**row, "predicted": str(row["predicted"])} for row in _rows(PREDICTED)],
            None,
            BadTable,
            "column 'predicted' is missing, of another type",
        ),
    ],
)
def test_predictions_that_do_not_fit_are_refused(
    rows: list[dict[str, Any]],
    seed: int | None,
    error: type[Exception],
    message: str,
    shards: Path,
    write: Callable[..., Path],
) -> None:
    with pytest.raises(error, match=message):
        predicted_table(shards, write(rows), _config(), CLASSES, "test", seed)


def test_a_file_that_is_not_parquet_is_refused(shards: Path, tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    for content in (b"PAR1 and then nothing", b""):
        path.write_bytes(content)
        with pytest.raises(BadTable, match=r"predictions\.parquet: not a Parquet file"):
            predicted_table(shards, path, _config(), CLASSES, "test")
    path.unlink()
    with pytest.raises(BadTable, match="no such file"):
        predicted_table(shards, path, _config(), CLASSES, "test")
