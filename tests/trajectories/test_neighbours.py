"""Neighbours compared with a full sort, and the rules: never itself, ties by id, none without labels."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from merc.trajectories import search
from merc.trajectories.neighbours import nearest, nearest_described
from merc.trajectories.pooled import COMPARISON, whole
from merc.trajectories.similarity import NAMES, similarity

Labels = NDArray[np.int16]
PLANE = np.array([[0.0, 0.0], [0.8, 0.4], [-0.7, 0.7], [-0.7, -0.4]])


def _labels(*values: int) -> Labels:
    return np.array(values, np.int16)


def _by_full_sort(
    matrix: NDArray[np.float64], ids: Sequence[str], number: int, scenarios: Sequence[str] | None = None
) -> list[tuple[list[str], list[float]]]:
    steps = np.rint(matrix * 1_000_000).astype(int).tolist()
    found = []
    for index, row in enumerate(steps):
        others = [
            other
            for other in range(len(ids))
            if other != index and not (scenarios and scenarios[index] and scenarios[index] == scenarios[other])
        ]
        best = sorted(others, key=lambda other: (-row[other], ids[other]))[:number]
        found.append(([ids[other] for other in best], [row[other] / 1_000_000 for other in best]))
    return found


def _check(
    name: str, trajectories: list[Labels], ids: list[str], number: int, scenarios: list[str] | None = None
) -> None:
    by = similarity(name, 8, PLANE)
    found = nearest(ids, trajectories, by, classes=4, neighbours=number, scenarios=scenarios)
    for one, (expected, values) in zip(
        found, _by_full_sort(by.matrix(trajectories, 4), ids, number, scenarios), strict=True
    ):
        assert list(one.ids) == expected
        np.testing.assert_array_equal(one.similarities, np.array(values, np.float32))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (16, 7), (256, 1024)])
def test_equal_a_full_sort_regardless_of_the_size_of_the_blocks(
    name: str,
    rows: int,
    columns: int,
    random_trajectories: Callable[..., list[Labels]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "ROWS", rows)
    monkeypatch.setattr(search, "COLUMNS", columns)
    _check(name, random_trajectories(80, longest=6), [f"train/dia{index * 37 % 80}" for index in range(80)], 7)


@pytest.mark.parametrize("name", NAMES)
def test_equal_a_full_sort_of_long_dialogues_over_many_blocks(
    name: str, random_trajectories: Callable[..., list[Labels]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "ROWS", 32)
    monkeypatch.setattr(search, "COLUMNS", 64)
    _check(name, random_trajectories(400, longest=40, seed=5), [f"train/dia{index}" for index in range(400)], 10)


_TRAJECTORIES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=1, max_size=40)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(trajectories=_TRAJECTORIES, number=st.integers(1, 12), data=st.data())
def test_equal_a_full_sort_with_many_ties_and_scenarios(
    name: str, trajectories: list[list[int]], number: int, data: st.DataObject
) -> None:
    ids = data.draw(st.permutations([f"d{index:02d}" for index in range(len(trajectories))]))
    scenarios = data.draw(
        st.none() | st.lists(st.sampled_from(["", "impro01", "script01"]), min_size=len(ids), max_size=len(ids))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "ROWS", 4)
        patch.setattr(search, "COLUMNS", 8)
        _check(name, [_labels(*one) for one in trajectories], ids, number, scenarios)


def test_neighbours_by_features_equal_a_full_sort() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(300, 5)).round(1)
    vectors[::7] = vectors[0]
    vectors[11] = 0
    described, ids = whole(vectors), [f"dia{index}" for index in range(300)]
    found = nearest_described(ids, described, COMPARISON, neighbours=9)
    assert [(list(one.ids), one.similarities.tolist()) for one in found] == [
        (some, np.array(values, np.float32).tolist())
        for some, values in _by_full_sort(COMPARISON.compare(described, described), ids, 9)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_all_dialogues_alike_are_each_others_neighbours_by_id(name: str) -> None:
    ids = ["c", "a", "d", "b"]
    found = nearest(ids, [_labels(0, 1)] * 4, similarity(name, 8, PLANE), classes=4, neighbours=2)
    assert [one.ids for one in found] == [("a", "b"), ("b", "c"), ("a", "b"), ("a", "c")]
    assert {value for one in found for value in one.similarities.tolist()} == {1.0}


@pytest.mark.parametrize("name", NAMES)
def test_more_neighbours_than_dialogues_are_all_the_others(name: str) -> None:
    found = nearest(
        ["a", "b", "c"],
        [_labels(0), _labels(1, 1), _labels(2, 0)],
        similarity(name, 8, PLANE),
        classes=4,
        neighbours=100,
    )
    assert [sorted(one.ids) for one in found] == [["b", "c"], ["a", "c"], ["a", "b"]]


def test_ties_are_broken_by_id_also_where_floats_differ_in_the_last_bit() -> None:
    # 1/√3 for b and 2/√12 for a: the same similarity to z.
    z, b, a = _labels(0), _labels(0, 1, 2), _labels(0, 0, 1, 1, 2, 2)
    found = nearest(["z", "b", "a"], [z, b, a], similarity("histogram", 8), classes=3, neighbours=2)
    assert found[0].ids == ("a", "b")
    assert found[0].similarities.tolist() == [np.float32(0.57735), np.float32(0.57735)]


def test_a_dialogue_is_not_its_own_neighbour_but_its_twin_is() -> None:
    found = nearest(
        ["a", "b", "c"], [_labels(0, 1), _labels(0, 1), _labels(0, 1)], similarity("edit", 8), classes=2, neighbours=5
    )
    assert [one.ids for one in found] == [("b", "c"), ("a", "c"), ("a", "b")]


def test_dialogues_without_labels_neither_have_neighbours_nor_are_any() -> None:
    found = nearest(
        ["a", "b", "c"], [_labels(0), _labels(), _labels(1)], similarity("path", 8), classes=2, neighbours=5
    )
    assert [one.ids for one in found] == [("c",), (), ("a",)]


@pytest.mark.parametrize("trajectories", [[], [_labels(0)], [_labels()], [_labels(0), _labels()]])
def test_without_candidates_the_lists_are_empty(trajectories: list[Labels]) -> None:
    ids = [str(index) for index in range(len(trajectories))]
    assert [one.ids for one in nearest(ids, trajectories, similarity("histogram", 8), classes=2, neighbours=3)] == [
        ()
    ] * len(ids)


def test_repeated_ids_and_missing_trajectories_are_refused() -> None:
    with pytest.raises(ValueError, match="repeat"):
        nearest(["a", "a"], [_labels(0), _labels(1)], similarity("edit", 8), classes=2, neighbours=1)
    with pytest.raises(ValueError, match="2 dialogue ids for 1 trajectories"):
        nearest(["a", "b"], [_labels(0)], similarity("edit", 8), classes=2, neighbours=1)
