"""The reader: splits, dialogues by id, vectors without a copy, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merc import files
from merc.errors import BadTable
from merc.shards.format import reader

Make = Callable[..., Any]


def test_splits_are_those_that_are_there_in_order(extracted: Make) -> None:
    root = extracted({"test": (2,), "train": (1,)}).build()
    assert reader.splits(root) == ["train", "test"]
    assert reader.splits(root / "nowhere") == []


def test_only_the_columns_asked_for_are_read(extracted: Make) -> None:
    root = extracted().build()
    assert reader.read_split(root, "dev", ["audio", "dialogue_id"]).column_names == ["audio", "dialogue_id"]
    with pytest.raises(BadTable, match="no column 'emotion'; did you mean 'emotions'"):
        reader.read_split(root, "dev", ["emotion"])


def test_a_dialogue_is_found_in_any_file_of_its_split(extracted: Make) -> None:
    made = extracted()
    root = made.build(max_file_bytes=1)
    found = reader.dialogue(root, "train/dia2")
    assert found["utterance_ids"].to_pylist() == [["train/dia2_utt0", "train/dia2_utt1"]]
    values, offsets = reader.vectors_of(found["text"])
    np.testing.assert_array_equal(values, made.vectors["text"][4:6])
    assert offsets.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("name", "message"),
    [("train/dia7", "no dialogue 'train/dia7'; did you mean 'train/dia"), ("../../x", "no dialogue '../../x'")],
)
def test_an_unknown_dialogue_is_refused_with_the_nearest(extracted: Make, name: str, message: str) -> None:
    with pytest.raises(BadTable, match=message):
        reader.dialogue(extracted().build(), name)


@pytest.mark.parametrize("split", ["training", "../dialogues/train", "validation"])
def test_an_unknown_split_is_refused(extracted: Make, split: str) -> None:
    with pytest.raises(BadTable, match=r"no split .*valid: dev, test, train"):
        reader.read_split(extracted().build(), split)


def test_vectors_of_one_chunk_are_not_copied(extracted: Make) -> None:
    column = reader.read_split(extracted().build(row_group_dialogues=100), "train", ["text"])["text"].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    values, _ = reader.vectors_of(column)
    assert values.ctypes.data == column.values.values.buffers()[1].address
    assert not values.flags.writeable


def test_vectors_of_a_slice_are_those_of_its_dialogues(extracted: Make) -> None:
    made = extracted()
    column = reader.read_split(made.build(row_group_dialogues=100), "train", ["text"])["text"]
    for start, length, rows in ((0, 1, slice(0, 3)), (1, 2, slice(3, 6)), (2, 1, slice(4, 6)), (1, 0, slice(0, 0))):
        values, offsets = reader.vectors_of(column.slice(start, length))
        np.testing.assert_array_equal(values, made.vectors["text"][rows])
        assert len(offsets) == length + 1
        assert offsets[0] == 0
    mixed, offsets = reader.vectors_of(pa.chunked_array([column.slice(2, 1).chunk(0), column.slice(0, 1).chunk(0)]))
    np.testing.assert_array_equal(mixed, made.vectors["text"][[4, 5, 0, 1, 2]])
    assert offsets.tolist() == [0, 2, 5]


def test_other_columns_are_not_vectors(extracted: Make) -> None:
    with pytest.raises(BadTable, match="not a column of vectors: list<element: string"):
        reader.vectors_of(reader.read_split(extracted().build(), "train")["texts"])


def test_another_schema_version_is_named(extracted: Make) -> None:
    root = extracted().build()
    path = root / "dialogues" / "dev-00000-of-00001.parquet"
    table = pq.read_table(path)
    facts = {**json.loads(table.schema.metadata[b"merc"]), "schema_version": "9"}
    pq.write_table(table.replace_schema_metadata({"merc": json.dumps(facts)}), path)
    with pytest.raises(BadTable, match=r"dev-00000-of-00001\.parquet: schema version '9', this program reads '2'"):
        reader.read_split(root, "dev")
    files.write_json(
        root / "meta" / "info.json", {**files.read_json(root / "meta" / "info.json"), "schema_version": "9"}
    )
    with pytest.raises(BadTable, match=r"info.json: schema version '9'"):
        reader.info(root)


def test_files_that_are_not_shards_are_named(extracted: Make, tmp_path: Path) -> None:
    with pytest.raises(BadTable, match="not a folder of shards"):
        reader.info(tmp_path)
    with pytest.raises(BadTable, match="not a folder of shards"):
        reader.stats(tmp_path)
    root = extracted().build()
    path = root / "dialogues" / "dev-00000-of-00001.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(BadTable, match="the key 'merc' is missing"):
        reader.read_split(root, "dev")
    path.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(BadTable, match="not a Parquet file"):
        reader.read_split(root, "dev")
