"""Every tool that people read Parquet with opens the shards, with the right shapes, types, label names and missing
modalities.

The documentation's example for each library is run here on small shards, and its results are checked.
"""

import ast
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merc.shards.card.writing import write_card

Make = Callable[..., Any]
CLASSES = ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]
SIZES = {"train": (3, 1, 2), "dev": (2,), "test": (2, 2)}
EMOTIONS = ["neutral", "joy", "anger", "joy", "anger", "boredom"]  # of the six train utterances
SECTION = (
    (Path(__file__).parents[2] / "docs" / "shards.md")
    .read_text(encoding="utf-8")
    .split("## Reading the shards\n")[1]
    .split("\n## ")[0]
)
EXAMPLES = dict(re.findall(r"^\*\*([^*]+)\*\*.*?^```python\n(.*?)^```$", SECTION, flags=re.DOTALL | re.MULTILINE))


@pytest.fixture
def made(extracted: Make) -> Any:
    made = extracted(SIZES)
    made.write_features("visual", {1: "no_face"})
    write_card(made.build(row_group_dialogues=2))
    return made


@pytest.fixture
def train(made: Any) -> Path:
    return Path(made.layout.shards / "dialogues" / "train-00000-of-00001.parquet")


@pytest.fixture
def example(made: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Runs the documentation's example for a library, with the small shards in place of those it names, and returns its
    variables.
    """
    made.layout.folder.with_name("demo-meld").symlink_to(made.layout.folder)
    monkeypatch.chdir(made.layout.out.parent)

    def run(*titles: str) -> dict[str, Any]:
        variables: dict[str, Any] = {}
        for title in titles:
            exec(compile(EXAMPLES[title], f"docs/shards.md, {title}", "exec"), variables)  # noqa: S102
        return variables

    return run


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Hugging Face ``datasets`` without a network, with a separate cache."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return datasets


@pytest.fixture
def ray(example: Any) -> Iterator[Any]:
    """Ray on this machine, with one worker, which starts in the folder of the example; its own folder has a short name,
    since socket paths must be short.
    """
    import logging

    import ray.data

    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        ray.init(
            "local",
            num_cpus=1,
            include_dashboard=False,
            object_store_memory=80 << 20,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _temp_dir=folder,
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
        ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def test_the_documentation_shows_each_library_in_at_most_six_statements() -> None:
    assert list(EXAMPLES) == [
        "pyarrow",
        "pandas",
        "polars",
        "DuckDB",
        "Hugging Face `datasets`",
        "Ray Data",
        "This project's reader",
        "torch",
    ]
    assert SECTION.count("```python") == len(EXAMPLES)
    for title, code in EXAMPLES.items():
        assert 3 <= len(ast.parse(code).body) <= 6, title


def test_pyarrow(made: Any, train: Path, example: Callable[..., dict[str, Any]]) -> None:
    table = pq.read_table(train)
    assert table["visual"].type == pa.list_(
        pa.field("element", pa.list_(pa.field("element", pa.float32(), nullable=False), 2), nullable=False)
    )
    assert table["emotion_index"].type == pa.list_(pa.int64())
    assert table["emotions"].combine_chunks().flatten().to_pylist() == EMOTIONS
    np.testing.assert_array_equal(
        table["visual"].to_pylist()[0], np.where([[True], [False], [True]], made.vectors["visual"][:3], 0)
    )
    shown = example("pyarrow")
    assert shown["train"].num_rows == 3  # only the split
    np.testing.assert_array_equal(shown["vectors"], made.vectors["text"][:6])


def test_pandas(made: Any, train: Path, example: Callable[..., dict[str, Any]]) -> None:
    import pandas as pd

    frame = pd.read_parquet(train)
    assert frame["n_utterances"].tolist() == [3, 1, 2]
    stacked = np.stack(frame["visual"][0])
    assert (stacked.shape, stacked.dtype) == ((3, 2), np.float32)
    np.testing.assert_array_equal(stacked[[0, 2]], made.vectors["visual"][[0, 2]])
    assert frame["visual_present"][0].tolist() == [True, False, True]
    assert frame["emotion_index"][2].tolist() == [6, -1]
    assert not stacked[1].any()
    shown = example("pandas")
    assert shown["utterances"]["dialogue_id"].tolist() == ["train/dia0"] * 3 + ["train/dia1"] + ["train/dia2"] * 2
    assert shown["utterances"]["emotions"].tolist() == EMOTIONS
    assert shown["vectors"].dtype == np.float32
    np.testing.assert_array_equal(shown["vectors"], made.vectors["text"][:6])


def test_polars(made: Any, train: Path, example: Callable[..., dict[str, Any]]) -> None:
    import polars as pl

    frame = pl.read_parquet(train)
    assert frame.schema["visual"] == pl.List(pl.Array(pl.Float32, 2))
    assert frame.schema["emotion_index"] == pl.List(pl.Int64)
    vectors = frame["visual"][0].to_numpy()
    assert (vectors.shape, vectors.dtype) == ((3, 2), np.float32)
    np.testing.assert_array_equal(vectors[[0, 2]], made.vectors["visual"][[0, 2]])
    assert frame["visual_present"].to_list() == [[True, False, True], [True], [True, True]]
    assert frame["texts"][0].to_list()[0] == "Line 0 of 0, “quoted”"
    shown = example("polars")
    assert dict(shown["utterances"].schema) == {
        "dialogue_id": pl.String,
        "texts": pl.String,
        "emotions": pl.String,
        "text": pl.Array(pl.Float32, 4),
    }
    assert shown["utterances"]["emotions"].to_list() == EMOTIONS
    np.testing.assert_array_equal(shown["vectors"], made.vectors["text"][:6])


def test_duckdb(made: Any, train: Path, example: Callable[..., dict[str, Any]]) -> None:
    import duckdb

    with duckdb.connect() as connection:
        query = f"select visual, visual_present, emotion_index, valence, n_speakers from read_parquet('{train}') where dialogue_id = 'train/dia0'"  # noqa: E501, S608
        [(visual, present, labels, valence, speakers)] = connection.execute(query).fetchall()
        types = dict(
            connection.execute(f"select column_name, column_type from (describe select * from '{train}')").fetchall()  # noqa: S608
        )
    np.testing.assert_array_equal(np.array(visual, dtype=np.float32)[[0, 2]], made.vectors["visual"][[0, 2]])
    assert (present, labels, valence, speakers) == ([True, False, True], [0, 4, 6], [2.5, None, 2.5], 2)
    assert (types["visual"], types["visual_present"], types["start_seconds"]) == ("FLOAT[][]", "BOOLEAN[]", "DOUBLE[]")
    shown = example("DuckDB")
    assert list(map(str, shown["utterances"].types)) == ["VARCHAR", "VARCHAR", "VARCHAR", "FLOAT[]"]
    rows = shown["utterances"].fetchall()
    assert [row[2] for row in rows] == EMOTIONS
    np.testing.assert_array_equal(np.array([row[3] for row in rows], dtype=np.float32), made.vectors["text"][:6])
    assert shown["counts"] == [("anger", 2), ("boredom", 1), ("joy", 2), ("neutral", 1)]


def test_hugging_face_datasets(made: Any, datasets: Any, example: Callable[..., dict[str, Any]]) -> None:
    found = datasets.load_dataset(str(made.layout.shards))
    assert {split: len(one) for split, one in found.items()} == {"train": 3, "dev": 1, "test": 2}
    features = found["train"].features
    assert features["emotion_index"] == datasets.List(datasets.ClassLabel(names=CLASSES))
    assert features["visual"] == datasets.List(datasets.List(datasets.Value("float32"), length=2))
    assert features["speaker_index"] == datasets.List(datasets.Value("int16"))
    assert found["train"]["emotion_index"][:] == [[0, 4, 6], [4], [6, -1]]  # -1: outside the label set
    failed = datasets.load_dataset(str(made.layout.shards), "failures")
    assert list(failed) == ["train"]  # the other splits have no failure, and datasets cannot load a split without rows
    assert failed["train"]["reason"][:] == ["text_repaired", "no_face"]
    shown = example("Hugging Face `datasets`")
    assert shown["names"] == CLASSES
    assert shown["dialogue"]["dialogue_id"] == "train/dia2"
    np.testing.assert_array_equal(shown["vectors"], made.vectors["text"][4:6])
    assert (shown["vectors"].dtype, shown["present"].tolist(), shown["labels"].tolist()) == (
        np.float32,
        [True, True],
        [6, -1],
    )


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", ["numpy", "torch"])
def test_rows_of_datasets_are_arrays_map_style_and_streaming(
    made: Any, datasets: Any, form: str, streaming: bool
) -> None:
    import torch

    found = datasets.load_dataset(str(made.layout.shards), split="train", streaming=streaming)
    assert found.features["emotion_index"].feature.names == CLASSES
    row = next(iter(found.with_format(form)))
    array, float32, flag, whole = {
        "numpy": (np.ndarray, np.float32, np.bool_, np.int64),
        "torch": (torch.Tensor, torch.float32, torch.bool, torch.int64),
    }[form]
    for name, dim in (("text", 4), ("audio", 3), ("visual", 2)):
        assert isinstance(row[name], array)
        assert (tuple(row[name].shape), row[name].dtype) == ((3, dim), float32)
        np.testing.assert_array_equal(np.asarray(row[name])[[0, 2]], made.vectors[name][[0, 2]])
    assert (row["visual_present"].dtype, row["visual_present"].tolist()) == (flag, [True, False, True])
    assert (row["emotion_index"].dtype, row["emotion_index"].tolist()) == (whole, [0, 4, 6])
    assert list(row["speakers"]) == ["Ross", "Zoë", "Ross"]


def test_a_plain_torch_data_loader_over_datasets(made: Any, datasets: Any) -> None:
    import torch
    from torch.nn.utils.rnn import pad_sequence
    from torch.utils.data import DataLoader

    found = (
        datasets.load_dataset(str(made.layout.shards), split="train")
        .select_columns(["text", "emotion_index"])
        .with_format("torch")
    )
    loader = DataLoader(
        found,
        batch_size=2,
        num_workers=2,
        collate_fn=lambda rows: {name: pad_sequence([row[name] for row in rows], True) for name in rows[0]},
    )
    first, second = loader
    assert (first["text"].shape, first["text"].dtype) == ((2, 3, 4), torch.float32)
    assert first["emotion_index"].tolist() == [[0, 4, 6], [4, 0, 0]]
    np.testing.assert_array_equal(second["text"].numpy(), made.vectors["text"][None, 4:6])


@pytest.mark.slow  # starting Ray's processes takes longer than everything else here
def test_ray_data(made: Any, ray: Any, example: Callable[..., dict[str, Any]]) -> None:
    shown = example("Ray Data")
    assert list(shown["emotions"]) == EMOTIONS
    np.testing.assert_array_equal(shown["vectors"].astype(np.float32), made.vectors["text"][:6])
    [whole] = ray.data.read_parquet(str(made.layout.shards / "dialogues")).iter_batches(
        batch_size=None, batch_format="pyarrow"
    )
    assert whole["text"].type == pa.list_(
        pa.field("element", pa.list_(pa.field("element", pa.float32(), nullable=False), 4), nullable=False)
    )
    assert sorted(whole["dialogue_id"].to_pylist()) == [
        "dev/dia0",
        "test/dia0",
        "test/dia1",
        "train/dia0",
        "train/dia1",
        "train/dia2",
    ]
    assert whole["visual_present"].to_pylist()[whole["dialogue_id"].to_pylist().index("train/dia0")] == [
        True,
        False,
        True,
    ]


def test_this_project_s_reader_and_torch(made: Any, example: Callable[..., dict[str, Any]]) -> None:
    import torch

    shown = example("This project's reader")
    assert [shown[name].shape for name in ("text_BTD", "present_BT", "labels_BT", "mask_BT")] == [
        (3, 3, 4),
        (3, 3),
        (3, 3),
        (3, 3),
    ]
    assert shown["mask_BT"].sum() == 6
    shown = example("This project's reader", "torch")
    assert (shown["text_BTD"].dtype, shown["mask_BT"].dtype) == (torch.float32, torch.bool)


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
