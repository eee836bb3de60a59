"""Validation: valid shards pass, and every violated rule is named with file, dialogue and column."""

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
from merc.shards.card.writing import write_card
from merc.shards.checks.problems import LISTED
from merc.shards.validate import validate

Change = Callable[[str, Callable[[dict[str, Any]], None]], None]
TRAIN = "dialogues/train-00000-of-00001.parquet"
TRAJECTORIES = "trajectories/train-00000-of-00001.parquet"
OF_DIA0 = f"neighbours: {TRAJECTORIES}: train/dia0"
FAILED = "failures/train-00000-of-00001.parquet"


def told(root: Path) -> list[str]:
    """The errors, without their consequences: counts and statistics that no longer match."""
    return [str(problem) for problem in validate(root).problems.listed if problem.kind not in ("info", "stats")]


def test_sound_shards_pass(sound: Path) -> None:
    report = validate(sound)
    assert report.problems.listed == []
    assert (report.exit_code, report.dialogues, report.utterances, report.files) == (0, 6, 12, 9)


def test_shards_without_trajectories_pass(extracted: Callable[..., Any]) -> None:
    root = extracted({"train": (2, 1), "dev": (3,)}, modalities=("text",)).build(max_file_bytes=1)
    write_card(root)
    assert validate(root).problems.listed == []


def _set(column: str, row: int, place: int, value: Any) -> Callable[[dict[str, Any]], None]:
    def how(columns: dict[str, Any]) -> None:
        columns[column][row] = [*columns[column][row]]
        columns[column][row][place] = value

    return how


def _put(column: str, row: int, value: Any) -> Callable[[dict[str, Any]], None]:
    def how(columns: dict[str, Any]) -> None:
        columns[column][row] = value

    return how


@pytest.mark.parametrize(
    ("name", "how", "line"),
    [
        (TRAIN, _put("texts", 0, ["one"]), f"lengths: {TRAIN}: train/dia0: texts: 1 entries for 3 utterances"),
        (TRAIN, _put("text", 2, [[1.0] * 4] * 3), f"lengths: {TRAIN}: train/dia2: text: 3 entries for 2 utterances"),
        (TRAIN, _put("emotion_index", 1, None),
         f"lengths: {TRAIN}: train/dia1: emotion_index: -1 entries for 1 utterances"),
        (TRAIN, _put("split", 2, "dev"),
         f"splits: {TRAIN}: train/dia2: split: a row of another split in a file of train"),
        (TRAIN, _put("n_speakers", 0, 3),
         f"speakers: {TRAIN}: train/dia0: n_speakers: 3, but there are 2, numbered up to 1"),
        (TRAIN, _set("speaker_index", 0, 2, 1),
         f"speakers: {TRAIN}: train/dia0: speaker_index: one name with two numbers, or one number with two names"),
        (TRAIN, _set("emotion_index", 0, 1, 7),
         f"labels: {TRAIN}: train/dia0: emotion_index: utterance 1: 7; valid: -1 to 6"),
        (TRAIN, _set("emotion_index", 2, 1, None),
         f"labels: {TRAIN}: train/dia2: emotion_index: utterance 1: None; valid: -1 to 6"),
        (TRAIN, _set("emotion_index", 0, 1, -1),
         f"labels: {TRAIN}: train/dia0: emotion_index: utterance 1: -1, but 'joy' has 4"),
        (TRAIN, _set("valence", 0, 0, float("inf")), f"finite: {TRAIN}: train/dia0: valence: utterance 0: not finite"),
        (TRAIN, _set("audio", 2, 1, [1.0, float("nan"), 0.0]),
         f"finite: {TRAIN}: train/dia2: audio: utterance 1: not finite"),
        (TRAIN, _set("audio", 2, 1, [0.0, 0.0, 0.0]),
         f"presence: {TRAIN}: train/dia2: audio: utterance 1: present, but its vector is all zeros"),
        (TRAIN, _set("visual", 0, 1, [0.0, 0.5]),
         f"presence: {TRAIN}: train/dia0: visual: utterance 1: not present, but its vector is not all zeros"),
        (FAILED, _put("modality", 1, "audio"),
         "presence: dialogues/train: train/dia0: visual: train/dia0_utt1: not present, and no failure row says why"),
        (FAILED, _put("kind", 1, "altered"), "failures: failures/train: train/dia0_utt1: no_face is of kind 'absent'"),
        (FAILED, _put("reason", 0, "bad_luck"), "failures: failures/train: train/dia0_utt0: unknown reason 'bad_luck'"),
        (FAILED, _put("utterance_id", 0, "train/dia9_utt0"),
         "failures: failures/train: train/dia9_utt0: no such utterance"),
        (TRAJECTORIES, _put("trajectory", 0, [0, 4]),
         f"trajectories: {TRAJECTORIES}: train/dia0: trajectory: other labels than the dialogue has"),
        (TRAJECTORIES, _set("trajectory", 2, 1, 3),
         f"trajectories: {TRAJECTORIES}: train/dia2: trajectory: other labels than the dialogue has"),
        (TRAJECTORIES, _put("dialogue_id", 1, "train/dia2"),
         "trajectories: trajectories/train: train/dia1: 0 rows instead of one"),
        (TRAJECTORIES, _put("dialogue_id", 1, "train/dia7"),
         f"trajectories: {TRAJECTORIES}: train/dia7: dialogue_id: there is no such dialogue"),
        (TRAJECTORIES, _set("neighbours_edit", 0, 0, "train/dia0"),
         f"{OF_DIA0}: neighbours_edit: the dialogue itself among its neighbours"),
        (TRAJECTORIES, _set("neighbours_edit", 0, 0, "test/dia0"),
         f"{OF_DIA0}: neighbours_edit: a neighbour that is not a dialogue of this split"),
        (TRAJECTORIES, _set("neighbours_edit", 0, 0, "train/dia1"), f"{OF_DIA0}: neighbours_edit: a neighbour twice"),
        (TRAJECTORIES, _set("similarity_edit", 0, 1, 1.5), f"{OF_DIA0}: similarity_edit: a similarity outside -1 to 1"),
        (TRAJECTORIES, _set("similarity_edit", 0, 0, 0.25),
         f"{OF_DIA0}: similarity_edit: similarities that are not in descending order"),
        (TRAJECTORIES, _put("similarity_edit", 0, [1.0]), f"{OF_DIA0}: similarity_edit: not one entry per neighbour"),
        (TRAJECTORIES, _put("same_scenario_edit", 0, []),
         f"{OF_DIA0}: same_scenario_edit: not one entry per neighbour"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_dialogue_and_column(
    sound: Path, change: Change, name: str, how: Any, line: str
) -> None:
    change(name, how)
    assert line in told(sound)
    assert validate(sound).exit_code == 1


def test_a_present_vector_must_have_no_reason_to_be_absent(sound: Path, change: Change) -> None:
    def how(columns: dict[str, Any]) -> None:
        for key, value in {
            "utterance_id": "train/dia1_utt0",
            "stage": "media",
            "modality": "audio",
            "reason": "silence",
            "kind": "absent",
            "detail": "",
        }.items():
            columns[key].append(value)

    change(FAILED, how)
    assert told(sound) == [
        "presence: dialogues/train: train/dia1: audio: train/dia1_utt0: present, but a failure row says that it is not"
    ]


def test_an_id_that_stands_twice_is_named_with_its_splits(sound: Path, change: Change) -> None:
    change(TRAIN, _put("dialogue_id", 2, "test/dia1"))
    change(TRAIN, _set("utterance_ids", 0, 1, "train/dia0_utt0"))
    found = told(sound)
    assert "splits: dialogues: test/dia1: dialogue_id: in train and in test" in found
    assert f"ids: {TRAIN}: test/dia1: dialogue_id: does not begin with train/" in found
    assert "ids: dialogues: utterance_ids: train/dia0_utt0 occurs more than once in train" in found


def test_other_columns_are_named_and_the_rest_is_still_checked(sound: Path, change: Change) -> None:
    table = pq.read_table(sound / TRAIN)
    pq.write_table(table.drop_columns(["texts"]).append_column("age", table["n_speakers"]), sound / TRAIN)
    write_card(sound)
    change("dialogues/dev-00000-of-00001.parquet", _put("n_speakers", 0, 9))
    found = told(sound)
    assert f"schema: {TRAIN}: age: int32 instead of nothing" in found
    assert f"schema: {TRAIN}: texts: nothing instead of list<element: string not null> not null" in found
    assert any(line.startswith("speakers: dialogues/dev") for line in found)


def test_a_file_that_says_something_else_of_itself_is_named(sound: Path) -> None:
    table = pq.read_table(sound / TRAIN)
    merc = json.loads(table.schema.metadata[b"merc"])
    merc["encoders"]["audio"]["revision"] = "4"
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"merc": json.dumps(merc)}), sound / TRAIN)
    write_card(sound)
    assert told(sound) == [f"metadata: {TRAIN}: encoders is not that of meta/info.json"]


def test_columns_in_another_order_are_named(sound: Path) -> None:
    table = pq.read_table(sound / TRAIN)
    pq.write_table(table.select(table.column_names[::-1]), sound / TRAIN)
    write_card(sound)
    assert f"schema: {TRAIN}: columns in the order {', '.join(table.column_names[::-1])}" in told(sound)


def test_tables_of_a_split_without_dialogues_are_named(sound: Path) -> None:
    (sound / "dialogues" / "dev-00000-of-00001.parquet").unlink()
    lines = [str(problem) for problem in validate(sound).problems.listed]
    assert "info: trajectories/dev: a split without dialogues" in lines
    assert "info: meta/info.json: splits train, dev, test, there are files of train, test" in lines
    assert "manifest: dialogues/dev-00000-of-00001.parquet: listed in meta/manifest.json, but missing" in lines


def test_ids_that_repeat_often_are_counted_and_the_first_told(extracted: Callable[..., Any]) -> None:
    root = extracted({"train": (30,)}, modalities=("audio",)).build()
    table = pq.read_table(root / TRAIN)
    pq.write_table(pa.concat_tables([table, table]), root / TRAIN)
    write_card(root)
    problems = validate(root).problems
    assert problems.counts["ids"] == 1 + 30
    assert sum(problem.kind == "ids" for problem in problems.listed) == LISTED


def test_counts_and_statistics_that_do_not_fit_are_named(sound: Path) -> None:
    info, stats = files.read_json(sound / "meta" / "info.json"), files.read_json(sound / "meta" / "stats.json")
    info["counts"]["dev"]["labels"]["joy"] += 1
    info["splits"] = ["train", "dev"]
    stats["audio"]["mean"][2] += 0.1
    stats["text"]["count"] = 5
    del stats["visual"]["std"][1]
    files.write_json(sound / "meta" / "info.json", info)
    files.write_json(sound / "meta" / "stats.json", stats)
    write_card(sound)
    found = [str(problem) for problem in validate(sound).problems.listed]
    assert found[0] == "info: meta/info.json: splits train, dev, there are files of train, dev, test"
    assert found[1] == "info: meta/info.json: counts.dev.labels.joy: 2 instead of 1"
    assert found[2].startswith("stats: meta/stats.json: audio: mean of feature 2 is ")
    assert found[3:] == [
        "stats: meta/stats.json: text: of 5 vectors, but 6 train utterances are present",
        "stats: meta/stats.json: visual: {'mean': 2, 'std': 1} numbers instead of 2",
    ]


def test_files_that_the_manifest_does_not_describe_are_named(sound: Path) -> None:
    listed = files.read_json(sound / "meta" / "manifest.json")
    (sound / "failures" / "dev-00000-of-00001.parquet").rename(sound / "failures" / "dev-00000-of-00002.parquet")
    listed["files"]["../secret"] = {"sha256": "", "bytes": 0}
    listed["files"][TRAIN]["sha256"] = "0" * 64
    listed["files"][FAILED]["rows"] = 7
    listed["files"]["croissant.json"] = "whole"
    listed["files"]["meta/stats.json"]["bytes"] += 1
    files.write_json(sound / "meta" / "manifest.json", listed)
    size = (sound / "meta" / "stats.json").stat().st_size
    found = told(sound)
    assert [line for line in found if line.startswith("manifest")] == [
        "manifest: failures/dev: 1 files, but they are dev-00000-of-00002.parquet",
        "manifest: failures/dev-00000-of-00002.parquet: not listed in meta/manifest.json",
        f"manifest: meta/manifest.json: '../secret' is not a plain path below {sound}",
        "manifest: meta/manifest.json: says neither bytes nor sha256 of croissant.json",
        f"manifest: {TRAIN}: another sha256: its content has changed",
        "manifest: failures/dev-00000-of-00001.parquet: listed in meta/manifest.json, but missing",
        f"manifest: {FAILED}: 2 rows instead of 7",
        f"manifest: meta/stats.json: {size} bytes instead of {size + 1}",
    ]


@pytest.mark.parametrize("name", [TRAIN, TRAJECTORIES, FAILED])
def test_a_truncated_file_is_unreadable_and_the_rest_is_still_checked(sound: Path, change: Change, name: str) -> None:
    change("dialogues/test-00000-of-00001.parquet", _put("n_speakers", 0, 9))
    whole = (sound / name).read_bytes()
    (sound / name).write_bytes(whole[: len(whole) // 2])
    report = validate(sound)
    assert report.exit_code == 4
    lines = [str(problem) for problem in report.problems.listed]
    assert any(line.startswith(f"unreadable: {name}: not a Parquet file, or a damaged one: ") for line in lines)
    assert any(line.startswith(f"manifest: {name}: {len(whole) // 2} bytes instead of {len(whole)}") for line in lines)
    assert any(line.startswith("speakers: dialogues/test") for line in lines)
    assert not any(
        line.startswith(("info", "stats")) for line in lines
    )  # nothing is reported for what could not be counted


def test_damage_inside_a_file_is_unreadable(sound: Path) -> None:
    whole = bytearray((sound / TRAIN).read_bytes())
    first = pq.read_metadata(sound / TRAIN).row_group(0).column(0)
    whole[first.dictionary_page_offset : first.dictionary_page_offset + 12] = b"\xff" * 12
    (sound / TRAIN).write_bytes(whole)
    report = validate(sound)
    assert report.exit_code == 4
    assert str(report.problems.listed[0]).startswith(f"unreadable: {TRAIN}: not a Parquet file, or a damaged one")


def test_another_schema_version_is_refused(sound: Path) -> None:
    table = pq.read_table(sound / TRAIN)
    older = {
        **table.schema.metadata,
        b"merc": json.dumps({**json.loads(table.schema.metadata[b"merc"]), "schema_version": "0"}),
    }
    pq.write_table(table.replace_schema_metadata(older), sound / TRAIN)
    report = validate(sound)
    assert report.exit_code == 4
    assert f"unreadable: {TRAIN}: schema version '0', this program reads '2'" in told(sound)
    info = files.read_json(sound / "meta" / "info.json")
    files.write_json(sound / "meta" / "info.json", {**info, "schema_version": "0"})
    with pytest.raises(BadTable, match=r"info.json: schema version '0', this program reads '2'"):
        validate(sound)


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadTable, match="not a folder of shards"):
        validate(tmp_path)


def test_many_problems_of_a_kind_are_counted_and_the_first_told(extracted: Callable[..., Any]) -> None:
    made = extracted({"train": (30,)}, modalities=("audio",))
    root = made.build()
    write_card(root)
    table = pq.read_table(root / TRAIN)
    nothing = np.zeros((30, 3)).tolist()
    broken = table.set_column(
        table.schema.get_field_index("audio"),
        table.schema.field("audio"),
        pa.array([nothing], table.schema.field("audio").type),
    )
    pq.write_table(broken, root / TRAIN)
    problems = validate(root).problems
    assert problems.counts["presence"] == 30
    assert sum(problem.kind == "presence" for problem in problems.listed) == LISTED
