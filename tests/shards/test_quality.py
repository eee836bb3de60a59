"""Columns of an audit: present on request, read by everything that reads shards, and usable to make subsets."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merc import files, parquet
from merc.errors import BadSettings, BadTable, SettingsDiffer
from merc.records.audit import PREFIX, QUALITY
from merc.shards.card.writing import write_card
from merc.shards.circulation.joining import join_modalities
from merc.shards.config import Config
from merc.shards.diff import diff
from merc.shards.format import reader
from merc.shards.format.schema import quality_columns
from merc.shards.merge import merge
from merc.shards.overview import overview
from merc.shards.select import select
from merc.shards.validate import validate

from .conftest import ASR_ERROR, SPEAKING, Extracted

CONFIG = Config(row_group_dialogues=2, max_file_bytes=1_000_000)
COLUMNS = [f"{PREFIX}{name}" for name in QUALITY]
Digest = Callable[[Path], dict[str, str]]


@pytest.fixture
def shards(audited: Extracted) -> Path:
    root = audited.build(quality=True)
    write_card(root)
    return root


def _flat(root: Path, name: str) -> list[Any]:
    return [
        one for split in reader.splits(root) for row in reader.read_split(root, split)[name].to_pylist() for one in row
    ]


def test_shards_hold_the_numbers_of_the_audit_null_where_not_known(shards: Path) -> None:
    assert list(quality_columns(reader.read_split(shards, "dev").schema.names)) == COLUMNS
    assert _flat(shards, "quality_asr_error") == pytest.approx(ASR_ERROR)
    assert _flat(shards, "quality_speaking") == SPEAKING
    assert _flat(shards, "quality_same_sound") == [1.0, *[0.0] * 10, None]
    assert _flat(shards, "quality_off_screen") == [1.0, *[0.0] * 11]
    assert set(_flat(shards, "quality_face_unlike")) == {None}
    assert validate(shards).problems.listed == []
    info = reader.info(shards)
    assert info["quality"]["columns"] == COLUMNS
    assert len(info["quality"]["fingerprints"]) == 1


def test_without_the_setting_nothing_of_it_is_there_and_no_byte_differs(
    audited: Extracted, extracted: Callable[..., Any], folder_digest: Digest
) -> None:
    other = extracted(folder="other")
    other.write_features("visual", {1: "no_face"})
    root = audited.build()
    assert folder_digest(root) == folder_digest(other.build())
    assert quality_columns(reader.read_split(root, "train").schema.names) == ()
    assert "quality" not in reader.info(root)
    assert "quality" not in json.dumps(reader.info(root)["settings"])


def test_every_reader_of_shards_gives_nan_or_null(shards: Path) -> None:
    batch = next(iter(reader.Dialogues(shards, "train", ["quality_asr_error", "emotion_index"]).batches(3)))
    np.testing.assert_array_equal(
        batch["quality_asr_error"], np.array([[0.125, 0.75, np.nan], [0.25, 0, 0], [1.5, 0, 0]], np.float32)
    )
    rows = pd.read_parquet(shards / "dialogues", filters=[("split", "=", "train")]).explode(
        ["utterance_ids", "quality_asr_error"], ignore_index=True
    )
    assert rows["quality_asr_error"].isna().tolist() == [False, False, True, False, False, False]


def test_hugging_face_polars_and_duckdb_read_them(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    polars, duckdb, datasets = (pytest.importorskip(name) for name in ("polars", "duckdb", "datasets"))
    path = str(shards / "dialogues" / "train-00000-of-00001.parquet")
    assert polars.read_parquet(path)["quality_asr_error"].explode().to_list() == ASR_ERROR[:6]
    assert [one for (one,) in duckdb.sql(f"SELECT unnest(quality_asr_error) FROM '{path}'").fetchall()] == ASR_ERROR[:6]  # noqa: S608
    found = datasets.load_dataset(str(shards), "dialogues", split="train", cache_dir=str(tmp_path / "cache"))
    assert [one for row in found["quality_asr_error"] for one in row] == ASR_ERROR[:6]
    assert found.features["quality_asr_error"].feature.dtype == "float32"
    assert found.features["emotion_index"].feature.names == reader.info(shards)["classes"]


def test_card_croissant_and_overview_say_what_each_column_is(audited: Extracted) -> None:
    audited.write_audit({"asr_error": ASR_ERROR}, asr="openai/whisper-base")
    root = audited.build(quality=True)
    write_card(root)
    card = (root / "README.md").read_text(encoding="utf-8")
    assert "Speech was recognised by the Whisper *openai/whisper-base at revision 000" in card
    fields = files.read_json(root / "croissant.json")["recordSet"][0]["field"]
    said = {field["name"]: field["description"] for field in fields}
    for name, meaning in QUALITY.items():
        assert f"- `quality_{name}`: {meaning}" in card
        assert said[f"quality_{name}"] == f"{meaning}; null where unknown"
    assert overview(root).quality == COLUMNS


def test_no_audit_or_one_of_other_media_is_reported_with_the_command_that_makes_it(
    extracted: Callable[..., Any], audited: Extracted
) -> None:
    with pytest.raises(
        BadTable,
        match=(
            r"there is no audit, which the quality columns need; this makes it:\n  merc-extract audit --dataset tiny"
        ),
    ):
        extracted(folder="none").build(quality=True)
    record = files.read_json(audited.layout.media / "record.json")
    files.write_json(audited.layout.media / "record.json", {**record, "settings": {"media": {"face_size_pixels": 96}}})
    for modality in ("text", "audio", "visual"):
        audited.write_features(modality, {})
    with pytest.raises(BadTable, match=r"from other data than the current ones \(audio, visual changed\)"):
        audited.build(quality=True)


def test_shards_without_the_columns_are_not_replaced_unasked_and_a_new_audit_makes_them_stale(
    audited: Extracted,
) -> None:
    audited.build()
    with pytest.raises(SettingsDiffer, match=r"shards\.quality: nothing there, True wanted"):
        audited.build(quality=True)
    audited.run = replace(audited.run, overwrite=True)
    before = reader.info(audited.build(quality=True))["fingerprint"]
    audited.write_audit({"asr_error": [0.5] * 12}, asr="another/model")
    root = audited.build(quality=True)
    assert reader.info(root)["fingerprint"] != before
    assert set(_flat(root, "quality_asr_error")) == {0.5}


def test_a_part_has_the_columns_too_and_a_value_that_is_not_finite_is_found(shards: Path, tmp_path: Path) -> None:
    select(shards, tmp_path / "part", CONFIG, splits=["train"], modalities=["text"], transcripts=False)
    assert _flat(tmp_path / "part", "quality_speaking") == SPEAKING[:6]
    assert validate(tmp_path / "part").problems.listed == []
    path = shards / "dialogues" / "dev-00000-of-00001.parquet"
    table = pq.read_table(path)
    index = table.schema.get_field_index("quality_speaking")
    wrong = pa.array([[float("inf"), 1.0]], table.schema.field(index).type)
    parquet.write(path, table.set_column(index, table.schema.field(index), wrong), 2)
    write_card(shards)
    assert [(one.kind, one.column) for one in validate(shards).problems.listed] == [("finite", "quality_speaking")]


def test_splits_that_were_parted_are_merged_again_and_shards_without_the_columns_are_not_merged_with_them(
    shards: Path, tmp_path: Path
) -> None:
    select(shards, tmp_path / "one", CONFIG, splits=["train", "test"])
    select(shards, tmp_path / "other", CONFIG, splits=["dev"])
    merge([tmp_path / "one", tmp_path / "other"], tmp_path / "whole", CONFIG)
    assert _flat(tmp_path / "whole", "quality_asr_error") == pytest.approx(ASR_ERROR)
    assert reader.info(tmp_path / "whole")["quality"]["columns"] == COLUMNS
    info = files.read_json(tmp_path / "other" / "meta" / "info.json")
    files.write_json(
        tmp_path / "other" / "meta" / "info.json", {**info, "quality": {**info["quality"], "columns": COLUMNS[:3]}}
    )
    with pytest.raises(BadSettings, match=r"different columns of an audit: .*one has quality_speech_share, "):
        merge([tmp_path / "one", tmp_path / "other"], tmp_path / "again", CONFIG)


def test_a_difference_in_quality_is_counted_and_columns_of_one_alone_are_named(
    shards: Path, audited: Extracted, tmp_path: Path
) -> None:
    select(shards, tmp_path / "same", CONFIG)
    assert not diff(shards, tmp_path / "same").differs
    audited.run = replace(audited.run, overwrite=True)
    audited.write_audit({"asr_error": [0.5, *ASR_ERROR[1:]], "speaking": SPEAKING})
    audited.build(quality=True)
    found = diff(tmp_path / "same", shards)
    assert found.splits["train"].columns["quality_asr_error"] == (1, "train/dia0_utt0")
    audited.build(quality=False)
    assert diff(tmp_path / "same", shards).columns == (COLUMNS, [])


def test_joined_shards_keep_those_of_the_first(shards: Path, tmp_path: Path) -> None:
    select(shards, tmp_path / "text", CONFIG, modalities=["text"])
    select(shards, tmp_path / "audio", CONFIG, modalities=["audio"])
    join_modalities(tmp_path / "text", tmp_path / "audio", tmp_path / "both", CONFIG)
    assert _flat(tmp_path / "both", "quality_speaking") == SPEAKING
    assert validate(tmp_path / "both").problems.listed == []


def test_utterances_of_which_the_condition_is_not_true_lose_their_label_and_stay_as_context(
    shards: Path, tmp_path: Path
) -> None:
    notes = select(shards, tmp_path / "part", CONFIG, where="asr_error < 0.5 and speaking > 0")
    good = [
        error is not None and error < 0.5 and speaking is not None and speaking > 0
        for error, speaking in zip(ASR_ERROR, SPEAKING, strict=True)
    ]
    before, after = (_flat(root, "emotion_index") for root in (shards, tmp_path / "part"))
    assert after == [label if one else -1 for label, one in zip(before, good, strict=True)]
    assert _flat(tmp_path / "part", "emotions") == [
        emotion if one else "" for emotion, one in zip(_flat(shards, "emotions"), good, strict=True)
    ]
    for name in ("utterance_ids", "texts", "speakers", "text", "quality_asr_error", "visual_present", "sentiments"):
        assert _flat(tmp_path / "part", name) == _flat(shards, name), name
    assert validate(tmp_path / "part").problems.listed == []
    info = reader.info(tmp_path / "part")
    assert (
        info["settings"]["select"]
        | {
            "where": "asr_error < 0.5 and speaking > 0",
            "where_splits": ["train", "dev", "test"],
            "drop": False,
        }
        == (info["settings"]["select"])
    )
    assert info["counts"]["train"]["unlabelled"] == 6 - sum(label >= 0 for label in after[:6])
    assert (
        info["selection"][0]
        == "train: 4 of 6 utterances do not meet the condition asr_error < 0.5 and speaking > 0, or it is"
        " unknown whether they do; they have no label here and serve as context for the others."
    )
    card = (tmp_path / "part" / "README.md").read_text(encoding="utf-8")
    assert "## Selection" in card
    assert "speaking \\> 0" in card
    assert any("--where-split train keeps them complete" in note for note in notes)
    assert overview(tmp_path / "part").selection == info["selection"]


def test_dropped_utterances_are_gone_with_their_failures_and_with_dialogues_of_which_none_is_left(
    shards: Path, tmp_path: Path
) -> None:
    select(shards, tmp_path / "part", CONFIG, where="asr_error <= 0.5", drop=True)
    ids = [
        name
        for name, error in zip(_flat(shards, "utterance_ids"), ASR_ERROR, strict=True)
        if error is not None and error <= 0.5
    ]
    assert _flat(tmp_path / "part", "utterance_ids") == ids
    for name in ("text", "audio_present", "emotions", "quality_speaking"):
        kept = [
            value for value, one in zip(_flat(shards, name), _flat(shards, "utterance_ids"), strict=True) if one in ids
        ]
        assert _flat(tmp_path / "part", name) == kept, name
    train = reader.read_split(tmp_path / "part", "train")
    assert train["n_utterances"].to_pylist() == [1, 1, 1]
    assert train["n_speakers"].to_pylist() == [1, 1, 1]
    assert _flat(tmp_path / "part", "speaker_index")[2] == 0  # the second speaker of train/dia2 is the first one now
    failed = pq.read_table(tmp_path / "part" / "failures" / "train-00000-of-00001.parquet")["utterance_id"].to_pylist()
    assert failed == ["train/dia0_utt0"]  # the missing face of train/dia0_utt1 was dropped with it
    assert validate(tmp_path / "part").problems.listed == []


def test_dialogues_of_which_nothing_is_left_are_gone(shards: Path, tmp_path: Path) -> None:
    select(shards, tmp_path / "part", CONFIG, where="asr_error > 1", drop=True)
    assert (reader.splits(tmp_path / "part"), _flat(tmp_path / "part", "utterance_ids")) == (
        ["train"],
        ["train/dia2_utt0"],
    )
    assert validate(tmp_path / "part").problems.listed == []


def test_a_condition_may_count_in_one_split_alone(shards: Path, tmp_path: Path) -> None:
    notes = select(shards, tmp_path / "part", CONFIG, where="speaking > 0", where_splits=["train"], drop=True)
    assert not any("dev or test" in note for note in notes)
    for split in ("dev", "test"):
        assert reader.read_split(tmp_path / "part", split).equals(reader.read_split(shards, split))
    assert [line.split(":")[0] for line in reader.info(tmp_path / "part")["selection"]] == ["train"]


def test_a_part_of_a_part_tells_both_selections_and_so_does_what_is_merged_of_them(
    shards: Path, tmp_path: Path
) -> None:
    select(shards, tmp_path / "one", CONFIG, where="speaking > 0", where_splits=["train"])
    select(tmp_path / "one", tmp_path / "two", CONFIG, splits=["train"], where="asr_error < 1")
    lines = reader.info(tmp_path / "two")["selection"]
    assert ["speaking > 0" in lines[0], "asr_error < 1" in lines[1]] == [True, True]
    select(shards, tmp_path / "dev", CONFIG, splits=["dev"])
    merge([tmp_path / "two", tmp_path / "dev"], tmp_path / "whole", CONFIG)
    assert reader.info(tmp_path / "whole")["selection"] == lines


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"where": "asr_eror < 1"}, "no column 'asr_eror'; did you mean 'asr_error'"),
        ({"where": "quality_asr_error < 1"}, "no column 'quality_asr_error'"),
        ({"where": "asr_error > 100"}, "is met by no utterance in train, dev, test; nothing was written"),
        ({"where": "asr_error > 100", "drop": True}, "is met by no utterance"),
        (
            {"where": "asr_error < 1 and face_unlike < 1"},
            r"nothing was written\. None of them has a value of face_unlike: docs/audit\.md says",
        ),
        ({"where": "asr_error < 1", "where_splits": ["trein"]}, "no split 'trein' in these shards"),
        ({"drop": True}, "--drop and --where-split need a condition in --where"),
        ({"where_splits": ["train"]}, "need a condition"),
    ],
)
def test_what_cannot_be_selected_is_refused_and_nothing_is_written(
    shards: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadSettings, match=words):
        select(shards, tmp_path / "part", CONFIG, **options)
    assert not (tmp_path / "part").exists()


def test_a_part_tells_how_faces_were_found_and_chosen_and_so_does_a_merge_of_parts_with_the_same(
    shards: Path, tmp_path: Path
) -> None:
    info = files.read_json(shards / "meta/info.json")
    told = {"detector": "yunet", "choice": "active_speaker", "off_screen": "keep"}
    files.write_json(
        shards / "meta/info.json", info | {"faces": {**told, "off_screen_utterances": 1, "judged_utterances": 12}}
    )
    write_card(shards)
    assert (
        "In 1 of 12 utterances that could be judged (8.3 %) no mouth matches the audio"
        in (shards / "README.md").read_text()
    )
    for split, choice in (("train", "active_speaker"), ("dev", "active_speaker"), ("test", "largest")):
        select(shards, tmp_path / split, CONFIG, splits=[split])
        files.write_json(
            tmp_path / split / "meta/info.json", reader.info(tmp_path / split) | {"faces": told | {"choice": choice}}
        )
    select(shards, tmp_path / "part", CONFIG, where="speaking > 0")
    assert reader.info(tmp_path / "part")["faces"] == told
    words = "Faces were found by *yunet*; where several people were visible, *active_speaker* chose."
    assert words in (tmp_path / "part" / "README.md").read_text()
    select(shards, tmp_path / "text", CONFIG, modalities=["text"])
    assert "faces" not in reader.info(tmp_path / "text")
    merge([tmp_path / "train", tmp_path / "dev"], tmp_path / "same", CONFIG)
    merge([tmp_path / "train", tmp_path / "test"], tmp_path / "mixed", CONFIG)
    assert (reader.info(tmp_path / "same")["faces"], reader.info(tmp_path / "mixed").get("faces")) == (told, None)


def test_shards_without_an_audit_say_how_to_get_its_columns(sound: Path, tmp_path: Path) -> None:
    with pytest.raises(
        BadSettings, match=r"these shards have no columns of an audit\. They come from merc-extract audit"
    ):
        select(sound, tmp_path / "part", CONFIG, where="asr_error < 1")


def test_trajectories_are_left_out_since_they_are_of_the_labels_before(shards: Path, tmp_path: Path) -> None:
    (shards / "trajectories").mkdir()
    notes = select(shards, tmp_path / "part", CONFIG, where="asr_error < 1", where_splits=["train"])
    assert notes == ["the trajectories were left out: they were computed from labels that were removed"]
    assert not (tmp_path / "part" / "trajectories").exists()
