import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.encoders.engine.windows import Window, combine, cut


@settings(max_examples=300, deadline=None)
@given(
    samples=st.integers(1, 5000), longest=st.integers(20, 600), overlap_share=st.floats(0, 0.5), step=st.integers(1, 9)
)
def test_windows_divide_a_clip_without_gap_and_share_at_least_the_overlap(
    samples: int, longest: int, overlap_share: float, step: int
) -> None:
    overlap = int(longest * overlap_share)
    windows = cut(samples, longest, overlap, step)
    assert windows[0].start == 0
    assert windows[-1].stop == samples
    borders = [0, *(window.own_stop for window in windows)]
    assert [window.own_start for window in windows] == borders[:-1]
    assert borders[-1] == samples
    for window in windows:
        assert window.start % step == 0
        assert window.stop - window.start <= longest
        assert window.start <= window.own_start < window.own_stop <= window.stop
    for left, right in itertools.pairwise(windows):
        assert left.stop - right.start >= overlap
        # An overlap is divided in the middle.
        assert abs((left.own_stop - right.start) - (left.stop - left.own_stop)) <= 1
    if samples > longest:
        assert min(window.stop - window.start for window in windows) > longest - step


@settings(max_examples=200, deadline=None)
@given(samples=st.integers(40, 4000), longest=st.integers(40, 300), step=st.integers(1, 8), field=st.integers(1, 12))
def test_frames_of_all_windows_are_those_of_the_clip_each_once(
    samples: int, longest: int, step: int, field: int
) -> None:
    """Frames as from convolutions without padding: number i covers ``field`` samples from i * step."""

    def frames(length: int) -> int:
        return (length - field) // step + 1

    counted: list[int] = []
    for window in cut(samples, longest, overlap=2 * (field + step), step=step) if longest > 3 * (field + step) else []:
        first, stop = window.frames(field // 2, step, frames(window.stop - window.start))
        counted += range(window.start // step + first, window.start // step + stop)
    assert counted == list(range(frames(samples) if longest > 3 * (field + step) else 0))


def test_a_clip_no_longer_than_a_window_is_one() -> None:
    assert cut(100, longest=100, overlap=10, step=7) == [Window(0, 100, 0, 100)]
    assert len(cut(101, longest=100, overlap=10, step=7)) == 2


def test_five_minutes_in_windows_of_thirty_seconds() -> None:
    windows = cut(300, longest=30, overlap=2, step=1)
    assert len(windows) == 11  # 1 + ceil(270 / 28)
    assert {window.stop - window.start for window in windows} == {30}


@pytest.mark.parametrize(("longest", "overlap", "step"), [(10, 10, 1), (10, 5, 6), (10, 12, 1)])
def test_windows_that_do_not_move_are_refused(longest: int, overlap: int, step: int) -> None:
    with pytest.raises(
        ValueError, match=f"windows of {longest} samples with an overlap of {overlap} do not move by a step of {step}"
    ):
        cut(100, longest, overlap, step)


def test_moments_of_windows_give_those_of_the_clip() -> None:
    rng = np.random.default_rng(0)
    clips = [[rng.normal(size=(count, 3)) for count in counts] for counts in ((5,), (4, 7, 1), (2, 9))]
    windows = [window for clip in clips for window in clip]
    means, variances = (
        np.stack([window.mean(axis=0) for window in windows]),
        np.stack([window.var(axis=0) for window in windows]),
    )
    mean, variance = combine(means, variances, [len(window) for window in windows], [0, 1, 1, 1, 2, 2])
    np.testing.assert_allclose(mean, [np.concatenate(clip).mean(axis=0) for clip in clips], atol=1e-12)
    np.testing.assert_allclose(variance, [np.concatenate(clip).var(axis=0) for clip in clips], atol=1e-12)


def test_a_window_without_frames_of_its_own_plays_no_part_even_if_it_is_not_a_number() -> None:
    mean, variance = combine(
        np.array([[1.0], [np.nan], [3.0]]), np.array([[0.5], [np.nan], [0.5]]), [1, 0, 1], [0, 0, 0]
    )
    assert (mean.tolist(), variance.tolist()) == ([[2.0]], [[1.5]])


def test_what_is_not_finite_stays_with_its_clip() -> None:
    mean, variance = combine(np.array([[np.inf], [1.0]]), np.zeros((2, 1)), [4, 4], [0, 1])
    assert np.isfinite(mean).ravel().tolist() == [False, True]
    assert variance[1, 0] == 0


def test_no_windows_give_no_clips() -> None:
    mean, variance = combine(np.zeros((0, 3), dtype=np.float32), np.zeros((0, 3), dtype=np.float32), [], [])
    assert mean.shape == variance.shape == (0, 3)
