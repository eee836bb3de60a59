"""The subsets of both definitions, utterance by utterance, and their sizes in MELD."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.training.metrics.emotion_shift import emotion_shift, shift_subsets
from merc.training.metrics.weighted_f1 import weighted_f1
from merc.trajectories.trajectory import shifts


def slow(labels, speakers, lengths, definition):
    """1: shifts, 0: stays, None: neither."""
    found, start = [], 0
    for length in lengths:
        last = {}
        for label, speaker in zip(labels[start : start + length], speakers[start : start + length], strict=True):
            if label < 0 and definition == "labelled":
                found.append(None)
                continue
            found.append(int(label != last[speaker]) if label >= 0 and speaker in last else None)
            last[speaker] = label
        start += length
    return found


@st.composite
def splits(draw):
    lengths = np.array(draw(st.lists(st.integers(1, 12), min_size=1, max_size=5)))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    total = int(lengths.sum())
    return rng.integers(-1, 3, total), rng.integers(0, 3, total), lengths


@pytest.mark.parametrize("definition", ["transcript", "labelled"])
@given(split=splits())
@settings(max_examples=50, deadline=None)
def test_the_subsets_are_those_found_utterance_by_utterance(definition, split):
    shift, stay = shift_subsets(*split, definition)
    expected = slow(*(values.tolist() for values in split), definition)
    assert [1 if one else 0 if other else None for one, other in zip(shift, stay, strict=True)] == expected
    assert not (shift & stay).any()


@given(split=splits())
@settings(max_examples=30, deadline=None)
def test_the_transcript_definition_is_that_of_the_trajectories(split):
    labels, speakers, lengths = split
    counts = [
        shifts(part.astype(np.int16), [f"S{one}" for one in names])
        for part, names in zip(
            np.split(labels, lengths.cumsum()[:-1]), np.split(speakers, lengths.cumsum()[:-1]), strict=True
        )
    ]
    shift, stay = shift_subsets(*split, "transcript")
    assert (shift.sum(), (shift | stay).sum()) == tuple(np.sum(counts, axis=0))


@pytest.mark.parametrize("definition", ["transcript", "labelled"])
def test_melds_test_split_has_the_published_subsets(real_data, definition):
    with (real_data / "meld" / "test_sent_emo.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (int(row["Dialogue_ID"]), int(row["Utterance_ID"])))
    _, speakers = np.unique([row["Speaker"] for row in rows], return_inverse=True)
    _, labels = np.unique([row["Emotion"] for row in rows], return_inverse=True)
    _, lengths = np.unique([int(row["Dialogue_ID"]) for row in rows], return_counts=True)
    shift, stay = shift_subsets(labels, speakers, lengths, definition)
    assert (len(lengths), len(labels), shift.sum(), stay.sum()) == (280, 2610, 1003, 861)


def test_scores_are_those_of_the_subsets():
    # Two dialogues of one speaker: shifts at 1 and 4, stays at 2; 0 and 3 come first.
    labels, predicted = np.array([0, 1, 1, 2, 0]), np.array([0, 1, 0, 2, 1])
    scores = emotion_shift(labels, predicted, np.zeros(5, dtype=np.int64), np.array([3, 2]), 3)
    expected = {
        "shift": {"accuracy": 0.5, "weighted_f1": weighted_f1(np.array([1, 0]), np.array([1, 1]), 3), "support": 2},
        "no_shift": {"accuracy": 0.0, "weighted_f1": 0.0, "support": 1},
    }
    assert scores == {"transcript": expected, "labelled": expected}


def test_a_subset_without_utterances_has_no_score():
    scores = emotion_shift(np.array([0, 1]), np.array([0, 1]), np.array([0, 1]), np.array([2]), 2)
    assert scores["transcript"]["shift"] == {"accuracy": None, "weighted_f1": None, "support": 0}


def test_the_order_of_dialogues_changes_nothing():
    labels, speakers, predicted = (
        np.array([0, 1, 1, 2, 2, 0]),
        np.array([0, 0, 0, 0, 0, 0]),
        np.array([0, 1, 0, 2, 2, 1]),
    )
    turned = np.array([4, 5, 0, 1, 2, 3])
    first = emotion_shift(labels, predicted, speakers, np.array([4, 2]), 3)
    assert emotion_shift(labels[turned], predicted[turned], speakers[turned], np.array([2, 4]), 3) == first


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="'previous'; valid: transcript, labelled"):
        shift_subsets(np.zeros(2, int), np.zeros(2, int), np.array([2]), "previous")
    with pytest.raises(ValueError, match="2 labels, 2 speakers and dialogues of 3 utterances"):
        shift_subsets(np.zeros(2, int), np.zeros(2, int), np.array([3]), "labelled")
