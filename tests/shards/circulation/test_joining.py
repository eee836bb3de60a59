"""Modalities of two sets of shards of one corpus joined: each vector at its utterance, and mismatches refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merc import files
from merc.errors import BadSettings, BadTable, SettingsDiffer
from merc.layout import Layout
from merc.shards.card.writing import write_card
from merc.shards.circulation.importing import Imported, build
from merc.shards.circulation.joining import join_modalities
from merc.shards.config import Config as ShardsConfig
from merc.shards.format import reader
from merc.shards.select import select
from merc.shards.validate import validate

CONFIG = ShardsConfig(row_group_dialogues=2, max_file_bytes=1_000_000)
Make = Callable[..., Any]
SIZES = {"train": (3, 1, 2), "dev": (2,), "test": (2, 2)}


@pytest.fixture
def imported(tmp_path: Path, pickled: Callable[..., Path], read: Callable[..., Imported]) -> Callable[..., Path]:
    """Imports a file's content and returns the folder of its shards."""

    def make(content: Any, folder: str, **wishes: Any) -> Path:
        found = read(pickled(content, f"{folder}.pkl"), **wishes)
        layout = Layout(tmp_path / folder, tmp_path / folder, found.corpus)
        build(found, ShardsConfig(), layout)
        write_card(layout.shards)
        return layout.shards

    return make


def _failures(root: Path) -> list[tuple[str, str, str]]:
    rows = [row for path in sorted((root / "failures").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return sorted((row["utterance_id"], row["modality"], row["reason"]) for row in rows)


def test_parts_by_modality_are_the_whole_again(sound: Path, tmp_path: Path, folder_digest: Any) -> None:
    select(sound, tmp_path / "text", CONFIG, modalities=["text"])
    select(sound, tmp_path / "rest", CONFIG, modalities=["audio", "visual"])
    before = folder_digest(tmp_path)
    notes = join_modalities(tmp_path / "text", tmp_path / "rest", tmp_path / "whole", CONFIG)
    assert notes == ["the trajectories were left out: their neighbours may have been found with other vectors"]
    for folder in ("dialogues", "failures"):
        assert folder_digest(tmp_path / "whole" / folder) == folder_digest(sound / folder)
    info, was = reader.info(tmp_path / "whole"), reader.info(sound)
    for key in (
        "corpus",
        "classes",
        "dims",
        "modalities",
        "counts",
        "splits",
        "source",
        "corpus_settings",
        "deviations",
        "encoders",
    ):
        assert info[key] == was[key], key
    assert [len(part["made_from"]) for part in info["made_from"]] == [1, 1]
    for modality, wanted in reader.stats(sound).items():
        for key in ("count", "mean", "std"):
            np.testing.assert_allclose(reader.stats(tmp_path / "whole")[modality][key], wanted[key], rtol=1e-12)
    assert validate(tmp_path / "whole").problems.listed == []
    assert {name: digest for name, digest in folder_digest(tmp_path).items() if not name.startswith("whole/")} == before


def test_text_of_cosmic_is_next_to_audio_and_faces_of_mmgcn(
    feature_files: Any, imported: Callable[..., Path], tmp_path: Path
) -> None:
    of_mmgcn, of_cosmic = feature_files.mmgcn(), feature_files.cosmic()
    of_cosmic[6] = {key: [f"{one} " for one in row] for key, row in of_cosmic[6].items()}
    mmgcn, cosmic = imported(of_mmgcn, "mmgcn"), imported(of_cosmic, "cosmic")
    notes = join_modalities(mmgcn, cosmic, tmp_path / "m3net", CONFIG, modalities=["text"])
    assert notes[0].startswith(
        "3 dialogues were matched by the order of their utterances, since one side has no utterance ids:"
        " train/Ses01F_impro01, "
    )
    assert (
        notes[1]
        == f"9 utterances have other texts; those of {mmgcn} were kept: "
        + ", ".join(f"train/Ses01F_impro01_{one}" for one in ("F000", "M001", "F002"))
        + ", …"
    )
    row = reader.dialogue(tmp_path / "m3net", "dev/Ses01M_impro01").to_pylist()[0]
    assert row["utterance_ids"] == ["dev/Ses01M_impro01_F000", "dev/Ses01M_impro01_M001"]
    layers = [np.stack(of_cosmic[entry]["Ses01M_impro01"]).astype(np.float64) for entry in range(2, 6)]
    np.testing.assert_allclose(row["text"], np.mean(layers, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(row["audio"], np.stack(of_mmgcn[4]["Ses01M_impro01"]))
    assert row["texts"] == of_mmgcn[6]["Ses01M_impro01"]
    info = reader.info(tmp_path / "m3net")
    assert (info["dims"], info["encoders"]["text"]["tag"]) == ({"text": 6, "audio": 4, "visual": 3}, "adapted")
    assert info["encoders"]["text"]["revision"] != info["encoders"]["audio"]["revision"]
    assert "layout *mmgcn*" in info["source"]
    assert "layout *cosmic*" in info["source"]
    assert info["notes"] == notes
    assert validate(tmp_path / "m3net").problems.listed == []


def test_the_other_way_round_the_other_ids_are_kept(
    feature_files: Any, imported: Callable[..., Path], tmp_path: Path
) -> None:
    mmgcn, cosmic = imported(feature_files.mmgcn(), "mmgcn"), imported(feature_files.cosmic(), "cosmic")
    join_modalities(cosmic, mmgcn, tmp_path / "out", CONFIG)
    assert reader.info(tmp_path / "out")["modalities"] == ["text", "audio", "visual"]
    assert (
        reader.dialogue(tmp_path / "out", "dev/Ses01M_impro01")["utterance_ids"].to_pylist()[0][1]
        == "dev/Ses01M_impro01_turn1"
    )


def test_failure_rows_follow_their_vectors(extracted: Make, tmp_path: Path) -> None:
    made = extracted(SIZES)
    made.write_features("text", {0: "no_text"})
    made.write_features("audio", {1: "silence"})
    one = made.build()
    made = extracted(SIZES, folder="again")
    made.write_features("text", {2: "no_text"})
    made.write_features("visual", {6: "no_face"})
    other = made.build()
    repaired = ("train/dia0_utt0", "text", "text_repaired")
    join_modalities(one, other, tmp_path / "out", CONFIG, modalities=["visual", "text"])
    assert _failures(tmp_path / "out") == sorted(
        [
            repaired,
            ("train/dia0_utt1", "audio", "silence"),
            ("train/dia0_utt2", "text", "no_text"),
            ("dev/dia0_utt0", "visual", "no_face"),
        ]
    )
    assert reader.info(tmp_path / "out")["counts"]["train"]["present"] == {"text": 5, "audio": 5, "visual": 6}
    assert validate(tmp_path / "out").problems.listed == []


def test_utterances_in_another_order_find_their_vectors(
    feature_files: Any, imported: Callable[..., Path], tmp_path: Path
) -> None:
    content = feature_files.mmgcn()
    turned = [{key: row[::-1] for key, row in entry.items()} if isinstance(entry, dict) else entry for entry in content]
    one, other = imported(content, "one"), imported(turned, "other")
    assert join_modalities(one, other, tmp_path / "out", CONFIG, modalities=["audio"]) == []
    for split in ("train", "dev", "test"):
        assert (
            reader.read_split(tmp_path / "out", split)
            .drop_columns(["corpus"])
            .equals(reader.read_split(one, split).drop_columns(["corpus"]))
        )


def test_dialogues_in_another_order_find_their_vectors(extracted: Make, tmp_path: Path, sound: Path) -> None:
    select(sound, tmp_path / "one", CONFIG, modalities=["text"])
    audio = extracted(SIZES, folder="audio").build()
    wanted = reader.read_split(audio, "train")["audio"].to_pylist()
    table = pq.read_table(audio / "dialogues" / "train-00000-of-00001.parquet")
    pq.write_table(table.take([2, 0, 1]), audio / "dialogues" / "train-00000-of-00001.parquet")
    join_modalities(tmp_path / "one", audio, tmp_path / "out", CONFIG)
    assert reader.read_split(tmp_path / "out", "train")["audio"].to_pylist() == wanted


def test_speakers_that_are_divided_otherwise_are_reported(
    feature_files: Any, imported: Callable[..., Path], tmp_path: Path, pickled: Callable[..., Path]
) -> None:
    content = feature_files.mmgcn_meld()
    content[0] = feature_files.each(feature_files.meld, lambda _, turn: turn)
    content[2] = {0: [4, 2, 4], 61: [6, 0], 1039: [0, 3, 0, 3], 1154: [5]}
    annotations = pickled(feature_files.data_emotion(), "data_emotion.p")
    mmgcn = imported(content, "mmgcn")
    text = imported(feature_files.meld_baseline(), "text_glove_CNN_emotion", annotations=annotations)
    notes = join_modalities(mmgcn, text, tmp_path / "out", CONFIG, modalities=["text"])
    assert (
        f"3 dialogues have their utterances assigned to other speakers; those of {mmgcn} were kept: train/dia0,"
        " train/dia61, dev/dia0" in notes
    )
    assert reader.info(tmp_path / "out")["dims"] == {"text": 4, "audio": 4, "visual": 3}


def _labels(content: list[Any]) -> None:
    content[1]["Ses01F_impro01"][1] = 3


def _fewer(content: list[Any]) -> None:
    for entry in content[:7]:
        entry["Ses05F_impro01"] = entry["Ses05F_impro01"][:3]


def _split(content: list[Any]) -> None:
    content[7], content[9] = content[9], content[7]


def _without(content: list[Any]) -> None:
    content[8] = []


def _more(content: list[Any]) -> None:
    for entry in content[:7]:
        entry["Ses05M_impro02"] = entry["Ses01M_impro01"]
    content[8] = [*content[8], "Ses05M_impro02"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_labels, "\n  1 utterances have other labels: train/Ses01F_impro01_M001"),
        (_fewer, "\n  1 dialogues have other utterances in .*cosmic/iemocap/shards: test/Ses05F_impro01 .4 and 3."),
        (
            _split,
            (
                "\n  2 dialogues are in another split in .*--validation of the import decides.: train/Ses01F_impro01 is"
                " dev/Ses01F_impro01, dev/"
            ),
        ),
        (_without, "\n  1 dialogues are only in .*mmgcn/iemocap/shards: test/Ses05F_impro01"),
        (_more, "\n  1 dialogues are only in .*cosmic/iemocap/shards: test/Ses05M_impro02"),
    ],
)
def test_what_does_not_fit_is_listed_and_nothing_is_written(
    feature_files: Any, imported: Callable[..., Path], tmp_path: Path, change: Callable[[list[Any]], None], message: str
) -> None:
    content = feature_files.cosmic()
    change(content)
    mmgcn, cosmic = imported(feature_files.mmgcn(), "mmgcn"), imported(content, "cosmic")
    with pytest.raises(BadTable, match=message):
        join_modalities(mmgcn, cosmic, tmp_path / "out", CONFIG, modalities=["text"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("changed", "told"), [(1, True), (2, False)])
def test_a_label_in_a_hundred_may_differ_where_ids_match(
    extracted: Make, tmp_path: Path, changed: int, told: bool
) -> None:
    one, other = (extracted({"train": (60, 60)}, folder=folder).build() for folder in ("one", "other"))
    path = other / "dialogues" / "train-00000-of-00001.parquet"
    table = pq.read_table(path)
    columns = table.to_pydict()
    for turn in range(changed):
        columns["emotion_index"][0][turn] = 5
    pq.write_table(pa.table(columns, schema=table.schema), path)
    if told:
        notes = join_modalities(one, other, tmp_path / "out", CONFIG, modalities=["text"])
        assert notes == [f"1 utterances have other labels; those of {one} were kept: train/dia0_utt0"]
        assert reader.read_split(tmp_path / "out", "train")["emotion_index"].equals(
            reader.read_split(one, "train")["emotion_index"]
        )
    else:
        with pytest.raises(BadTable, match="\n  2 utterances have other labels: train/dia0_utt0, train/dia0_utt1"):
            join_modalities(one, other, tmp_path / "out", CONFIG, modalities=["text"])


def test_utterances_of_other_names_are_not_matched_by_their_order(extracted: Make, sound: Path, tmp_path: Path) -> None:
    other = extracted(SIZES, folder="other").build()
    path = other / "dialogues" / "dev-00000-of-00001.parquet"
    table = pq.read_table(path)
    columns = table.to_pydict() | {"source_utterance_ids": [["dia0_utt0", "dia0_utt7"]]}
    pq.write_table(pa.table(columns, schema=table.schema), path)
    with pytest.raises(BadTable, match=r"1 dialogues have other utterances in .*: dev/dia0"):
        join_modalities(sound, other, tmp_path / "out", CONFIG, modalities=["text"])


def test_another_corpus_label_set_or_modality_is_refused(sound: Path, tmp_path: Path) -> None:
    select(sound, tmp_path / "other", CONFIG, modalities=["text"])
    with pytest.raises(BadSettings, match=r"has all that .*other has \(text\); choose with --modalities which"):
        join_modalities(sound, tmp_path / "other", tmp_path / "out", CONFIG)
    with pytest.raises(BadSettings, match=r"--modalities: .*other has no 'audio'; valid: text"):
        join_modalities(sound, tmp_path / "other", tmp_path / "out", CONFIG, modalities=["audio"])
    info = files.read_json(tmp_path / "other" / "meta" / "info.json")
    other_labels = {"label_set": "mine", "classes": ["a", "b"]}
    for counts in info["counts"].values():
        counts["labels"] |= {"a": 0, "b": 0}
    for change, what in (
        ({"corpus": "small"}, "different corpora: .*tiny, .*small"),
        (other_labels, "different label sets"),
    ):
        files.write_json(tmp_path / "other" / "meta" / "info.json", {**info, **change})
        with pytest.raises(BadSettings, match=what):
            join_modalities(sound, tmp_path / "other", tmp_path / "out", CONFIG, modalities=["text"])


def test_what_is_there_is_replaced_only_when_told_and_never_a_source(sound: Path, tmp_path: Path) -> None:
    select(sound, tmp_path / "other", CONFIG, modalities=["text"])
    for overwrite in (False, True):
        join_modalities(sound, tmp_path / "other", tmp_path / "out", CONFIG, modalities=["text"], overwrite=overwrite)
    with pytest.raises(SettingsDiffer, match="shards are already there"):
        join_modalities(sound, tmp_path / "other", tmp_path / "out", CONFIG, modalities=["text"])
    with pytest.raises(BadSettings, match="write to a folder that neither is inside them nor contains them"):
        join_modalities(sound, tmp_path / "other", sound, CONFIG, modalities=["text"], overwrite=True)


def test_shards_without_transcripts_join_those_that_have_them(sound: Path, tmp_path: Path) -> None:
    select(sound, tmp_path / "silent", CONFIG, modalities=["text"], transcripts=False)
    join_modalities(tmp_path / "silent", sound, tmp_path / "out", CONFIG)
    assert "texts" not in reader.read_split(tmp_path / "out", "train").column_names
    assert reader.info(tmp_path / "out")["modalities"] == ["text", "audio", "visual"]
