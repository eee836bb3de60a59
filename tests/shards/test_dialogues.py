"""A split, dialogue by dialogue and in padded batches: in order, shuffled, in parts, resumed from the middle."""

import pickle
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merc.errors import BadSettings, BadTable
from merc.shards.format import reader
from merc.shards.format.batches import DecodedGroup
from merc.shards.format.reader import Dialogues, Part, read_split

Make = Callable[..., Any]
COLUMNS = ["dialogue_id", "text", "text_present", "emotion_index"]
SIZES = {"train": (3, 1, 2, 4, 1, 1, 2, 5, 2, 3, 1)}


@pytest.fixture
def root(extracted: Make) -> Path:
    """Eleven dialogues in two files of row groups of two."""
    made = extracted(SIZES, modalities=())
    made.write_features("text", {1: "no_text"})
    return Path(made.build(max_file_bytes=1900))


def _ids(rows: Any) -> list[str]:
    return [row["dialogue_id"] for row in rows]


def test_rows_are_those_of_the_table(root: Path) -> None:
    table = read_split(root, "train").to_pylist()
    dialogues = Dialogues(root, "train")
    assert len(dialogues.files) == 2
    assert [file.metadata.num_row_groups for file in dialogues.files] == [3, 3]
    found = list(dialogues.rows())
    assert len(dialogues) == len(found) == 11
    for row, wanted in zip(found, table, strict=True):
        assert list(row) == list(wanted)
        for name, value in row.items():
            if isinstance(value, np.ndarray):
                expected = np.array(
                    [np.nan if one is None else one for one in wanted[name]]
                    if name in ("valence", "arousal", "dominance")
                    else wanted[name]
                )
                np.testing.assert_array_equal(value, expected.astype(value.dtype))
            else:
                assert value == wanted[name]


def test_types_and_shapes_of_a_row(root: Path) -> None:
    row = next(Dialogues(root, "train").rows())
    arrays = {name: (str(value.dtype), value.shape) for name, value in row.items() if isinstance(value, np.ndarray)}
    assert arrays == {
        "speaker_index": ("int16", (3,)),
        "emotion_index": ("int64", (3,)),
        "valence": ("float32", (3,)),
        "arousal": ("float32", (3,)),
        "dominance": ("float32", (3,)),
        "start_seconds": ("float64", (3,)),
        "end_seconds": ("float64", (3,)),
        "text": ("float32", (3, 4)),
        "text_present": ("bool", (3,)),
    }
    assert row["speakers"] == ["Ross", "Zoë", "Ross"]
    assert (row["dialogue_id"], row["n_utterances"]) == ("train/dia0", 3)


def test_only_the_columns_asked_for_come_in_their_order(root: Path) -> None:
    assert list(next(Dialogues(root, "train", ["text_present", "dialogue_id"]).rows())) == [
        "text_present",
        "dialogue_id",
    ]
    assert list(next(Dialogues(root, "train", ["text"]).batches(2))) == ["text", "n_utterances", "mask"]
    with pytest.raises(BadTable, match="no column 'txt'; did you mean 'text'"):
        Dialogues(root, "train", ["txt"])


@pytest.mark.parametrize("window", [1, 2, 100])
def test_a_seed_shuffles_reproducibly_and_loses_nothing(root: Path, window: int) -> None:
    dialogues = Dialogues(root, "train", COLUMNS, window=window)
    plain = {row["dialogue_id"]: row for row in dialogues.rows()}
    shuffled = list(dialogues.rows(seed=1))
    assert sorted(_ids(shuffled)) == sorted(plain)
    assert _ids(shuffled) != list(plain)
    assert _ids(shuffled) == _ids(Dialogues(root, "train", ["dialogue_id"], window=window, threads=1).rows(seed=1))
    assert _ids(shuffled) != _ids(dialogues.rows(seed=2))
    for row in shuffled:
        np.testing.assert_array_equal(row["text"], plain[row["dialogue_id"]]["text"])
        np.testing.assert_array_equal(row["emotion_index"], plain[row["dialogue_id"]]["emotion_index"])


@pytest.mark.parametrize("seed", [None, 4])
def test_reading_continues_in_the_middle_where_it_stopped(root: Path, seed: int | None) -> None:
    dialogues = Dialogues(root, "train", ["dialogue_id"], window=2)
    part = Part(rank=1, ranks=2)
    whole = _ids(dialogues.rows(seed=seed, part=part))
    assert len(whole) == 5
    for start in range(7):
        assert _ids(dialogues.rows(seed=seed, part=part, start=start)) == whole[start:]
    batches = [batch["dialogue_id"] for batch in dialogues.batches(2, seed=seed, part=part, start=2)]
    assert batches == [whole[2:4], whole[4:]]


@pytest.mark.parametrize("seed", [None, 4])
def test_ranks_and_workers_share_a_split_without_overlap(root: Path, seed: int | None) -> None:
    dialogues = Dialogues(root, "train", ["dialogue_id"], window=2)
    parts = [Part(rank, 3, worker, 2) for rank in range(3) for worker in range(2)]
    assert [one for part in parts for one in _ids(dialogues.rows(seed=seed, part=part))] == _ids(
        dialogues.rows(seed=seed)
    )
    many = [_ids(dialogues.rows(part=Part(rank, 20))) for rank in range(20)]  # more ranks than dialogues
    assert [len(one) for one in many] == [1] * 11 + [0] * 9


def test_row_groups_outside_a_part_are_not_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dialogues = Dialogues(root, "train", ["text"], window=1)
    first = dialogues.files[0]
    monkeypatch.setattr(type(first), "read", lambda file, *_, **__: pytest.fail(f"{file.path} was read"))
    assert list(dialogues.rows(seed=3, start=11)) == []
    with pytest.raises(pytest.fail.Exception, match="was read"):
        next(dialogues.rows(seed=3, start=10))


def test_batches_are_padded_and_masked(root: Path) -> None:
    one, *_, last = Dialogues(root, "train", [*COLUMNS, "speakers", "valence", "n_speakers"]).batches(3)
    table = read_split(root, "train").slice(0, 3).to_pylist()
    assert one["mask"].tolist() == [[True, True, True], [True, False, False], [True, True, False]]
    assert one["text_present"].tolist() == [[True, False, True], [True, False, False], [True, True, False]]
    assert one["emotion_index"].tolist() == [[0, 4, 6], [4, -1, -1], [6, -1, -1]]
    assert one["dialogue_id"] == ["train/dia0", "train/dia1", "train/dia2"]
    assert one["speakers"] == [["Ross", "Zoë", "Ross"], ["Ross"], ["Ross", "Zoë"]]
    assert (one["n_utterances"].tolist(), one["n_speakers"].tolist()) == ([3, 1, 2], [2, 1, 2])
    np.testing.assert_array_equal(
        one["valence"], np.array([[2.5, np.nan, 2.5], [2.5, 0, 0], [2.5, np.nan, 0]], np.float32)
    )
    expected = np.zeros((3, 3, 4), np.float32)
    for index, row in enumerate(table):
        for turn, vector in enumerate(row["text"]):
            expected[index, turn] = vector
    np.testing.assert_array_equal(one["text"], expected)
    assert (one["text"].dtype, one["emotion_index"].dtype, one["mask"].dtype) == (np.float32, np.int64, np.bool_)
    assert last["text"].shape == (2, 3, 4)  # the last batch has the remaining dialogues, padded to their own maximum


@pytest.mark.parametrize(("seed", "window", "most"), [(None, 8, 3), (0, 2, 4)])
def test_no_more_row_groups_are_in_memory_than_promised(
    root: Path, monkeypatch: pytest.MonkeyPatch, seed: int | None, window: int, most: int
) -> None:
    alive: weakref.WeakSet[DecodedGroup] = weakref.WeakSet()

    class Counted(DecodedGroup):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            alive.add(self)

    monkeypatch.setattr(reader, "DecodedGroup", Counted)
    dialogues = Dialogues(root, "train", window=window, threads=2)
    assert len(dialogues._groups) == 6
    counts = [len(alive) for _ in dialogues.rows(seed=seed)]
    assert 1 <= max(counts) <= most
    assert not alive


def test_a_reader_can_be_sent_to_another_process(root: Path) -> None:
    dialogues = Dialogues(root, "train", ["dialogue_id"])
    assert _ids(pickle.loads(pickle.dumps(dialogues)).rows(seed=1)) == _ids(dialogues.rows(seed=1))  # noqa: S301


def test_a_reader_that_is_left_half_way_leaves_no_threads(root: Path) -> None:
    before = threading.active_count()
    rows = Dialogues(root, "train").rows(seed=0)
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda dialogues: dialogues.rows(start=-1), "start -1; valid: from 0"),
        (lambda dialogues: dialogues.batches(0), "batches of 0 dialogues; valid: from 1"),
        (lambda dialogues: dialogues.rows(seed=-3), "a seed of -3"),
    ],
)
def test_impossible_wishes_are_refused_before_anything_is_read(
    root: Path, call: Callable[[Dialogues], Any], message: str
) -> None:
    with pytest.raises(BadSettings, match=message):
        call(Dialogues(root, "train"))


def test_no_threads_and_unknown_splits_are_refused(root: Path) -> None:
    with pytest.raises(BadSettings, match="0 threads; valid: from 1"):
        Dialogues(root, "train", threads=0)
    with pytest.raises(BadTable, match="no split 'trains'; did you mean 'train'"):
        Dialogues(root, "trains")


def test_files_of_other_columns_are_refused(root: Path) -> None:
    path = sorted((root / "dialogues").glob("train-*"))[1]
    pq.write_table(pq.read_table(path).drop_columns("text"), path)
    with pytest.raises(BadTable, match=r"train-00001-of-.*other columns than those of .*train-00000-of"):
        Dialogues(root, "train")


def test_lists_of_different_lengths_are_refused(root: Path) -> None:
    path = sorted((root / "dialogues").glob("train-*"))[0]
    table = pq.read_table(path)
    flags = table["text_present"].to_pylist()
    flags[1] = [True, True]
    wrong = table.set_column(
        table.schema.get_field_index("text_present"),
        table.schema.field("text_present"),
        pa.array(flags, table["text_present"].type),
    )
    pq.write_table(wrong, path)
    with pytest.raises(BadTable, match=r"row group 0: row 1 has 1 utterances and 2 entries in text_present"):
        list(Dialogues(root, "train", COLUMNS).rows())


@pytest.mark.parametrize("column", ["emotion_index", "speaker_index", "text_present"])
def test_null_values_where_none_may_be_are_refused(root: Path, column: str) -> None:
    path, *others = sorted((root / "dialogues").glob("train-*"))
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[0][1] = None
    at, kind = table.schema.get_field_index(column), pa.list_(table[column].type.value_type)
    with_null = table.set_column(at, column, pa.array(values, kind))
    pq.write_table(with_null, path)
    for other in others:
        pq.write_table(pq.read_table(other).cast(with_null.schema), other)
    with pytest.raises(BadTable, match=f"train-00000-of-00002.parquet, row group 0, column {column}: 1 null values"):
        list(Dialogues(root, "train", [column]).rows())
