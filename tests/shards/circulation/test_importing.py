"""A feature file becomes shards that the reader reads; what the file does not have is reported, and nothing in it is
lost.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from merc import files
from merc.corpora import meld
from merc.corpora.engine import building
from merc.corpora.engine.labels import label_set
from merc.errors import BadSettings, BadTable
from merc.layout import Layout
from merc.shards.card.writing import write_card
from merc.shards.circulation.importing import Imported, build, summary
from merc.shards.config import Config
from merc.shards.format import reader
from merc.shards.validate import validate

Pickled = Callable[..., Path]
Read = Callable[..., Imported]


@pytest.fixture
def shards(tmp_path: Path, read: Read) -> Callable[..., Path]:
    """Imports a file and returns the folder of its shards."""

    def make(path: Path, folder: str = "out", **wishes: Any) -> Path:
        imported = read(path, **wishes)
        layout = Layout(tmp_path / folder, tmp_path / folder, imported.corpus)
        build(imported, Config(), layout)
        return layout.shards

    return make


def _failures(root: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((root / "failures").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_the_file_of_mmgcn_becomes_shards_with_one_row_per_dialogue(
    feature_files: Any, pickled: Pickled, shards: Callable[..., Path]
) -> None:
    content = feature_files.mmgcn()
    root = shards(pickled(content))
    assert reader.splits(root) == ["train", "dev", "test"]
    row = reader.dialogue(root, "dev/Ses01M_impro01").to_pylist()[0]
    assert row == {
        "corpus": "iemocap",
        "split": "dev",
        "dialogue_id": "dev/Ses01M_impro01",
        "scenario": "impro01",
        "n_utterances": 2,
        "n_speakers": 2,
        "utterance_ids": ["dev/Ses01M_impro01_F000", "dev/Ses01M_impro01_M001"],
        "source_utterance_ids": ["Ses01M_impro01_F000", "Ses01M_impro01_M001"],
        "speakers": ["Ses01_F", "Ses01_M"],
        "speaker_index": [0, 1],
        "texts": ["Line 0 of Ses01M_impro01.", "Line 1 of Ses01M_impro01."],
        "emotions": ["frustrated", "happy"],
        "emotion_index": [5, 0],
        "sentiments": ["", ""],
        "valence": [None, None],
        "arousal": [None, None],
        "dominance": [None, None],
        "start_seconds": [0.0, 0.0],
        "end_seconds": [0.0, 0.0],
        **{
            modality: [vector.tolist() for vector in content[entry]["Ses01M_impro01"]]
            for modality, entry in (("text", 3), ("audio", 4), ("visual", 5))
        },
        "text_present": [True, True],
        "audio_present": [True, True],
        "visual_present": [True, True],
    }
    assert _failures(root) == []


def test_what_made_the_columns_is_recorded(feature_files: Any, pickled: Pickled, shards: Callable[..., Path]) -> None:
    path = pickled(feature_files.cosmic(), "iemocap_features_roberta.pkl")
    info = reader.info(shards(path, layer="2"))
    assert (info["corpus"], info["label_set"], info["dims"]) == ("iemocap", "iemocap6", {"text": 6})
    facts = info["encoders"]["text"]
    assert (facts["name"], facts["revision"], facts["dim"]) == ("imported", f"sha256 {files.sha256(path)}", 6)
    assert facts["settings"] == {
        "family": "imported",
        "reader": "imported",
        "layout": "cosmic",
        "sha256": files.sha256(path),
        "label_set": "iemocap6",
        "validation": "file",
        "roberta_layer": "2",
    }
    assert facts["training_data_overlap"] == "RoBERTa was fine-tuned on the emotion labels of the train split"
    assert facts["tag"] == "adapted"
    assert info["source"].startswith(
        "Imported from the feature file `iemocap_features_roberta.pkl`, layout *cosmic*. It holds no times: "
    )
    assert "It holds no ids of utterances" in info["source"]


def test_rows_that_are_not_finite_or_all_zeros_are_absent_and_say_so(
    feature_files: Any, pickled: Pickled, shards: Callable[..., Path]
) -> None:
    content = feature_files.mmgcn()
    first = "Ses01F_impro01"
    content[3][first][0][1:3] = np.nan
    content[4][first][2][0] = -np.inf
    content[5][first][1] = np.full(3, 1e300)  # float64: beyond float32
    content[5][first][2][:] = 0
    root = shards(pickled(content))
    row = reader.dialogue(root, f"train/{first}").to_pylist()[0]
    assert (row["text_present"], row["audio_present"], row["visual_present"]) == (
        [False, True, True],
        [True, True, False],
        [True, False, False],
    )
    assert [row["text"][0], row["audio"][2], row["visual"][1], row["visual"][2]] == [
        [0.0] * 5,
        [0.0] * 4,
        [0.0] * 3,
        [0.0] * 3,
    ]
    assert row["text"][1] == content[3][first][1].tolist()
    found = {
        (one["utterance_id"], one["modality"], one["stage"], one["reason"], one["kind"], one["detail"])
        for one in _failures(root)
    }
    assert found == {
        (
            f"train/{first}_F000",
            "text",
            "import",
            "not_finite",
            "broken",
            "2 of 5 numbers in the file are not finite in float32",
        ),
        (
            f"train/{first}_F002",
            "audio",
            "import",
            "not_finite",
            "broken",
            "1 of 4 numbers in the file are not finite in float32",
        ),
        (
            f"train/{first}_M001",
            "visual",
            "import",
            "not_finite",
            "broken",
            "3 of 3 numbers in the file are not finite in float32",
        ),
        (f"train/{first}_F002", "visual", "import", "zero_vector", "absent", "all zeros in the file"),
    }


def test_the_numbers_of_meld_become_splits_in_their_order(
    feature_files: Any, pickled: Pickled, shards: Callable[..., Path]
) -> None:
    root = shards(pickled(feature_files.mmgcn_meld()))
    assert {
        split: reader.read_split(root, split, ["dialogue_id"])["dialogue_id"].to_pylist()
        for split in reader.splits(root)
    } == {
        "train": ["train/dia0", "train/dia61"],
        "dev": ["dev/dia0"],
        "test": ["test/dia1"],
    }
    assert "Speakers are numbered within their dialogue." in reader.info(root)["source"]


def test_the_order_of_dialogues_does_not_hang_on_that_of_the_file(
    feature_files: Any, pickled: Pickled, shards: Callable[..., Path]
) -> None:
    content = feature_files.mmgcn_meld()
    turned = [dict(reversed(entry.items())) if isinstance(entry, dict) else entry[::-1] for entry in content]
    one, other = (
        shards(pickled(each, f"{name}.pkl"), folder=name) for name, each in (("one", content), ("other", turned))
    )
    for split in ("train", "dev", "test"):
        assert reader.read_split(one, split).equals(reader.read_split(other, split))


def test_the_same_file_gives_the_same_bytes(
    feature_files: Any, pickled: Pickled, shards: Callable[..., Path], folder_digest: Any
) -> None:
    path = pickled(feature_files.mmgcn())
    assert folder_digest(shards(path, folder="one")) == folder_digest(shards(path, folder="other"))


@pytest.mark.parametrize(
    ("make", "corpus", "label_set_name", "dims"),
    [
        ("sdt", "iemocap", "iemocap6", {"text": 6, "audio": 4, "visual": 3}),
        ("sdt_meld", "meld", "meld7", {"text": 6, "audio": 4, "visual": 3}),
        ("bc_lstm_meld", "meld", "meld7", {"text": 5, "audio": 4}),
        ("cosmic_emorynlp", "emorynlp", "emorynlp", {"text": 6}),
        ("cosmic_dailydialog", "dailydialog", "dailydialog", {"text": 6}),
    ],
)
def test_every_layout_becomes_shards_in_which_nothing_is_wrong(
    feature_files: Any,
    pickled: Pickled,
    shards: Callable[..., Path],
    make: str,
    corpus: str,
    label_set_name: str,
    dims: dict[str, int],
) -> None:
    root = shards(pickled(getattr(feature_files, make)()))
    info = reader.info(root)
    assert (info["corpus"], info["label_set"], info["dims"], info["splits"]) == (
        corpus,
        label_set_name,
        dims,
        ["train", "dev", "test"],
    )
    of_roberta = make != "bc_lstm_meld"
    assert ("tag" in info["encoders"]["text"], "roberta_layer" in info["encoders"]["text"]["settings"]) == (
        of_roberta,
        of_roberta,
    )
    write_card(root)
    assert validate(root).problems.listed == []


def test_where_the_text_corpora_come_from_is_said(feature_files: Any, pickled: Pickled, read: Read) -> None:
    for make, words in (("cosmic_emorynlp", "Zahiri and Choi"), ("cosmic_dailydialog", "Li et al.")):
        source = read(pickled(getattr(feature_files, make)())).record["source"]
        assert words in source
        assert "Speakers are numbered within their dialogue." in source
        assert "Sentiments" not in source


def test_statistics_are_those_of_the_train_split(
    feature_files: Any, pickled: Pickled, shards: Callable[..., Path]
) -> None:
    content = feature_files.mmgcn()
    stats = reader.stats(shards(pickled(content)))
    np.testing.assert_allclose(
        stats["text"]["mean"], np.stack(content[3]["Ses01F_impro01"]).astype(np.float64).mean(axis=0), rtol=1e-12
    )


def test_counts_that_are_not_the_corpuss_are_recorded_and_told(
    feature_files: Any, pickled: Pickled, read: Read
) -> None:
    content = feature_files.mmgcn_meld()
    content[8] = []
    imported = read(pickled(content))
    lines = summary(imported, Path("here"))
    assert lines[:6] == [
        "here: meld, layout mmgcn_meld",
        "  train: 2 dialogues, 5 utterances",
        "  dev: 1 dialogues, 4 utterances",
        "  text: 9 of 9 utterances, 5 numbers each",
        "  audio: 9 of 9 utterances, 4 numbers each",
        "  visual: 9 of 9 utterances, 3 numbers each",
    ]
    assert "  differs: 1 dialogues of the file are in no split and were left out, the first is 1154" in lines
    assert "  differs: train: 2 dialogues instead of 1038" in lines
    assert [line.removeprefix("  differs: ") for line in lines[6:]] == imported.record["deviations"]


def test_dev_of_iemocap_can_be_chosen(feature_files: Any, pickled: Pickled, read: Read) -> None:
    path = pickled(feature_files.mmgcn())
    assert set(read(path, validation="none").table["split"].to_pylist()) == {"train", "test"}
    with pytest.raises(BadSettings, match="random20 draws 20 of the training dialogues, but only 2 exist"):
        read(path, validation="random20")


def test_a_fault_names_the_file(feature_files: Any, pickled: Pickled, read: Read) -> None:
    content = feature_files.mmgcn()
    content[3]["Ses01F_impro01"].pop()
    path = pickled(content)
    with pytest.raises(BadTable, match=f"^{path}: dialogue 'Ses01F_impro01': its entries differ in length: .*text 2"):
        read(path)


def test_an_utterance_twice_is_refused(feature_files: Any, pickled: Pickled, read: Read) -> None:
    content = feature_files.mmgcn()
    content[0]["Ses01F_impro01"][1] = content[0]["Ses01F_impro01"][0]
    with pytest.raises(BadTable, match="utterance id 'train/Ses01F_impro01_F000' occurs 2 times"):
        read(pickled(content))


def test_the_whole_of_meld_comes_through_a_file_with_its_counts(real_data: Path, pickled: Pickled, read: Read) -> None:
    reader_of_meld = meld.Meld(meld.Meld.Config(reader="meld"))
    dialogues = reader_of_meld.read(
        real_data / "meld", real_data, media=frozenset(), splits=("train", "dev", "test")
    ).dialogues
    offsets = {"train": 0, "dev": 1039, "test": 1153}
    keyed = {int(one.source_dialogue_id[3:]) + offsets[one.split]: one.utterances for one in dialogues}
    speakers = {key: sorted({one.speaker for one in row}) for key, row in keyed.items()}
    vectors = {key: np.ones((len(row), 2), np.float32) for key, row in keyed.items()}
    content = (
        {key: [int(one.source_utterance_id.partition("_utt")[2]) for one in row] for key, row in keyed.items()},
        {
            key: [np.eye(9, dtype=int)[speakers[key].index(one.speaker)].tolist() for one in row]
            for key, row in keyed.items()
        },
        {key: [meld.EMOTIONS.index(one.emotion) for one in row] for key, row in keyed.items()},
        *[vectors] * 3,
        {key: [one.text for one in row] for key, row in keyed.items()},
        [key for key in keyed if key < offsets["test"]],
        [key for key in keyed if key >= offsets["test"]],
        {key: [("neutral", "positive", "negative").index(one.sentiment) for one in row] for key, row in keyed.items()},
    )
    imported = read(pickled(content))
    assert imported.record["deviations"] == []
    wanted = building.build("meld", dialogues, label_set("meld7"))
    for column in ("utterance_id", "dialogue_id", "position", "text", "emotion_index", "sentiment"):
        assert imported.table[column].equals(wanted[column]), column
