"""The pickles of MELD's own baseline: vectors by utterance or by dialogue, matched with the labels and texts of another
file.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merc.errors import BadSettings, BadTable
from merc.layout import Layout
from merc.shards.card.writing import write_card
from merc.shards.circulation import meld_baseline
from merc.shards.circulation.importing import Imported, build
from merc.shards.config import Config
from merc.shards.format import reader
from merc.shards.validate import validate

Pickled = Callable[..., Path]
Read = Callable[..., Imported]
NAME = "text_glove_CNN_emotion.pkl"


@pytest.mark.parametrize("make", ["meld_baseline", "meld_baseline_dialogues"])
def test_each_vector_finds_its_label_and_text(feature_files: Any, make: str) -> None:
    content = getattr(feature_files, make)()
    file = meld_baseline.read(content, feature_files.data_emotion(), NAME)
    assert [(one.key, one.split, one.ids) for one in file.conversations] == [
        (0, "train", (0, 1, 2)),
        (61, "train", (0, 1)),
        (1039, "dev", (0, 1, 2, 3)),
        (1154, "test", (0,)),
    ]
    dev = file.conversations[2]
    assert (dev.labels, dev.sentences[3]) == ((0, 3, 0, 3), "line 3 of 0")
    wanted = (
        content[1]["0"][:4] if make.endswith("dialogues") else np.stack([content[1][f"0_{turn}"] for turn in range(4)])
    )
    np.testing.assert_array_equal(dev.vectors["text"], wanted)
    assert "labels of the train split" in file.learnt["text"]


def test_the_files_become_shards_with_the_ids_of_meld(
    feature_files: Any, pickled: Pickled, read: Read, tmp_path: Path
) -> None:
    annotations = pickled(feature_files.data_emotion(), "data_emotion.p")
    content = feature_files.meld_baseline()
    del content[0]["0_1"]
    imported = read(pickled(content, "audio_embeddings_feature_selection_emotion.pkl"), annotations=annotations)
    layout = Layout(tmp_path / "out", tmp_path / "out", imported.corpus)
    build(imported, Config(), layout)
    row = reader.dialogue(layout.shards, "train/dia0").to_pylist()[0]
    assert (row["utterance_ids"][1], row["emotions"], row["audio_present"]) == (
        "train/dia0_utt1",
        ["joy", "fear", "joy"],
        [True, False, True],
    )
    assert set(row["speakers"]) == {"speaker_unknown"}
    info = reader.info(layout.shards)
    assert (info["corpus"], info["dims"], info["encoders"]["audio"]["tag"]) == ("meld", {"audio": 4}, "adapted")
    assert "It does not say who speaks" in info["source"]
    assert [(one.utterance_id, one.reason) for one in imported.failures] == [("train/dia0_utt1", "vector_missing")]
    write_card(layout.shards)
    assert validate(layout.shards).problems.listed == []


def test_averages_of_word_vectors_were_made_without_labels(feature_files: Any) -> None:
    assert (
        meld_baseline.read(
            feature_files.meld_baseline(), feature_files.data_emotion(), "text_glove_average_emotion.pkl"
        ).learnt
        == {}
    )


def test_the_modality_is_the_first_word_of_the_name_or_said(feature_files: Any) -> None:
    assert meld_baseline.modality_of("audio_emotion.pkl", None) == "audio"
    assert meld_baseline.modality_of("mine.pkl", "visual") == "visual"
    with pytest.raises(
        BadSettings,
        match=r"--modality: neither the file nor its name gives the modality of .*valid: audio, text, visual",
    ):
        meld_baseline.read(feature_files.meld_baseline(), feature_files.data_emotion(), "bimodal_emotion.pkl")


def test_annotations_are_asked_for_and_belong_to_these_files_alone(
    feature_files: Any, pickled: Pickled, read: Read
) -> None:
    path = pickled(feature_files.meld_baseline(), NAME)
    with pytest.raises(BadSettings, match=f"{NAME} holds only vectors.*give their data_emotion.p.*with --annotations"):
        read(path)
    annotations = pickled(feature_files.data_emotion(), "data_emotion.p")
    with pytest.raises(BadSettings, match="--annotations is only for the three dictionaries of MELD's authors"):
        read(pickled(feature_files.mmgcn_meld(), "other.pkl"), annotations=annotations)
    with pytest.raises(BadTable, match=r"this is not data_emotion\.p, which holds 6 entries"):
        read(path, annotations=path)


def _vector(key: str, value: Any) -> Callable[[list[Any]], None]:
    def change(content: list[Any]) -> None:
        content[1][key] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_vector("0_4", np.zeros(4)), "val: '0_4': there is no such utterance in data_emotion.p"),
        (_vector("7", np.zeros((3, 4))), "val: '7': there is no such dialogue in data_emotion.p"),
        (_vector("0", np.zeros((3, 4))), "val: '0' has 3 vectors; in data_emotion.p the dialogue has 4 utterances"),
        (_vector("0_1", np.zeros(5)), "val: its vectors differ in length: 4, 5"),
        (_vector("0_1", np.zeros((2, 4))), r"val: '0_1' has the shape \(2, 4\) instead of one vector"),
        (_vector("0_1", "words"), "val: '0_1' is not a vector"),
        (_vector("dia0_utt1", np.zeros(4)), "val: 'dia0_utt1': 'dia0' is not a number"),
        (lambda content: content[2].clear(), "test: there is no vector for any utterance"),
        (lambda content: content.__setitem__(2, {"1_0": np.ones(9)}), "text has 9 features|text has 4 features"),
    ],
)
def test_vectors_that_do_not_fit_the_annotations_are_refused(
    feature_files: Any, change: Callable[[list[Any]], Any], message: str
) -> None:
    content = feature_files.meld_baseline()
    change(content)
    with pytest.raises(BadTable, match=message):
        meld_baseline.read(content, feature_files.data_emotion(), NAME)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "y",
            "positive",
            "has the label 'positive'; in data_emotion.p they are neutral, .*data_sentiment.p has others",
        ),
        ("split", "dev", "is in the split 'dev'; in data_emotion.p they are train, val, test"),
        ("text", None, "utterance 9 is not a dictionary of dialog, split, text, utterance, y"),
        ("utterance", "1", "utterance 1 of dialogue 0 occurs twice in train"),
        ("dialog", "zero", "'zero' is not a number"),
    ],
)
def test_annotations_that_contradict_themselves_are_refused(
    feature_files: Any, field: str, value: Any, message: str
) -> None:
    annotations = feature_files.data_emotion()
    annotations[0][9][field] = value  # the first utterance of train, since the list is reversed
    with pytest.raises(BadTable, match=message):
        meld_baseline.read(feature_files.meld_baseline(), annotations, NAME)
