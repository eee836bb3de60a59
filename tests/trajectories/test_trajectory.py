"""Trajectories and shifts checked with hand-made dialogues, a slow loop, and MELD's counts."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from merc.trajectories.trajectory import by_slot, by_speaker, labelled, labelled_shifts, shifts

Labels = NDArray[np.int16]


def _labels(*values: int) -> Labels:
    return np.array(values, np.int16)


def test_the_compared_trajectory_has_no_unlabelled_utterances() -> None:
    assert labelled(_labels(2, -1, 0, -1, 2)).tolist() == [2, 0, 2]
    assert labelled(_labels(-1, -1)).tolist() == []


def test_speakers_come_by_first_appearance_and_keep_their_gaps() -> None:
    parts = by_speaker(_labels(3, 1, -1, 2, 0), ["Ross", "Joey", "Ross", "Ross", "Joey"])
    assert {name: part.tolist() for name, part in parts.items()} == {"Ross": [3, -1, 2], "Joey": [1, 0]}
    assert list(parts) == ["Ross", "Joey"]


@pytest.mark.parametrize(
    ("labels", "speakers", "expected"),
    [
        pytest.param([0], "A", (0, 0), id="a single utterance makes no pair"),
        pytest.param([0, 0, 1, 1], "AAAA", (1, 3), id="one speaker"),
        pytest.param([0, 1, 0, 1], "ABAB", (0, 2), id="the speakers differ, each stays the same"),
        pytest.param([0, 1, 1, 0], "ABAB", (2, 2), id="both change"),
        pytest.param([0, 1, 2, 3], "ABCD", (0, 0), id="everybody speaks once"),
        pytest.param(
            [0, -1, 0],
            "AAA",
            (1, 1),
            id="an unlabelled predecessor counts as different, an unlabelled utterance makes no pair",
        ),
        pytest.param([-1, -1], "AA", (0, 0), id="no labels"),
    ],
)
def test_shifts_of_hand_made_dialogues(labels: list[int], speakers: str, expected: tuple[int, int]) -> None:
    assert shifts(_labels(*labels), list(speakers)) == expected


def _slow_shifts(labels: Sequence[int], speakers: Sequence[str]) -> tuple[int, int]:
    previous: dict[str, int] = {}
    changed = pairs = 0
    for label, speaker in zip(labels, speakers, strict=True):
        if label != -1 and speaker in previous:
            pairs += 1
            changed += previous[speaker] != label
        previous[speaker] = label
    return changed, pairs


def test_shifts_equal_a_loop_over_the_utterances() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        length = int(rng.integers(1, 40))
        labels, speakers = (
            rng.integers(-1, 4, length).astype(np.int16),
            [f"s{index}" for index in rng.integers(0, 5, length)],
        )
        assert shifts(labels, speakers) == _slow_shifts(labels.tolist(), speakers)


def test_shifts_of_melds_test_split(meld_dialogues: Callable[[str], dict[str, tuple[Labels, list[str]]]]) -> None:
    counts = np.array([shifts(labels, speakers) for labels, speakers in meld_dialogues("test").values()])
    assert counts.shape == (280, 2)
    assert counts.sum(axis=0).tolist() == [1003, 1864]


@pytest.mark.parametrize(
    ("labels", "speakers", "expected"),
    [
        pytest.param([0, -1, 0], "AAA", (0, 1), id="the pair reaches over the unlabelled utterance"),
        pytest.param([0, -1, 1], "AAA", (1, 1), id="and is a shift if its labels differ"),
        pytest.param([-1, 0], "AA", (0, 0), id="an unlabelled utterance makes no pair"),
        pytest.param([0, 1, 0, 2], "ABAB", (1, 2), id="where all are labelled, both definitions agree"),
    ],
)
def test_shifts_among_labelled_utterances_alone(labels: list[int], speakers: str, expected: tuple[int, int]) -> None:
    assert labelled_shifts(_labels(*labels), list(speakers)) == expected


def test_both_definitions_of_shifts_agree_on_meld_where_all_utterances_are_labelled(
    meld_dialogues: Callable[[str], dict[str, tuple[Labels, list[str]]]],
) -> None:
    counts = np.array([labelled_shifts(labels, speakers) for labels, speakers in meld_dialogues("test").values()])
    shifted, pairs = counts.sum(axis=0).tolist()
    assert (shifted, pairs - shifted) == (1003, 861)


def test_slots_go_by_how_much_is_said_then_by_who_speaks_first() -> None:
    speakers = ["Ross", "Joey", "Joey", "Rachel", "Ross", "Joey", "Monica"]
    # Joey has three labelled utterances, Rachel and Monica one, and so has Ross, whose other one is unlabelled.
    coded = by_slot(_labels(0, 1, 1, 2, -1, 3, 0), speakers, classes=4, slots=3)
    assert coded.tolist() == [4 + 0, 1, 1, 8 + 2, 3, 8 + 0]
    assert by_slot(_labels(-1), ["Ross"], classes=4, slots=3).tolist() == []
