"""Likely mistakes are reported; real corpora of the field give no report."""

import pytest

from merc.corpora.engine.labels import LabelSet
from merc.corpora.engine.plausibility import remarks
from merc.records.dialogue import Dialogue, Utterance

LABELS = LabelSet("own", ("calm", "glad", "sad"), {"merry": "glad"})


def _dialogue(name: str, *emotions: str, split: str = "train") -> Dialogue:
    utterances = [
        Utterance(
            source_utterance_id=f"{name}_{place}", speaker="Ann", text="", emotion=one, start_seconds=0, end_seconds=0
        )
        for place, one in enumerate(emotions)
    ]
    return Dialogue(split=split, source_dialogue_id=name, utterances=tuple(utterances))


def _of_lengths(*lengths: int) -> list[Dialogue]:
    return [_dialogue(f"d{place}", *["calm"] * length) for place, length in enumerate(lengths)]


def test_dialogues_that_are_far_longer_than_the_others_are_reported() -> None:
    (line,) = remarks(_of_lengths(10, 11, 12, 9, 56, 61), LABELS)
    assert line.startswith(
        "1 dialogue of 6 with more than 57.5 utterances, the longest is train/d5 with 61 (the median is 11.5): several"
        " dialogues may have been"
    )
    assert "columns.dialogue" in line


def test_dialogues_that_are_all_long_are_reported_too() -> None:
    (line,) = remarks(_of_lengths(751, 400, 300, 150, 20), LABELS)
    assert line.startswith(
        "3 dialogues of 5 with more than 150 utterances, the longest is train/d0 with 751 (the median is 300)"
    )


@pytest.mark.parametrize(
    "lengths", [[66] * 9 + [110], [9] * 9 + [33], [11] * 9 + [25], [7] * 9 + [35], [2] * 9 + [40], [150]]
)
def test_dialogues_as_long_as_those_of_known_corpora_are_not_reported(lengths: list[int]) -> None:
    assert remarks(_of_lengths(*lengths), LABELS) == []


def test_a_class_that_train_lacks_is_reported_with_its_splits_and_counts() -> None:
    dialogues = [
        _dialogue("a", "calm", "other"),
        _dialogue("b", "sad", "sad", "calm", split="dev"),
        _dialogue("c", "sad", "merry", "other", split="test"),
    ]
    assert remarks(dialogues, LABELS) == [
        "the emotion 'glad' is in test (1 utterance), but not in train: no model can learn it",
        "the emotion 'sad' is in dev (2 utterances) and test (1 utterance), but not in train: no model can learn it",
    ]
    assert remarks([*dialogues, _dialogue("d", "merry", "sad")], LABELS) == []


def test_without_a_train_split_there_is_nothing_to_compare_with() -> None:
    assert remarks([_dialogue("b", "sad", split="test")], LABELS) == []


def test_a_class_or_speaker_that_looks_like_a_missing_cell_is_reported_and_kept() -> None:
    (line,) = remarks([_dialogue("a", "nan", "glad", "nan")], LabelSet("own", ("glad", "nan")))
    assert (
        line == "the emotion 'nan' (of 2 utterances) looks like a missing cell; where it is one, leave the cell empty"
    )
