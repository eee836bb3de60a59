"""Counts from shards, and the files made from them, compared with literals."""

from collections.abc import Callable

import pytest

from merc import parquet
from merc.errors import BadTable
from merc.layout import Layout
from merc.records import failures
from merc.reports import tables
from merc.reports.tables import AbsenceRow, CoverageRow, LabelRow

DIALOGUES = {"train": [("train/dia0", [0, 0, 1, -1, 0]), ("train/dia1", [1])], "test": [("test/dia0", [0, 1, 1, 1])]}
CLASSES = ["neutral", "joy"]
WriteShards = Callable[..., Layout]


def test_splits_coverage_and_labels_of_small_shards(write_shards: WriteShards) -> None:
    layout = write_shards(dialogues=DIALOGUES, classes=CLASSES)
    contents = tables.read_contents("tiny", layout.shards, CLASSES)
    assert [
        (row.split, row.dialogues, row.utterances, row.labelled, row.longest, row.most_speakers)
        for row in contents.splits
    ] == [
        ("train", 2, 6, 5, 5, 1),
        ("test", 1, 4, 4, 4, 1),
    ]
    assert contents.coverage == [
        CoverageRow("tiny", "train", "text", 6, 6),
        CoverageRow("tiny", "train", "audio", 6, 5),
        CoverageRow("tiny", "test", "text", 4, 4),
        CoverageRow("tiny", "test", "audio", 4, 3),
    ]
    assert contents.labels == [
        LabelRow("tiny", "train", "neutral", 3, 0.5),
        LabelRow("tiny", "train", "joy", 2, 2 / 6),
        LabelRow("tiny", "train", "(unlabelled)", 1, 1 / 6),
        LabelRow("tiny", "test", "neutral", 1, 0.25),
        LabelRow("tiny", "test", "joy", 3, 0.75),
    ]


def test_a_modality_that_more_than_a_tenth_of_a_split_lacks_is_reported_with_the_reason(
    write_shards: WriteShards,
) -> None:
    layout = write_shards(dialogues=DIALOGUES | {"dev": [("dev/dia0", [0] * 20)]}, classes=CLASSES)
    meaning = "the audio is digital silence: all samples are the same"
    assert tables.read_contents("tiny", layout.shards, CLASSES).absences == [  # in dev exactly a tenth is absent
        AbsenceRow("tiny", "train", "audio", 6, 1, "silence", meaning, 1),
        AbsenceRow("tiny", "test", "audio", 4, 1, "silence", meaning, 1),
    ]


def test_failures_by_reason_with_kind_and_meaning(write_shards: WriteShards) -> None:
    layout = write_shards(dialogues=DIALOGUES, classes=CLASSES)
    rows = tables.read_failures(layout.shards)
    assert [(row.stage, row.modality, row.reason, row.kind, row.utterances) for row in rows] == [
        ("media", "all", "truncated", "altered", 2),
        ("media", "audio", "silence", "absent", 2),
    ]
    assert rows[1].meaning == "the audio is digital silence: all samples are the same"


def test_an_unknown_reason_is_refused(write_shards: WriteShards) -> None:
    layout = write_shards(dialogues=DIALOGUES, classes=CLASSES)
    row = {
        "utterance_id": "u",
        "stage": "media",
        "modality": "audio",
        "reason": "gremlins",
        "kind": "broken",
        "detail": "",
    }
    parquet.write(layout.shards / "failures" / "dev-00000-of-00001.parquet", failures.table([row]))
    with pytest.raises(BadTable, match="unknown reason 'gremlins'; one of media_missing"):
        tables.read_failures(layout.shards)


def test_files_for_dvc() -> None:
    coverage = [CoverageRow("tiny", "train", "audio", 6, 5), CoverageRow("tiny", "test", "audio", 0, 0)]
    assert (
        tables.coverage_csv(coverage)
        == "dataset,split,modality,utterances,present,share\ntiny,train,audio,6,5,0.833333\ntiny,test,audio,0,0,0.000000\n"  # noqa: E501
    )
    assert tables.coverage_metrics(coverage) == {"tiny": {"train": {"audio": 0.833333}, "test": {"audio": 0.0}}}
    assert (
        tables.labels_csv([LabelRow("tiny", "train", 'joy, "great"', 2, 1 / 3)])
        == 'dataset,split,emotion,utterances,share\ntiny,train,"joy, ""great""",2,0.333333\n'
    )
