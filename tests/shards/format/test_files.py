"""Files of a split: complete, intact, of this schema version; and how few row groups are read to find a dialogue."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from merc import parquet
from merc.errors import BadTable
from merc.shards.format import files as shard_files
from merc.shards.format.reader import Dialogues, dialogue, read_split, splits

Make = Callable[..., Any]


@pytest.fixture
def path(extracted: Make) -> Path:
    """A file of three row groups, with vectors long enough to take most of it."""
    made = extracted({"train": (30, 30, 30)}, modalities=("text", "audio"))
    return Path(made.build(row_group_dialogues=1)) / "dialogues" / "train-00000-of-00001.parquet"


def _read_in_every_way(root: Path) -> list[Callable[[], Any]]:
    return [
        lambda: read_split(root, "train"),
        lambda: list(Dialogues(root, "train").rows()),
        lambda: list(Dialogues(root, "train").batches(2, seed=0)),
        lambda: dialogue(root, "train/dia2"),
    ]


@pytest.mark.parametrize("keep", [0, 3, 4, 0.5, -8, -1])
def test_a_truncated_file_is_refused_by_name(path: Path, keep: float) -> None:
    size = path.stat().st_size
    os.truncate(path, int(size * keep) if isinstance(keep, float) else size + keep if keep < 0 else keep)
    for read in _read_in_every_way(path.parents[1]):
        with pytest.raises(BadTable, match=r"train-00000-of-00001\.parquet: not a Parquet file, or a damaged one"):
            read()


def test_damaged_pages_are_refused_by_name(path: Path) -> None:
    column = pq.read_metadata(path).row_group(1).column(18)
    begin = column.dictionary_page_offset or column.data_page_offset
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(b"\xff" * column.total_compressed_size)
    for read in _read_in_every_way(path.parents[1])[:3]:
        with pytest.raises(BadTable, match=r"train-00000-of-00001\.parquet: not a Parquet file, or a damaged one"):
            read()


def test_another_schema_version_is_refused_by_every_way_of_reading(path: Path) -> None:
    table = pq.read_table(path)
    facts = {**json.loads(table.schema.metadata[b"merc"]), "schema_version": "1"}
    pq.write_table(table.replace_schema_metadata({"merc": json.dumps(facts)}), path)
    for read in _read_in_every_way(path.parents[1]):
        with pytest.raises(
            BadTable, match=r"train-00000-of-00001\.parquet: schema version '1', this program reads '2'"
        ):
            read()


def test_a_missing_file_of_a_split_is_named(extracted: Make) -> None:
    root = extracted().build(max_file_bytes=1)
    (root / "dialogues" / "train-00001-of-00003.parquet").unlink()
    for read in [lambda: splits(root), *_read_in_every_way(root)]:
        with pytest.raises(
            BadTable,
            match=r"files of train are missing: train-00001-of-00003\.parquet; and some are from another run: none",
        ):
            read()


def test_files_of_two_makings_are_refused(extracted: Make) -> None:
    root = extracted().build(max_file_bytes=1)
    (root / "dialogues" / "train-00000-of-00001.parquet").write_bytes(b"")
    with pytest.raises(
        BadTable, match=r"missing: none; and some are from another run: train-00000-of-00003.*, train-00001"
    ):
        read_split(root, "train")


def test_one_row_group_of_many_is_read_to_find_a_dialogue(extracted: Make) -> None:
    root = extracted({"train": (1,) * 60}, modalities=("text",)).build(row_group_dialogues=5)
    file = shard_files.open_shard(root / "dialogues" / "train-00000-of-00001.parquet")
    assert file.metadata.num_row_groups == 12
    for number in range(60):
        name = f"train/dia{number}"
        groups = list(file.groups_that_may_hold("dialogue_id", name))
        assert number // 5 in groups
        assert (
            len(groups) <= 2
        )  # ids are numbered, not sorted: dia5 may be between dia45 and dia49, and at its own place
        assert dialogue(root, name, ["dialogue_id"])["dialogue_id"].to_pylist() == [name]


def test_a_split_without_rows_is_read_as_none(path: Path) -> None:
    parquet.write(path, pq.read_table(path).slice(0, 0))
    assert (read_split(path.parents[1], "train", ["text"]).num_rows, read_split(path.parents[1], "train").schema) == (
        0,
        pq.read_schema(path),
    )
    assert list(Dialogues(path.parents[1], "train").batches(2, seed=0)) == []


def test_a_reader_notices_that_its_file_was_replaced(path: Path) -> None:
    dialogues = Dialogues(path.parents[1], "train")
    first = next(dialogues.rows())
    parquet.write(path, pq.read_table(path).slice(1))
    assert first["split"] == "train"
    with pytest.raises(BadTable, match=r"it was replaced after it was opened"):
        next(dialogues.rows())
    path.unlink()
    with pytest.raises(BadTable, match=r"cannot be read"):
        next(dialogues.rows())
