"""The order of dialogues: each exactly once, parts without overlap, the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merc.errors import BadSettings
from merc.shards.format.order import Part, windows

GROUPS = st.lists(st.integers(1, 6), min_size=1, max_size=12)


def _positions(rows_per_group: list[int], span: tuple[int, int], seed: int | None, width: int) -> list[tuple[int, int]]:
    return [(group, row) for picks in windows(rows_per_group, span, seed, width) for group, row in picks.tolist()]


def test_without_a_seed_the_order_is_that_of_the_files() -> None:
    assert _positions([2, 1, 3], (0, 6), None, 2) == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)]
    assert [len(picks) for picks in windows([2, 1, 3], (1, 4), None, 2)] == [1, 1, 1]


@given(GROUPS, st.one_of(st.none(), st.integers(0, 9)), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_the_spans_of_all_ranks_and_workers_are_the_whole_order_without_overlap(
    groups: list[int], seed: int | None, width: int, ranks: int, workers: int
) -> None:
    total = sum(groups)
    whole = _positions(groups, (0, total), seed, width)
    assert sorted(whole) == [(group, row) for group, count in enumerate(groups) for row in range(count)]
    spans = [[Part(rank, ranks, worker, workers).span(total) for worker in range(workers)] for rank in range(ranks)]
    assert [one for of_rank in spans for span in of_rank for one in _positions(groups, span, seed, width)] == whole
    for sizes in (
        [of_rank[-1][1] - of_rank[0][0] for of_rank in spans],
        *([stop - start for start, stop in of_rank] for of_rank in spans),
    ):
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] - sizes[-1] <= 1


def test_windows_before_and_after_a_span_are_left_out() -> None:
    groups = [4] * 10
    assert len(list(windows(groups, (0, 40), 3, 2))) == 5
    assert len(list(windows(groups, (9, 15), 3, 2))) == 1
    assert list(windows(groups, (40, 40), 3, 2)) == []


def test_a_window_mixes_its_row_groups_and_no_others() -> None:
    for picks in windows([50] * 6, (0, 300), 5, 2):
        groups = picks[:, 0]
        assert len(set(groups.tolist())) == 2
        assert 20 < np.count_nonzero(np.diff(groups)) < 80  # 49.5 changes of the group are expected of a fair shuffle


def test_every_dialogue_is_as_likely_at_every_position() -> None:
    counts = np.zeros((6, 6), dtype=int)
    for seed in range(1200):
        for position, (group, row) in enumerate(_positions([2, 2, 2], (0, 6), seed, 2)):
            counts[2 * group + row, position] += 1
    assert counts.min() > 140  # 200 are expected, with a standard deviation of 13
    assert counts.max() < 260


def test_other_seeds_give_other_orders_and_the_same_seed_the_same() -> None:
    orders = [_positions([8] * 4, (0, 32), seed, 2) for seed in (0, 1, 2, 0)]
    assert orders[0] == orders[3]
    assert len({tuple(one) for one in orders}) == 3


@pytest.mark.parametrize(
    ("rank", "ranks", "worker", "workers", "message"),
    [
        (2, 2, 0, 1, "rank 2 of 2; valid: 0 to 1"),
        (-1, 2, 0, 1, "rank -1 of 2"),
        (0, 1, 3, 3, "worker 3 of 3; valid: 0 to 2"),
        (0, 0, 0, 1, "rank 0 of 0"),
    ],
)
def test_ranks_and_workers_that_are_not_there_are_refused(
    rank: int, ranks: int, worker: int, workers: int, message: str
) -> None:
    with pytest.raises(BadSettings, match=message):
        Part(rank, ranks, worker, workers)


@pytest.mark.parametrize(("seed", "width"), [(-1, 2), (0, 0)])
def test_negative_seeds_and_windows_of_nothing_are_refused(seed: int, width: int) -> None:
    with pytest.raises(BadSettings, match="valid: from 0, and from 1"):
        list(windows([1], (0, 1), seed, width))
