from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merc import files
from merc.corpora.engine import building
from merc.corpora.engine.labels import label_set
from merc.errors import BadTable, PipelineError
from merc.records import manifest
from merc.records.dialogue import Dialogue, MediaSpan, Utterance

IEMOCAP4 = label_set("iemocap4")


def _dialogue(name: str, *said: tuple[str, str], split: str = "train", scenario: str = "") -> Dialogue:
    """A dialogue of (speaker, emotion) turns of one second each."""
    utterances = tuple(
        Utterance(
            source_utterance_id=f"{name}_{index}",
            speaker=speaker,
            text=f"text {index}",
            emotion=emotion,
            start_seconds=float(index),
            end_seconds=index + 1.0,
        )
        for index, (speaker, emotion) in enumerate(said)
    )
    return Dialogue(split=split, source_dialogue_id=name, utterances=utterances, scenario=scenario)


def _table() -> pa.Table:
    dialogues = [
        _dialogue("a", ("M", "happy"), ("F", "excited"), ("M", "sad"), scenario="impro01"),
        _dialogue("b", ("F", "undecided")),
        _dialogue("a", ("F", "angry"), ("F", "neutral"), split="test"),
    ]
    return building.build("iemocap", dialogues, IEMOCAP4)


def _with(table: pa.Table, column: str, values: list[object]) -> pa.Table:
    field = manifest.SCHEMA.field(column)
    return table.set_column(table.schema.get_field_index(column), field, pa.array(values, type=field.type))


def test_dialogues_become_rows_with_dense_positions_and_speakers_by_first_appearance() -> None:
    table = _table()
    columns = [
        "split",
        "dialogue_id",
        "utterance_id",
        "position",
        "scenario",
        "speaker",
        "speaker_index",
        "emotion",
        "emotion_index",
    ]
    assert list(zip(*(table[name].to_pylist() for name in columns), strict=True)) == [
        ("train", "train/a", "train/a_0", 0, "impro01", "M", 0, "happy", 0),
        ("train", "train/a", "train/a_1", 1, "impro01", "F", 1, "excited", -1),
        ("train", "train/a", "train/a_2", 2, "impro01", "M", 0, "sad", 1),
        ("train", "train/b", "train/b_0", 0, "", "F", 0, "undecided", -1),
        ("test", "test/a", "test/a_0", 0, "", "F", 0, "angry", 3),
        ("test", "test/a", "test/a_1", 1, "", "F", 0, "neutral", 2),
    ]
    assert set(table["corpus"].to_pylist()) == {"iemocap"}
    assert table["valence"].null_count == table.num_rows
    assert manifest.classes(table) == ("happy", "sad", "neutral", "angry")


def test_dropping_what_is_outside_the_label_set_closes_the_gaps_and_removes_empty_dialogues() -> None:
    dialogues = [_dialogue("a", ("M", "excited"), ("F", "happy"), ("M", "sad")), _dialogue("b", ("F", "undecided"))]
    table = building.build("iemocap", dialogues, IEMOCAP4, drop_unlabelled=True)
    assert table["utterance_id"].to_pylist() == ["train/a_1", "train/a_2"]
    assert table["position"].to_pylist() == [0, 1]
    assert table["speaker_index"].to_pylist() == [0, 1]


def test_a_written_manifest_is_read_back_with_its_classes(tmp_path: Path) -> None:
    path = tmp_path / "features" / "manifest.parquet"
    manifest.write(path, _table())
    table = manifest.read(path)
    assert table.equals(_table())
    assert manifest.classes(table) == ("happy", "sad", "neutral", "angry")
    assert [file.name for file in path.parent.iterdir()] == ["manifest.parquet"]


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    manifest.write(tmp_path / "one.parquet", _table())
    manifest.write(tmp_path / "two.parquet", _table())
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("utterance_id", ["u", "v", "u", "w", "x", "y"], "utterance id 'u' occurs 2 times"),
        ("split", ["train"] * 5 + ["validation"], r"split \['validation'\] instead of one of"),
        ("video_region", ["full"] * 5 + ["middle"], r"video_region \['middle'\] instead of one of"),
        ("audio_channel", ["mix"] * 5 + ["centre"], r"audio_channel \['centre'\] instead of one of"),
        (
            "expected_seconds",
            [None, 1.0, 0.0, None, None, 2.0],
            r"train/a_2 has expected_seconds 0\.0; above 0, or empty",
        ),
        ("expected_seconds", [None, 1.0, float("nan"), None, None, 2.0], "train/a_2 has expected_seconds nan"),
        ("dialogue_id", ["p", "p", "p", "q", "p", "p"], "the utterances of a dialogue are not together"),
        ("position", [0, 1, 3, 0, 0, 1], "train/a_2 has position 3 instead of 2"),
        ("position", [1, 2, 3, 0, 0, 1], "train/a_0 has position 1 instead of 0"),
        ("end_seconds", [1.0, 2.0, 1.5, 1.0, 1.0, 2.0], r"train/a_2 lasts from 2\.0 to 1\.5 s"),
        ("end_seconds", [1.0, 2.0, 3.0, 1.0, 1.0, float("inf")], "test/a_1 lasts from .* to inf s"),
        ("start_seconds", [float("nan"), 1.0, 2.0, 0.0, 0.0, 1.0], "train/a_0 lasts from nan to"),
        ("start_seconds", [0.0, -1.0, 2.0, 0.0, 0.0, 1.0], r"train/a_1 lasts from -1\.0 to"),
    ],
)
def test_a_faulty_table_is_refused_with_the_utterance_at_fault(
    tmp_path: Path, column: str, values: list[object], message: str
) -> None:
    faulty = _with(_table(), column, values)
    with pytest.raises(BadTable, match=f"here: {message}"):
        manifest.check(faulty, "here")
    with pytest.raises(BadTable, match=message):
        manifest.write(tmp_path / "manifest.parquet", faulty)
    assert list(tmp_path.iterdir()) == []
    pq.write_table(faulty, tmp_path / "manifest.parquet")
    with pytest.raises(BadTable, match=r"manifest\.parquet: " + message):
        manifest.read(tmp_path / "manifest.parquet")


def test_an_empty_cell_is_refused_with_its_column() -> None:
    with pytest.raises(BadTable, match="here: 1 empty cells in column speaker"):
        manifest.check(_with(_table(), "speaker", ["M", None, "M", "F", "F", "F"]), "here")


def test_an_empty_manifest_is_refused() -> None:
    with pytest.raises(BadTable, match="iemocap: the manifest holds no utterance"):
        building.build("iemocap", [], IEMOCAP4)


def test_a_table_with_other_columns_or_types_is_refused() -> None:
    with pytest.raises(BadTable, match="here: not a manifest: columns"):
        manifest.check(_table().drop_columns(["speaker"]), "here")
    wider = _table().cast(
        pa.schema([field.with_type(pa.int64()) if field.name == "position" else field for field in manifest.SCHEMA])
    )
    with pytest.raises(BadTable, match="or other types"):
        manifest.check(wider, "here")


def test_the_same_dialogue_twice_is_refused() -> None:
    with pytest.raises(BadTable, match="utterance id 'train/a_0' occurs 2 times"):
        building.build(
            "iemocap",
            [_dialogue("a", ("M", "sad")), _dialogue("b", ("M", "sad")), _dialogue("a", ("M", "sad"))],
            IEMOCAP4,
        )


def test_a_file_that_is_not_parquet_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "manifest.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(BadTable, match=r"manifest\.parquet: not a Parquet file"):
        manifest.read(tmp_path / "manifest.parquet")


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="/dev/full, where every write meets a full disk, is Linux's alone"
)
def test_a_full_disk_leaves_the_old_manifest_and_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    manifest.write(path, _table())
    before = path.read_bytes()
    files.temporary_beside(path).symlink_to("/dev/full")
    with pytest.raises(PipelineError, match=r"manifest\.parquet cannot be written: .*No space left on device"):
        manifest.write(path, _table())
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.parquet"]


def test_a_manifest_of_another_schema_version_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    for older in (
        _table().replace_schema_metadata({"schema_version": "1"}),
        _table().drop_columns(["text_characters"]).replace_schema_metadata(None),
    ):
        pq.write_table(older, path)
        with pytest.raises(
            BadTable, match=r"manifest\.parquet: schema version 1, this program reads 2; run the stage manifest again"
        ):
            manifest.read(path)


def test_lengths_of_texts_are_counted_in_characters_and_speakers_keep_their_names(tmp_path: Path) -> None:
    said = (("The Waiter", "Waiter", "“Déjà vu”…"), ("", "Ann", ""), ("", "Bob", "👍 ok"))
    utterances = tuple(
        Utterance(
            source_utterance_id=f"a_{index}",
            speaker=speaker,
            source_speaker=source,
            text=text,
            emotion="sad",
            start_seconds=float(index),
            end_seconds=index + 1.0,
        )
        for index, (source, speaker, text) in enumerate(said)
    )
    table = building.build("any", [Dialogue(split="train", source_dialogue_id="a", utterances=utterances)], IEMOCAP4)
    assert table["text_characters"].to_pylist() == [10, 0, 4]
    assert table["speaker"].to_pylist() == ["Waiter", "Ann", "Bob"]
    assert table["source_speaker"].to_pylist() == ["The Waiter", "Ann", "Bob"]
    assert (table["audio_channel"].to_pylist(), table["expected_seconds"].to_pylist()) == (["mix"] * 3, [None] * 3)


def test_bounds_of_dialogues_are_half_open_and_cover_the_table() -> None:
    assert manifest.dialogue_bounds(_table()) == [(0, 3), (3, 4), (4, 6)]


@pytest.mark.parametrize(
    ("per_part", "parts"),
    [(1, [(0, 3), (3, 4), (4, 6)]), (3, [(0, 3), (3, 6)]), (4, [(0, 4), (4, 6)]), (6, [(0, 6)]), (100, [(0, 6)])],
)
def test_parts_are_cut_between_dialogues(per_part: int, parts: list[tuple[int, int]]) -> None:
    assert manifest.cut_into_parts(_table(), per_part) == parts


def test_a_large_manifest_has_several_row_groups_and_one_of_the_size_of_meld_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        manifest.ROW_GROUP_UTTERANCES > 13_708
    )  # utterances of MELD: its manifest is byte for byte what it was before utterances could have several spans
    monkeypatch.setattr(manifest, "ROW_GROUP_UTTERANCES", 3)
    manifest.write(tmp_path / "manifest.parquet", _table())
    assert pq.read_metadata(tmp_path / "manifest.parquet").num_row_groups == 2
    assert manifest.read(tmp_path / "manifest.parquet").equals(_table())


def test_an_utterance_lasts_as_long_as_its_frames_else_its_audio_else_its_annotation() -> None:
    table = _table()
    for name, values in {
        "end_seconds": [1.0, 2.5, 3.0, 4.0, 5.0, 6.0],
        "start_seconds": [0.5, 2.0, 2.0, 2.0, 2.0, 2.0],
        "video_start_seconds": [None, None, 1.25, None, None, None],
        "video_end_seconds": [None, 7.5, 2.0, None, None, None],
        "audio_start_seconds": [None, 1.0, 0.0, 0.25, None, 9.0],
        "audio_end_seconds": [None, 2.0, 5.0, 1.0, 3.0, None],
    }.items():
        table = _with(table, name, values)
    assert manifest.annotated_seconds(table) == [0.5, 7.5, 0.75, 0.75, 3.0, 4.0]


def test_further_spans_are_a_column_where_one_utterance_has_some_and_last_as_long_as_they_are_together(
    tmp_path: Path,
) -> None:
    plain = _dialogue("a", ("M", "sad"), ("F", "sad"))
    assert building.build("iemocap", [plain], IEMOCAP4).schema.names == manifest.SCHEMA.names
    ends = dict(
        zip(
            ("video_start_seconds", "video_end_seconds", "audio_start_seconds", "audio_end_seconds"),
            (0.5, 0.75) * 2,
            strict=True,
        )
    )
    further = (MediaSpan("b.mp4", "b.wav", 0.0, 1.0), MediaSpan("a.mp4", "a.mp4", 2.0, 2.5))
    one, other = plain.utterances
    built = building.build(
        "iemocap", [replace(plain, utterances=(one, replace(other, further_spans=further, **ends)))], IEMOCAP4
    )
    manifest.write(tmp_path / "manifest.parquet", built)
    table = manifest.read(tmp_path / "manifest.parquet")
    assert table.equals(built)
    assert [[MediaSpan(**span) for span in spans] for spans in manifest.further_spans(table)] == [[], list(further)]
    assert manifest.annotated_seconds(table) == [1.0, 1.75]
    without_end = [{**row, "audio_end_seconds": None} for row in table.to_pylist()]
    with pytest.raises(BadTable, match=r"here: train/a_1 has several spans, one of them from 0\.5 to None s"):
        manifest.check(pa.Table.from_pylist(without_end, schema=table.schema), "here")
