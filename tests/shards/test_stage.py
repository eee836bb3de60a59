"""Building shards: the contract of their tables, what is refused, and that nothing incomplete is left."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merc import files, parquet
from merc.errors import BadSettings, BadTable, PipelineError, SettingsDiffer
from merc.job import Job, RunOptions
from merc.layout import Layout
from merc.records import failures
from merc.records import features as feature_tables
from merc.records.failures import Failure
from merc.records.feature_parts import Features
from merc.shards.card.writing import write_card
from merc.shards.format import reader
from merc.shards.stage import build_shards, dry_run
from merc.shards.validate import validate

Make = Callable[..., Any]
Digest = Callable[[Path], dict[str, str]]


def test_one_row_per_dialogue_with_lists_of_equal_length(extracted: Make) -> None:
    made = extracted()
    root = made.build()
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*")) == [
        "dialogues/dev-00000-of-00001.parquet",
        "dialogues/test-00000-of-00001.parquet",
        "dialogues/train-00000-of-00001.parquet",
        "failures/dev-00000-of-00001.parquet",
        "failures/test-00000-of-00001.parquet",
        "failures/train-00000-of-00001.parquet",
        "meta/info.json",
        "meta/stats.json",
    ]
    train = reader.read_split(root, "train")
    assert train["dialogue_id"].to_pylist() == ["train/dia0", "train/dia1", "train/dia2"]
    first = train.slice(0, 1).to_pylist()[0]
    vectors = {modality: first.pop(modality) for modality in ("text", "audio", "visual")}
    assert first == {
        "corpus": "tiny",
        "split": "train",
        "dialogue_id": "train/dia0",
        "scenario": "impro01",
        "n_utterances": 3,
        "n_speakers": 2,
        "utterance_ids": ["train/dia0_utt0", "train/dia0_utt1", "train/dia0_utt2"],
        "source_utterance_ids": ["dia0_utt0", "dia0_utt1", "dia0_utt2"],
        "speakers": ["Ross", "Zoë", "Ross"],
        "speaker_index": [0, 1, 0],
        "texts": ["Line 0 of 0, “quoted”", "Line 1 of 0, “quoted”", "Line 2 of 0, “quoted”"],
        "emotions": ["neutral", "joy", "anger"],
        "emotion_index": [0, 4, 6],
        "sentiments": ["", "", ""],
        "valence": [2.5, None, 2.5],
        "arousal": [None, None, None],
        "dominance": [None, None, None],
        "start_seconds": [0.0, 1.0, 2.0],
        "end_seconds": [0.5, 1.5, 2.5],
        "text_present": [True, True, True],
        "audio_present": [True, True, True],
        "visual_present": [True, True, True],
    }
    for modality, values in vectors.items():
        np.testing.assert_array_equal(np.array(values, dtype=np.float32), made.vectors[modality][:3])
    assert train["emotion_index"].to_pylist() == [[0, 4, 6], [4], [6, -1]]
    for split, stop in (("train", 6), ("dev", 8), ("test", 12)):
        values, offsets = reader.vectors_of(reader.read_split(root, split)["audio"])
        np.testing.assert_array_equal(values, made.vectors["audio"][stop - len(values) : stop])
        assert offsets[-1] == len(values)


def test_absent_if_and_only_if_zeros_and_a_failure_row(extracted: Make) -> None:
    made = extracted()
    made.write_features("text", {1: "no_text"})
    made.write_features("visual", {4: "no_face"}, failed=False)
    by_media = Failure("train/dia2_utt0", "media", "visual", "no_face", "8 frames").row()
    altered = Failure("train/dia2_utt0", "media", "audio", "truncated", "300 s to 60 s").row()
    parquet.write(made.layout.media / feature_tables.FAILURES, failures.table([by_media, altered]))
    root = made.build()
    train = reader.read_split(root, "train")
    assert train["text_present"].to_pylist() == [[True, False, True], [True], [True, True]]
    assert train["visual_present"].to_pylist() == [[True, True, True], [True], [False, True]]
    for modality in ("text", "audio", "visual"):
        values, _ = reader.vectors_of(train[modality])
        present = np.concatenate(train[f"{modality}_present"].to_pylist())
        np.testing.assert_array_equal(values.any(axis=1), present)
    rows = pq.read_table(root / "failures" / "train-00000-of-00001.parquet").to_pylist()
    assert [(row["utterance_id"], row["stage"], row["modality"], row["reason"], row["kind"]) for row in rows] == [
        ("train/dia0_utt0", "manifest", "text", "text_repaired", "altered"),
        ("train/dia0_utt1", "extraction", "text", "no_text", "absent"),
        ("train/dia2_utt0", "media", "visual", "no_face", "absent"),
        ("train/dia2_utt0", "media", "audio", "truncated", "altered"),
    ]
    info = reader.info(root)
    assert info["counts"]["train"]["present"] == {"text": 5, "audio": 6, "visual": 5}
    assert info["counts"]["dev"]["present"] == {"text": 2, "audio": 2, "visual": 2}


def test_an_absent_vector_without_failure_row_is_refused(extracted: Make) -> None:
    made = extracted()
    made.write_features("text", {1: "no_text"}, failed=False)
    with pytest.raises(BadTable, match="text: train/dia0_utt1 is not present, and no failure row says why"):
        made.build()
    assert not made.layout.shards.exists()


def test_zeros_that_claim_to_be_present_are_refused(extracted: Make) -> None:
    made = extracted()
    made.vectors["audio"][3] = 0
    made.write_features("audio", {})
    with pytest.raises(BadTable, match="audio: train/dia1_utt0 is present, but its vector is all zeros"):
        made.build()


def test_a_row_of_kind_altered_explains_no_absence(extracted: Make) -> None:
    made = extracted()
    made.write_features("text", {0: "text_repaired"})
    with pytest.raises(BadTable, match="train/dia0_utt0 is not present, and no failure row"):
        made.build()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11],
            "1 of the manifest's 12 utterances are missing, the first is 'train/dia2_utt0'",
        ),
        (
            [1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
            "in another order than the manifest: row 0 is 'train/dia0_utt1' instead of 'train/dia0_utt0'",
        ),
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11], "13 rows for 12 utterances; 'test/dia1_utt1' is there 2 times"),
    ],
)
def test_gaps_and_reordering_are_refused(extracted: Make, rows: list[int], message: str) -> None:
    made = extracted(modalities=("text",))
    made.write_features("text", {}, rows=rows)
    with pytest.raises(BadTable, match=message):
        made.build()


def test_vectors_of_another_length_are_refused(extracted: Make) -> None:
    made = extracted(modalities=("text",))
    part = made.layout.features("text", "fake") / "part-00001.parquet"
    ids = pq.read_table(part, columns=["utterance_id"])["utterance_id"]
    wide = feature_tables.vectors(np.ones((len(ids), 5), dtype=np.float32))
    parquet.write(part, pa.table([ids, wide, [True] * len(ids), ["ok"] * len(ids)], schema=feature_tables.schema(5)))
    with pytest.raises(BadTable, match=r"part-00001.parquet: columns .*\[5\].* instead of .*\[4\]"):
        made.build()


def test_features_of_an_older_manifest_are_refused(extracted: Make) -> None:
    older = extracted(modalities=("text",))
    extracted({"train": (3, 1, 3)}, modalities=())
    with pytest.raises(BadTable, match="made from another manifest"):
        older.build()


def test_missing_tables_and_unknown_modalities_are_named(extracted: Make) -> None:
    made = extracted(modalities=("text",))
    with pytest.raises(BadTable, match="no features; run the extraction of audio with acoustic"):
        build_shards(made.config, made.layout, made.run, encoders={"audio": "acoustic"})
    with pytest.raises(BadSettings, match="no modality 'visuals'; did you mean 'visual'"):
        build_shards(made.config, made.layout, made.run, encoders={"visuals": "fake"})
    with pytest.raises(BadSettings, match="no modality; valid: text, audio, visual"):
        build_shards(made.config, made.layout, made.run, encoders={})
    (made.layout.folder / "manifest.json").unlink()
    with pytest.raises(BadTable, match=r"manifest.json: the manifest's record is missing"):
        made.build()


def test_text_only_shards_have_no_other_columns(extracted: Make) -> None:
    made = extracted(modalities=("text",))
    not_asked_for = Failure("train/dia0_utt0", "media", "visual", "no_face").row()
    parquet.write(made.layout.media / feature_tables.FAILURES, failures.table([not_asked_for]))
    root = made.build()
    names = reader.read_split(root, "train").column_names
    assert [name for name in names if name.startswith(("text", "audio", "visual"))] == ["texts", "text", "text_present"]
    assert reader.info(root)["dims"] == {"text": 4}
    assert list(reader.stats(root)) == ["text"]
    reasons = pq.read_table(root / "failures" / "train-00000-of-00001.parquet")["reason"].to_pylist()
    assert reasons == ["text_repaired"]


def test_without_transcripts_there_is_no_column_of_texts_and_all_else_is_the_same(extracted: Make) -> None:
    whole = reader.read_split(extracted(folder="one").build(), "train")
    root = extracted(folder="other").build(transcripts=False)
    assert reader.read_split(root, "train").equals(whole.drop_columns(["texts"]))
    assert reader.info(root)["transcripts"] is False
    assert not [path for path in (root / "dialogues").iterdir() if b"Line 0 of" in path.read_bytes()]
    write_card(root)
    assert validate(root).problems.listed == []


def test_files_say_what_made_them_and_follow_the_agreed_encoding(extracted: Make) -> None:
    root = extracted().build()
    file = pq.ParquetFile(root / "dialogues" / "train-00000-of-00001.parquet")
    merc = json.loads(file.schema_arrow.metadata[b"merc"])
    assert (merc["schema_version"], merc["corpus"], merc["label_set"]) == ("2", "tiny", "meld7")
    assert merc["classes"] == ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]
    assert merc["encoders"]["audio"] == {
        "name": "fake",
        "encoder": "fake",
        "revision": "3",
        "licence": "CC0",
        "training_data_overlap": "none",
        "dim": 3,
        "settings": {"family": "fake", "scale": 1.0},
        "settings_sha256": files.digest({"family": "fake", "scale": 1.0}),
        "fingerprint": files.read_json(root.parent / "audio" / "fake" / "record.json")["fingerprint"],
        "versions": {"numpy": "0"},
    }
    assert file.num_row_groups == 2  # three dialogues, two a group
    group = file.metadata.row_group(0)
    columns = {group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)}
    assert {path for path, column in columns.items() if "BYTE_STREAM_SPLIT" in column.encodings} == {
        "valence.list.element",
        "arousal.list.element",
        "dominance.list.element",
        "start_seconds.list.element",
        "end_seconds.list.element",
        "text.list.element.list.element",
        "audio.list.element.list.element",
        "visual.list.element.list.element",
    }
    assert {path for path, column in columns.items() if column.has_dictionary_page} == {
        "corpus",
        "split",
        "dialogue_id",
        "scenario",
        "utterance_ids.list.element",
        "source_utterance_ids.list.element",
        "speakers.list.element",
        "texts.list.element",
        "emotions.list.element",
        "sentiments.list.element",
    }
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert all(column.has_offset_index and column.has_column_index for column in columns.values())


def test_statistics_are_of_present_train_utterances_alone(extracted: Make) -> None:
    made = extracted()
    made.vectors["audio"][:6] += 1000  # a mean much larger than the deviation
    made.write_features("audio", {1: "silence", 7: "silence"})
    stats = reader.stats(made.build(max_file_bytes=500))
    wanted = made.vectors["audio"][[0, 2, 3, 4, 5]].astype(np.float64)
    assert stats["audio"]["count"] == 5
    np.testing.assert_allclose(stats["audio"]["mean"], wanted.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(stats["audio"]["std"], wanted.std(axis=0), rtol=1e-10)


def test_splits_are_cut_into_files_at_dialogue_boundaries(extracted: Make) -> None:
    made = extracted()
    whole = reader.read_split(made.build(), "train")
    made.run = RunOptions(overwrite=True)
    root = made.build(max_file_bytes=700)
    assert [path.name for path in sorted((root / "dialogues").glob("train-*"))] == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    assert reader.read_split(root, "train").equals(whole)
    root = made.build(max_file_bytes=1)
    assert len(list((root / "dialogues").glob("train-*-of-00003.parquet"))) == 3
    assert reader.read_split(root, "train").equals(whole)


def test_row_groups_take_what_they_need_from_any_parts_and_are_read_one_at_a_time(
    extracted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = extracted({"train": (3, 1, 2, 4, 2, 1)}, modalities=("text",))  # 13 utterances in parts of 7 and 6
    spans: list[tuple[int, int]] = []
    read = Features.read
    monkeypatch.setattr(
        Features, "read", lambda self, start, stop: (spans.append((start, stop)), read(self, start, stop))[1]
    )
    root = made.build(row_group_dialogues=2)
    assert spans == [(0, 4), (4, 10), (10, 13)]
    values, offsets = reader.vectors_of(reader.read_split(root, "train")["text"])
    np.testing.assert_array_equal(values, made.vectors["text"])
    assert offsets.tolist() == [0, 3, 4, 6, 10, 12, 13]


def test_splits_that_take_turns_in_the_manifest_are_distinguished(extracted: Make) -> None:
    made = extracted({"train": (3, 1, 2), "dev": (2,), "test": (2, 1)}, interleaved=True)
    assert (
        made.table["split"].to_pylist()
        == ["train"] * 3 + ["dev"] * 2 + ["test"] * 2 + ["train", "test"] + ["train"] * 2
    )
    made.write_features("text", {7: "no_text", 8: "no_text"})
    root = made.build()
    for split, rows in (("train", [0, 1, 2, 7, 9, 10]), ("dev", [3, 4]), ("test", [5, 6, 8])):
        table = reader.read_split(root, split)
        assert [one for ids in table["utterance_ids"].to_pylist() for one in ids] == made.table["utterance_id"].take(
            pa.array(rows)
        ).to_pylist()
        np.testing.assert_array_equal(reader.vectors_of(table["audio"])[0], made.vectors["audio"][rows])
        failed = pq.read_table(root / "failures" / f"{split}-00000-of-00001.parquet")["utterance_id"].to_pylist()
        assert failed == {"train": ["train/dia0_utt0", "train/dia1_utt0"], "dev": [], "test": ["test/dia1_utt0"]}[split]
    assert reader.info(root)["counts"]["train"]["present"] == {"text": 5, "audio": 6, "visual": 6}


def test_a_failure_row_about_no_one_is_refused(extracted: Make) -> None:
    made = extracted(modalities=("text",))
    parquet.write(
        made.layout.features("text", "fake") / feature_tables.FAILURES,
        failures.table([Failure("train/dia9_utt0", "extraction", "text", "no_text").row()]),
    )
    with pytest.raises(
        BadTable,
        match=r"1 failure rows about utterances that are not in the manifest, the first about 'train/dia9_utt0'",
    ):
        made.build()


def test_a_damaged_part_of_the_features_is_named(extracted: Make) -> None:
    made = extracted(modalities=("text",))
    path = made.layout.features("text", "fake") / "part-00001.parquet"
    column = pq.read_metadata(path).row_group(0).column(1)
    with path.open("r+b") as file:
        file.seek(column.data_page_offset)
        file.write(b"\xff" * column.total_compressed_size)
    with pytest.raises(BadTable, match=r"part-00001\.parquet: not a Parquet file, or a damaged one"):
        made.build()
    assert not made.layout.shards.exists()


def test_the_same_input_gives_the_same_bytes(extracted: Make, folder_digest: Digest) -> None:
    one, other = (folder_digest(extracted(folder=folder).build()) for folder in ("one", "other"))
    assert one == other
    assert len(one) == 8


def test_shards_that_are_there_are_not_built_again_and_changed_settings_are_refused(extracted: Make) -> None:
    made = extracted()
    root = made.build()
    before = (root / "meta" / "info.json").stat().st_mtime_ns
    made.build()
    assert (root / "meta" / "info.json").stat().st_mtime_ns == before
    with pytest.raises(SettingsDiffer, match=r"shards\.row_group_dialogues: 2 there, 64 wanted"):
        made.build(row_group_dialogues=64)
    del made.encoders["visual"]
    with pytest.raises(SettingsDiffer, match=r"encoders\.visual: fake there, nothing wanted"):
        made.build(row_group_dialogues=2)


def test_changed_features_are_joined_anew(extracted: Make) -> None:
    made = extracted(modalities=("text",))
    made.build()
    record = files.read_json(made.layout.folder / "manifest.json")
    more = Failure("test/dia1_utt1", "manifest", "text", "text_repaired").row()
    files.write_json(made.layout.folder / "manifest.json", {**record, "failures": [*record["failures"], more]})
    assert reader.info(made.build())["counts"]["test"]["failures"] == 1


def test_a_full_disk_leaves_the_old_shards_as_they_were(
    extracted: Make, folder_digest: Digest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here to stand for a full disk")
    made = extracted()
    root = made.build()
    before = folder_digest(root)
    start = Job.start

    def start_on_a_full_disk(job: Job) -> None:
        start(job)
        (job.folder / "dialogues").mkdir()
        files.temporary_beside(job.folder / "dialogues" / "dev-00000-of-00001.parquet").symlink_to("/dev/full")

    made.run = RunOptions(overwrite=True)
    with monkeypatch.context() as context:
        context.setattr(Job, "start", start_on_a_full_disk)
        with pytest.raises(PipelineError, match=r"dev-00000-of-00001.parquet cannot be written: .*No space left"):
            made.build(row_group_dialogues=1)
    assert folder_digest(root) == before
    scratch = sorted(path.name for path in made.layout.scratch.rglob("*.parquet"))
    assert "dev-00000-of-00001.parquet" not in scratch
    root = made.build(row_group_dialogues=1)
    assert not [path for path in root.rglob("*") if path.name.endswith(".tmp")]
    assert pq.ParquetFile(root / "dialogues" / "dev-00000-of-00001.parquet").num_row_groups == 1


def test_what_a_killed_run_left_behind_is_not_moved_into_place(extracted: Make) -> None:
    made = extracted(modalities=("text",))
    made.build()
    (made.layout.shards / "meta" / "info.json").unlink()
    fingerprint = reader.info(extracted(modalities=("text",), folder="twin").build())["fingerprint"]
    half_written = (
        made.layout.scratch / "shards" / fingerprint[:16] / "dialogues" / ".train-00000-of-00001.parquet.1.tmp"
    )
    half_written.parent.mkdir(parents=True)
    half_written.write_bytes(b"PAR1")
    root = made.build()
    assert sorted(path.name for path in (root / "dialogues").iterdir())[-1] == "train-00000-of-00001.parquet"
    assert not list(root.rglob(".*"))


def test_a_dry_run_says_what_would_be_built(extracted: Make) -> None:
    made = extracted(modalities=("text",))
    found = dry_run(made.config, made.layout, made.run, encoders={"text": "fake"})
    assert (found["cached"], found["utterances"], found["dialogues"]) == (False, 12, 6)
    assert found["bytes"] > 12 * 4 * 4
    assert not made.layout.shards.exists()


def test_a_thousand_dialogues_are_cut_into_files_and_read_back(extracted: Make) -> None:
    made = extracted({"train": (10,) * 1000}, modalities=())
    made.vectors["text"] = np.random.default_rng(0).normal(size=(10_000, 768)).astype(np.float32)
    made.write_features("text", {})
    root = made.build(max_file_bytes=16_000_000, row_group_dialogues=128)
    values, offsets = reader.vectors_of(reader.read_split(root, "train", ["text"])["text"])
    np.testing.assert_array_equal(values, made.vectors["text"])
    assert len(offsets) == 1001
    assert len(list((root / "dialogues").iterdir())) == 2


def test_layout_of_the_shards_is_where_the_next_stages_look(extracted: Make) -> None:
    made = extracted(modalities=("text",))
    assert made.build() == Layout(made.layout.raw, made.layout.out, "tiny").shards
