"""Several shards merged: the same as if they had been made together, and mismatches are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merc import files
from merc.errors import BadSettings, BadTable
from merc.shards.config import Config as ShardsConfig
from merc.shards.format import reader
from merc.shards.merge import merge
from merc.shards.select import select
from merc.shards.validate import validate

TEXT_AND_AUDIO = {
    "dims": {"text": 4, "audio": 3},
    "modalities": ["text", "audio"],
    "encoders": {"text": {}, "audio": {}},
}
CONFIG = ShardsConfig(row_group_dialogues=2, max_file_bytes=1_000_000)
Make = Callable[..., Any]


@pytest.fixture
def parts(sound: Path, tmp_path: Path) -> list[Path]:
    """Train and test in one folder, dev in another."""
    select(sound, tmp_path / "one", CONFIG, splits=["train", "test"])
    select(sound, tmp_path / "other", CONFIG, splits=["dev"])
    return [tmp_path / "one", tmp_path / "other"]


def _another_corpus(root: Path, **changes: Any) -> None:
    """Changes the corpus (or other values) in the record and in the files."""
    info = files.read_json(root / "meta" / "info.json")
    if "classes" in changes:
        for counts in info["counts"].values():
            counts["labels"] = dict.fromkeys(changes["classes"], 0)
    files.write_json(root / "meta" / "info.json", {**info, **changes})


def test_splits_that_were_made_apart_are_the_whole_again(
    sound: Path, parts: list[Path], tmp_path: Path, folder_digest: Any
) -> None:
    notes = merge(parts, tmp_path / "whole", CONFIG)
    assert notes == ["the trajectories were left out: their neighbours were found within each part"]
    for folder in ("dialogues", "failures"):
        assert folder_digest(tmp_path / "whole" / folder) == folder_digest(sound / folder)
    info, was = reader.info(tmp_path / "whole"), reader.info(sound)
    for key in ("corpus", "classes", "dims", "counts", "splits", "source", "corpus_settings", "deviations", "encoders"):
        assert info[key] == was[key], key
    assert [part["corpus"] for part in info["made_from"]] == ["tiny", "tiny"]
    for modality, wanted in reader.stats(sound).items():  # sums in pieces of another size differ in the last digits
        for key in ("count", "mean", "std"):
            np.testing.assert_allclose(reader.stats(tmp_path / "whole")[modality][key], wanted[key], rtol=1e-12)
    assert validate(tmp_path / "whole").problems.listed == []


def test_two_corpora_with_one_id_are_refused_naming_it_and_both_folders(sound: Path, tmp_path: Path) -> None:
    select(sound, tmp_path / "other", CONFIG, splits=["dev"])
    _another_corpus(tmp_path / "other", corpus="small")
    with pytest.raises(BadTable) as raised:
        merge([sound, tmp_path / "other"], tmp_path / "whole", CONFIG)
    message = str(raised.value)
    assert (
        message
        == f"dialogue_id 'dev/dia0' is in {sound} and in {tmp_path / 'other'} (1 ids are in both); --prefix puts"
        " the corpus into the ids"
    )
    assert not (tmp_path / "whole").exists()


def test_with_the_corpus_in_the_ids_both_stand_together(sound: Path, tmp_path: Path) -> None:
    select(sound, tmp_path / "other", CONFIG, splits=["train", "dev"])
    _another_corpus(tmp_path / "other", corpus="small", source="Small, from nobody")
    merge([sound, tmp_path / "other"], tmp_path / "whole", CONFIG, prefix=True)
    train = reader.read_split(tmp_path / "whole", "train")
    assert train["dialogue_id"].to_pylist() == [
        f"train/{corpus}/dia{number}" for corpus in ("tiny", "small") for number in range(3)
    ]
    assert train["utterance_ids"].to_pylist()[4] == ["train/small/dia1_utt0"]
    assert train["source_utterance_ids"].to_pylist()[4] == ["dia1_utt0"]
    assert reader.dialogue(tmp_path / "whole", "train/small/dia1")["n_utterances"].to_pylist() == [1]
    info = reader.info(tmp_path / "whole")
    assert (info["corpus"], info["source"]) == ("tiny+small", "MELD, from its authors\n\nSmall, from nobody")
    assert info["deviations"] == ["tiny: train has 6 utterances", "small: train has 6 utterances"]
    assert set(info["corpus_settings"]) == {"tiny", "small"}
    assert info["counts"]["train"]["utterances"] == 12
    assert reader.stats(tmp_path / "whole")["text"]["count"] == 12
    assert validate(tmp_path / "whole").problems.listed == []


def test_an_utterance_in_two_parts_is_refused_even_if_the_dialogues_differ(
    sound: Path, tmp_path: Path, extracted: Make
) -> None:
    with pytest.raises(
        BadTable, match=r"dialogue_id 'train/dia0' is in .*\(3 ids are in both\)$"
    ):  # the same corpus: a prefix would not help
        merge([sound, extracted({"train": (3, 1, 2)}, folder="again").build()], tmp_path / "whole", CONFIG)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["happy", "sad"], "label_set": "mine"},
         r"different label sets: .*one has meld7 \(neutral, .*other has mine \(happy, sad\)"),
        ({"dims": {"text": 4, "audio": 3, "visual": 5}}, r"different vector lengths: .*'visual': 2.*'visual': 5"),
        (TEXT_AND_AUDIO, "different modalities: .*one has text, audio, visual, .*other has text, audio"),
        ({"transcripts": False},
         "other has no transcripts and .*one has; leave them out there, too: merc-shards select .*one NEW --no-text"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_naming_both(
    parts: list[Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    _another_corpus(parts[1], **changes)
    with pytest.raises(BadSettings, match=message):
        merge(parts, tmp_path / "whole", CONFIG)


@pytest.mark.parametrize("key", ["encoder", "revision", "settings_sha256"])
def test_vectors_by_another_encoder_are_refused(parts: list[Path], tmp_path: Path, key: str) -> None:
    encoders = files.read_json(parts[1] / "meta" / "info.json")["encoders"]
    encoders["audio"][key] = "other"
    _another_corpus(parts[1], encoders=encoders)
    with pytest.raises(BadSettings, match=f"different audio encoders, by {key}: .*one has .*, .*other has other"):
        merge(parts, tmp_path / "whole", CONFIG)


@pytest.mark.parametrize(
    ("terms", "of_all"), [(("CC0.", "CC0."), "CC0."), (("CC0.", "MIT."), "CC0. MIT."), (("CC0.", ""), None)]
)
def test_a_whole_may_be_passed_on_only_if_every_part_may(
    parts: list[Path], tmp_path: Path, terms: tuple[str, str], of_all: str | None
) -> None:
    for part, words in zip(parts, terms, strict=True):
        _another_corpus(part, redistribution=words)
    merge(parts, tmp_path / "whole", CONFIG)
    assert reader.info(tmp_path / "whole").get("redistribution") == of_all
    assert ("Do not redistribute" in (tmp_path / "whole" / "README.md").read_text()) == (of_all is None)


def test_one_part_is_none(sound: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="at least two"):
        merge([sound], tmp_path / "whole", CONFIG)
