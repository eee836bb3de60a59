"""Every tool that people read Parquet with opens the shards, with the right shapes, types and missing modalities."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.shards.card import write_card

Make = Callable[..., Any]
CLASSES = ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]
SIZES = {"train": (3, 1, 2), "dev": (2,), "test": (2, 2)}


@pytest.fixture
def made(extracted: Make) -> Any:
    made = extracted(SIZES)
    made.write_features("visual", {1: "no_face"})
    write_card(made.build())
    return made


@pytest.fixture
def train(made: Any) -> Path:
    return Path(made.layout.shards / "dialogues" / "train-00000-of-00001.parquet")


def test_pyarrow(made: Any, train: Path) -> None:
    table = pq.read_table(train)
    assert table["visual"].type == pa.list_(pa.field("element", pa.list_(pa.field("element", pa.float32(), nullable=False), 2), nullable=False))
    assert table["emotion_index"].type == pa.list_(pa.int64())
    np.testing.assert_array_equal(table["visual"].to_pylist()[0], np.where([[True], [False], [True]], made.vectors["visual"][:3], 0))


def test_pandas(made: Any, train: Path) -> None:
    import pandas as pd

    frame = pd.read_parquet(train)
    assert frame["n_utterances"].tolist() == [3, 1, 2]
    stacked = np.stack(frame["visual"][0])
    assert (stacked.shape, stacked.dtype) == ((3, 2), np.float32)
    np.testing.assert_array_equal(stacked[[0, 2]], made.vectors["visual"][[0, 2]])
    assert frame["visual_present"][0].tolist() == [True, False, True]
    assert not stacked[1].any()


def test_polars(made: Any, train: Path) -> None:
    import polars as pl

    frame = pl.read_parquet(train)
    assert frame.schema["visual"] == pl.List(pl.Array(pl.Float32, 2))
    assert frame.schema["emotion_index"] == pl.List(pl.Int64)
    vectors = frame["visual"][0].to_numpy()
    assert (vectors.shape, vectors.dtype) == ((3, 2), np.float32)
    np.testing.assert_array_equal(vectors[[0, 2]], made.vectors["visual"][[0, 2]])
    assert frame["visual_present"].to_list() == [[True, False, True], [True], [True, True]]
    assert frame["texts"][0].to_list()[0] == "Line 0 of 0, “quoted”"


def test_duckdb(made: Any, train: Path) -> None:
    import duckdb

    with duckdb.connect() as connection:
        query = f"select visual, visual_present, emotion_index, valence, n_speakers from read_parquet('{train}') where dialogue_id = 'train/dia0'"  # noqa: S608
        [(visual, present, labels, valence, speakers)] = connection.execute(query).fetchall()
        types = dict(connection.execute(f"select column_name, column_type from (describe select * from '{train}')").fetchall())  # noqa: S608
    np.testing.assert_array_equal(np.array(visual, dtype=np.float32)[[0, 2]], made.vectors["visual"][[0, 2]])
    assert (present, labels, valence, speakers) == ([True, False, True], [0, 4, 6], [2.5, None, 2.5], 2)
    assert (types["visual"], types["visual_present"], types["start_seconds"]) == ("FLOAT[][]", "BOOLEAN[]", "DOUBLE[]")


def test_hugging_face_datasets(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    found = datasets.load_dataset(str(made.layout.shards), cache_dir=str(tmp_path / "cache"))
    assert {split: len(one) for split, one in found.items()} == {"train": 3, "dev": 1, "test": 2}
    features = found["train"].features
    assert features["emotion_index"] == datasets.List(datasets.ClassLabel(names=CLASSES))
    assert features["visual"] == datasets.List(datasets.List(datasets.Value("float32"), length=2))
    assert features["speaker_index"] == datasets.List(datasets.Value("int16"))
    assert found["train"]["emotion_index"][:] == [[0, 4, 6], [4], [6, -1]]  # -1: outside the label set
    row = found["train"].with_format("numpy")[0]
    assert (row["visual"].shape, row["visual"].dtype) == ((3, 2), np.float32)
    np.testing.assert_array_equal(row["visual"][[0, 2]], made.vectors["visual"][[0, 2]])
    assert row["visual_present"].tolist() == [True, False, True]
    failed = datasets.load_dataset(str(made.layout.shards), "failures", cache_dir=str(tmp_path / "cache"))
    assert list(failed) == ["train"]  # the other splits have no failure, and datasets cannot load a split without rows
    assert failed["train"]["reason"][:] == ["text_repaired", "no_face"]


@pytest.mark.parametrize("split", ["dev", "train"])
def test_an_empty_failure_table_has_the_columns_of_a_full_one(made: Any, split: str) -> None:
    import duckdb
    import pandas as pd
    import polars as pl

    path = made.layout.shards / "failures" / f"{split}-00000-of-00001.parquet"
    names = ["utterance_id", "stage", "modality", "reason", "kind", "detail"]
    rows = {"dev": 0, "train": 2}[split]
    frame = pl.read_parquet(path)
    assert (frame.columns, len(frame), set(frame.dtypes)) == (names, rows, {pl.String})
    assert (pd.read_parquet(path).columns.tolist(), len(pd.read_parquet(path))) == (names, rows)
    with duckdb.connect() as connection:
        assert connection.execute(f"select count(*) from '{path}'").fetchall() == [(rows,)]  # noqa: S608
