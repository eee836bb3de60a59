"""Writing shards from rows in pieces of any size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from merc.errors import PipelineError
from merc.shards.config import Config as ShardsConfig
from merc.shards.facts import Facts
from merc.shards.format import reader
from merc.shards.rewriting import Rewriting, dialogue_bytes, read_failures

Make = Callable[..., Any]
SIZES = (3, 1, 2, 5, 1, 4)


@pytest.mark.parametrize("piece", [1, 2, 4, 6])
def test_files_do_not_depend_on_the_pieces_that_rows_come_in(
    extracted: Make, tmp_path: Path, folder_digest: Any, piece: int
) -> None:
    root = extracted({"train": SIZES}).build(max_file_bytes=900)
    rows = reader.read_split(root, "train")
    writing = Rewriting(
        tmp_path / "new", Facts.of(reader.info(root)), ShardsConfig(row_group_dialogues=2, max_file_bytes=900)
    )
    pieces = [rows.slice(start, piece) for start in range(0, rows.num_rows, piece)]
    writing.write_split("train", [rows.slice(0, 0), *pieces], read_failures(root, "train"))
    for table in ("dialogues", "failures"):
        assert folder_digest(tmp_path / "new" / table) == folder_digest(root / table)
    assert len(list((root / "dialogues").iterdir())) > 2
    assert writing.counts == reader.info(root)["counts"]


def test_bytes_of_a_dialogue_are_those_of_its_utterances(extracted: Make) -> None:
    root = extracted({"train": (2,)}, modalities=("audio",)).build()
    rows = reader.read_split(root, "train")
    strings = [
        value
        for name in ("utterance_ids", "source_utterance_ids", "speakers", "texts", "emotions", "sentiments")
        for value in rows[name].to_pylist()[0]
    ]
    # Per utterance: 3 numbers and a flag; speaker_index, emotion_index, three ratings, two times; each string has an
    # offset of 4 bytes.
    wanted = 2 * (3 * 4 + 1 + 2 + 8 + 3 * 4 + 2 * 8) + sum(4 + len(value.encode()) for value in strings)
    assert dialogue_bytes(rows, Facts.of(reader.info(root))).tolist() == [wanted]


def test_a_split_without_dialogues_leaves_no_file(extracted: Make, tmp_path: Path) -> None:
    root = extracted({"train": (2,)}).build()
    writing = Rewriting(
        tmp_path / "new", Facts.of(reader.info(root)), ShardsConfig(row_group_dialogues=2, max_file_bytes=900)
    )
    writing.write_split("dev", [], read_failures(root, "dev"))
    assert not list(tmp_path.glob("new/**/*.parquet"))
    assert writing.counts == {}


def test_a_full_disk_is_reported(extracted: Make, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here to stand for a full disk")
    root = extracted({"train": (2,)}).build()
    (tmp_path / "new" / "dialogues").mkdir(parents=True)
    (tmp_path / "new" / "dialogues" / "train-0.unfinished").symlink_to("/dev/full")
    writing = Rewriting(
        tmp_path / "new", Facts.of(reader.info(root)), ShardsConfig(row_group_dialogues=2, max_file_bytes=900)
    )
    with pytest.raises(PipelineError, match=r"dialogues cannot be written: .*No space left"):
        writing.write_split("train", [reader.read_split(root, "train")], read_failures(root, "train"))
