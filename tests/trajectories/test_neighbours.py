"""Neighbours against a full sort, and the rules: never itself, ties by id, none without labels."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.trajectories import neighbours
from pipeline.trajectories.neighbours import nearest
from pipeline.trajectories.similarity import NAMES, similarity

Labels = NDArray[np.int16]


def _labels(*values: int) -> Labels:
    return np.array(values, np.int16)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cells", [1, 500, 4_000_000])
def test_equal_a_full_sort_whatever_the_size_of_the_blocks(
    name: str, cells: int, random_trajectories: Callable[..., list[Labels]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "CELLS_AT_ONCE", cells)
    trajectories = random_trajectories(80, longest=6)
    ids = [f"train/dia{index * 37 % 80}" for index in range(80)]
    matrix = similarity(name, 8).matrix(trajectories, 4).round(6)
    found = nearest(ids, trajectories, similarity(name, 8), classes=4, neighbours=7)
    for index, one in enumerate(found):
        others = [other for other in range(80) if other != index]
        expected = sorted(others, key=lambda other: (-matrix[index, other], ids[other]))[:7]
        assert one.ids == tuple(ids[other] for other in expected)
        np.testing.assert_array_equal(one.similarities, matrix[index, expected].astype(np.float32))


def test_ties_are_broken_by_id_also_where_floats_differ_in_the_last_bit() -> None:
    # 1/√3 for b and 2/√12 for a are the same similarity to z.
    z, b, a = _labels(0), _labels(0, 1, 2), _labels(0, 0, 1, 1, 2, 2)
    found = nearest(["z", "b", "a"], [z, b, a], similarity("histogram", 8), classes=3, neighbours=2)
    assert found[0].ids == ("a", "b")
    assert found[0].similarities.tolist() == [np.float32(0.57735), np.float32(0.57735)]


def test_a_dialogue_is_not_its_own_neighbour_but_its_twin_is() -> None:
    found = nearest(["a", "b", "c"], [_labels(0, 1), _labels(0, 1), _labels(0, 1)], similarity("edit", 8), classes=2, neighbours=5)
    assert [one.ids for one in found] == [("b", "c"), ("a", "c"), ("a", "b")]


def test_dialogues_without_labels_neither_have_neighbours_nor_are_any() -> None:
    found = nearest(["a", "b", "c"], [_labels(0), _labels(), _labels(1)], similarity("path", 8), classes=2, neighbours=5)
    assert [one.ids for one in found] == [("c",), (), ("a",)]


@pytest.mark.parametrize("trajectories", [[], [_labels(0)], [_labels()], [_labels(0), _labels()]])
def test_without_candidates_the_lists_are_empty(trajectories: list[Labels]) -> None:
    ids = [str(index) for index in range(len(trajectories))]
    assert [one.ids for one in nearest(ids, trajectories, similarity("histogram", 8), classes=2, neighbours=3)] == [()] * len(ids)


def test_repeated_ids_and_missing_trajectories_are_refused() -> None:
    with pytest.raises(ValueError, match="repeat"):
        nearest(["a", "a"], [_labels(0), _labels(1)], similarity("edit", 8), classes=2, neighbours=1)
    with pytest.raises(ValueError, match="2 dialogue ids for 1 trajectories"):
        nearest(["a", "b"], [_labels(0)], similarity("edit", 8), classes=2, neighbours=1)
