"""A part of shards is again shards: the same rows, with their own counts and statistics."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merc import files
from merc.errors import BadSettings, BadTable, SettingsDiffer
from merc.shards.config import Config as ShardsConfig
from merc.shards.format import reader
from merc.shards.select import select
from merc.shards.validate import validate

CONFIG = ShardsConfig(row_group_dialogues=2, max_file_bytes=1_000_000)
Digest = Callable[[Path], dict[str, str]]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "part"


def test_all_of_it_has_the_same_tables_byte_for_byte(sound: Path, target: Path, folder_digest: Digest) -> None:
    assert select(sound, target, CONFIG) == []
    before, after = folder_digest(sound), folder_digest(target)
    assert {name: digest for name, digest in before.items() if name.endswith(".parquet")} == {
        name: digest for name, digest in after.items() if name.endswith(".parquet")
    }
    assert before.keys() == after.keys()
    assert validate(target).problems.listed == []


@pytest.mark.parametrize("max_file_bytes", [1, 700, 100_000])
def test_files_are_cut_as_the_stage_cuts_them(
    extracted: Callable[..., Any], target: Path, folder_digest: Digest, max_file_bytes: int
) -> None:
    root = extracted({"train": (3, 1, 2, 5, 1, 4)}).build(max_file_bytes=max_file_bytes)
    select(root, target, ShardsConfig(row_group_dialogues=2, max_file_bytes=max_file_bytes))
    assert folder_digest(root / "dialogues") == folder_digest(target / "dialogues")


def test_chosen_splits_and_modalities_keep_their_rows_and_vectors(sound: Path, target: Path) -> None:
    select(sound, target, CONFIG, splits=["test", "train"], modalities=["visual"])
    assert reader.splits(target) == ["train", "test"]
    for split in ("train", "test"):
        wanted = reader.read_split(sound, split).drop_columns(["text", "text_present", "audio", "audio_present"])
        assert reader.read_split(target, split).equals(wanted)
    info = reader.info(target)
    assert (info["splits"], info["modalities"], info["dims"], list(info["encoders"])) == (
        ["train", "test"],
        ["visual"],
        {"visual": 2},
        ["visual"],
    )
    assert info["counts"]["train"]["present"] == {"visual": 5}
    assert info["made_from"][0]["fingerprint"] == reader.info(sound)["fingerprint"]
    assert list(reader.stats(target)) == ["visual"]
    # The anomalies of the annotations are kept, as when shards are built without that modality.
    failed = pq.read_table(target / "failures" / "train-00000-of-00001.parquet")
    assert list(zip(failed["stage"].to_pylist(), failed["modality"].to_pylist(), strict=True)) == [
        ("manifest", "text"),
        ("extraction", "visual"),
    ]
    select(sound, target, CONFIG, splits=["train"], modalities=["audio"], overwrite=True)
    assert pq.read_table(target / "failures" / "train-00000-of-00001.parquet")["stage"].to_pylist() == ["manifest"]
    assert validate(target).problems.listed == []


def test_chosen_dialogues_keep_their_order_and_their_failures(sound: Path, target: Path) -> None:
    notes = select(sound, target, CONFIG, dialogues=["train/dia2", "train/dia0"])
    assert notes == ["the trajectories were left out: neighbours would be missing among the chosen dialogues"]
    assert reader.read_split(target, "train", ["dialogue_id"])["dialogue_id"].to_pylist() == [
        "train/dia0",
        "train/dia2",
    ]
    assert (reader.splits(target), reader.info(target)["splits"]) == (["train"], ["train"])
    assert pq.read_table(target / "failures" / "train-00000-of-00001.parquet").num_rows == 2
    values, _ = reader.vectors_of(reader.read_split(target, "train")["text"])
    np.testing.assert_allclose(reader.stats(target)["text"]["mean"], values.astype(np.float64).mean(axis=0), rtol=1e-12)
    assert validate(target).problems.listed == []
    select(sound, target, CONFIG, dialogues=["train/dia1"], overwrite=True)
    assert pq.read_table(target / "failures" / "train-00000-of-00001.parquet").num_rows == 0


def test_without_the_train_split_the_statistics_stay_those_of_training(sound: Path, target: Path) -> None:
    select(sound, target, CONFIG, splits=["test"])
    assert reader.stats(target) == reader.stats(sound)
    assert validate(target).problems.listed == []


def test_without_transcripts_there_is_no_column_of_texts(sound: Path, target: Path) -> None:
    select(sound, target, CONFIG, transcripts=False)
    for path in sorted((target / "dialogues").iterdir()):
        file = pq.ParquetFile(path)
        assert "texts" not in file.schema_arrow.names
        assert "texts" not in file.schema_arrow.metadata[b"huggingface"].decode()
        assert "Line 0" not in path.read_bytes().decode("latin-1")
    assert reader.info(target)["transcripts"] is False
    assert validate(target).problems.listed == []
    card = (target / "README.md").read_text(encoding="utf-8")
    assert "the transcripts were left out" in card
    assert "texts" not in card
    assert "dialogues/texts" not in (target / "croissant.json").read_text(encoding="utf-8")
    again = target.with_name("again")
    select(target, again, CONFIG)
    assert reader.info(again)["transcripts"] is False


def test_the_same_choice_gives_the_same_bytes(sound: Path, tmp_path: Path, folder_digest: Digest) -> None:
    for name in ("one", "other"):
        select(sound, tmp_path / name, CONFIG, splits=["dev"], modalities=["text", "audio"], transcripts=False)
    assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "other")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"splits": ["trein"]}, "no split 'trein' in these shards; did you mean 'train'"),
        ({"modalities": ["video"]}, "no modality 'video' in these shards; valid: audio, text, visual"),
        ({"dialogues": ["train/dia7"]}, "no dialogue 'train/dia7' in these shards; did you mean 'train/dia"),
        ({"dialogues": ["dev/dia0"], "splits": ["train"]}, "no dialogue 'dev/dia0'"),
    ],
)
def test_what_is_not_there_is_named_and_nothing_written(
    sound: Path, target: Path, choice: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadSettings, match=message):
        select(sound, target, CONFIG, **choice)
    assert not target.exists()


def test_what_is_there_is_replaced_only_if_it_is_shards_and_told_to(sound: Path, target: Path) -> None:
    select(sound, target, CONFIG, splits=["dev"])
    with pytest.raises(SettingsDiffer, match="shards are already there; give another folder, or --overwrite"):
        select(sound, target, CONFIG)
    assert reader.splits(target) == ["dev"]
    select(sound, target, CONFIG, splits=["test"], overwrite=True)
    assert reader.splits(target) == ["test"]
    home = target.with_name("home")
    home.mkdir()
    (home / "letter.txt").write_text("dear")
    with pytest.raises(SettingsDiffer, match="something is already there; it is not a folder of shards"):
        select(sound, home, CONFIG, overwrite=True)
    assert (home / "letter.txt").read_text() == "dear"


def test_nothing_is_written_through_links_or_into_the_source(sound: Path, target: Path) -> None:
    elsewhere = target.with_name("elsewhere")
    elsewhere.mkdir()
    target.symlink_to(elsewhere)
    with pytest.raises(BadSettings, match="is a link to"):
        select(sound, target, CONFIG)
    assert list(elsewhere.iterdir()) == []
    for inside in (sound, sound / "part", sound.parent):
        with pytest.raises(BadSettings, match="neither is inside them nor contains them"):
            select(sound, inside, CONFIG, overwrite=True)


def test_a_source_with_lists_of_different_length_is_refused(sound: Path, target: Path) -> None:
    path = sound / "dialogues" / "dev-00000-of-00001.parquet"
    table = pq.read_table(path)
    shorter = pa.array([["dev/dia0_utt0"]], table.schema.field("utterance_ids").type)
    place = table.schema.get_field_index("utterance_ids")
    pq.write_table(table.set_column(place, table.schema.field("utterance_ids"), shorter), path)
    with pytest.raises(
        BadTable, match=r"dev-00000-of-00001.parquet: dev/dia0: 1 entries in utterance_ids for 2 utterances"
    ):
        select(sound, target, CONFIG)
    assert not target.exists()


def test_a_damaged_source_leaves_nothing_behind(sound: Path, target: Path) -> None:
    path = sound / "dialogues" / "test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadTable, match=r"test-00000-of-00001.parquet: not a Parquet file"):
        select(sound, target, CONFIG)
    assert [one.name for one in target.parent.iterdir() if "part" in one.name] == []


def test_a_source_of_another_schema_version_is_refused(sound: Path, target: Path) -> None:
    info = files.read_json(sound / "meta" / "info.json")
    files.write_json(sound / "meta" / "info.json", {**info, "schema_version": "9"})
    with pytest.raises(BadTable, match="schema version '9', this program reads '2'"):
        select(sound, target, CONFIG)


def test_hugging_face_datasets_loads_a_part_without_transcripts(
    sound: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    select(sound, target, CONFIG, splits=["train"], modalities=["visual"], transcripts=False)
    found = datasets.load_dataset(str(target), cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["train"]
    assert "texts" not in found["train"].column_names
    assert found["train"].features["emotion_index"].feature.names[0] == "neutral"
    assert found["train"]["visual_present"][0] == [True, False, True]
