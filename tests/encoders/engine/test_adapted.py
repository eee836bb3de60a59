from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from merc import files
from merc.encoders.engine import adapted
from merc.encoders.engine.adapted import Adaptation
from merc.errors import BadSettings, BadTable

RECORD: dict[str, Any] = {
    "corpus": "meld", "label_set": "meld7", "base": {"encoder": "org/model", "revision": "1",
    "training_data_overlap": "none known (books)"},
    "trained_with": {"pooling": "mean", "history_turns": 0}, "method": "full", "seed": 3, "dev_weighted_f1": 0.5,
    "further": "not read",
}  # fmt: skip


def _manifest(*rows: tuple[str, str, str, str]) -> pa.Table:
    """Of split, id, speaker and text."""
    names = ("split", "source_utterance_id", "speaker", "text")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    return pa.table({**columns, "utterance_id": [f"{row[0]}/{row[1]}" for row in rows]})


@pytest.fixture
def adaptation(tmp_path: Path) -> Adaptation:
    files.write_json(tmp_path / "record.json", RECORD)
    keys = adapted.utterance_keys(_manifest(("train", "u0", "Ann", "Yes."), ("dev", "u1", "Bob", "Yes.")))
    files.write_json(tmp_path / "seen.json", {"train": keys[:1], "dev": keys[1:]})
    found = Adaptation.of(tmp_path)
    assert found is not None
    return found


def test_a_folder_without_a_record_was_not_adapted(tmp_path: Path) -> None:
    assert Adaptation.of(tmp_path) is None


def test_a_record_that_lacks_something_is_refused_by_name(tmp_path: Path) -> None:
    files.write_json(
        tmp_path / "record.json", {key: value for key, value in RECORD.items() if key not in ("seed", "corpus")}
    )
    with pytest.raises(
        BadTable,
        match=r"record\.json: not a record of an adaptation: it lacks corpus, seed; remake it with merc-adapt",
    ):
        Adaptation.of(tmp_path)
    files.write_json(tmp_path / "record.json", ["a list"])
    with pytest.raises(BadTable, match="it lacks corpus"):
        Adaptation.of(tmp_path)


def test_settings_must_be_those_of_the_training(adaptation: Adaptation) -> None:
    adaptation.check_settings({"pooling": "mean", "history_turns": 0, "later": None})
    with pytest.raises(
        BadSettings, match="history_turns: 0 in the training, None now; pooling: 'mean' in the training, 'first' now"
    ):
        adaptation.check_settings({"pooling": "first"})
    with pytest.raises(BadSettings, match=r"other settings; input_seconds: None in the training, 6\.0 now"):
        adaptation.check_settings({"pooling": "mean", "history_turns": 0, "input_seconds": 6.0})


@pytest.mark.parametrize(
    ("split", "row", "by"),
    [
        ("test", ("u0", "Ann", "Yes."), "train"),
        ("dev", ("u0", "Ann", "Yes."), "train"),
        ("test", ("u1", "Bob", "Yes."), "dev"),
    ],
)
def test_utterances_that_were_seen_are_known_again(
    adaptation: Adaptation, split: str, row: tuple[str, str, str], by: str
) -> None:
    with pytest.raises(
        BadSettings, match=f"1 {split} utterances, the first '{split}/{row[0]}', were in the {by} split of meld"
    ):
        adaptation.check_unseen(_manifest(("train", "x", "Cyd", "No."), (split, *row)))


@pytest.mark.parametrize(
    ("split", "row"),
    [
        ("train", ("u0", "Ann", "Yes.")),
        ("dev", ("u1", "Bob", "Yes.")),
        ("test", ("u2", "Ann", "Yes.")),
        ("test", ("u0", "Bob", "Yes.")),
        ("test", ("u0", "Ann", "Yes!")),
    ],
)
def test_what_was_not_seen_and_what_is_trained_on_again_is_encoded(
    adaptation: Adaptation, split: str, row: tuple[str, str, str]
) -> None:
    adaptation.check_unseen(_manifest((split, *row)))


def test_the_tag_of_several_encoders_is_adapted_if_one_of_them_was(adaptation: Adaptation) -> None:
    frozen = {"encoder": "org/other"}
    assert adapted.tag({"text": frozen, "audio": frozen}) == "frozen"
    assert adapted.tag({"text": frozen, "audio": adaptation.provenance()}) == "adapted"


def test_the_provenance_names_the_labels_that_it_has_seen_and_what_the_model_had_seen_before(
    adaptation: Adaptation,
) -> None:
    facts = adaptation.provenance()
    assert facts["encoder"] == "org/model, adapted"
    assert (
        facts["training_data_overlap"]
        == "meld: fine-tuned on the emotion labels of its train split, selected on dev; before that: none known (books)"
    )
    assert facts["adapted"]["base"] == RECORD["base"]
