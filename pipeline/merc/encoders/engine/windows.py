"""Long clips in overlapping windows, so that each frame of the clip counts once.

    window 0   ├───── counts ─────┊··│
    window 1                   │··┊──── counts ────┊··│
    window 2                                    │··┊──── counts ─────┤
                               └overlap┘

The first half of an overlap belongs to the left window and the second to the right one, so that each counted frame has
audio on both sides.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from merc.encoders.engine.base import EncodedSequence


@dataclass(frozen=True)
class Window:
    """A piece of a clip, in samples from the clip's start; all ranges are half-open.

    Attributes:
        start, stop: the model's input.
        own_start, own_stop: the counted part; those of a clip's windows cover it without gap or overlap.
    """

    start: int
    stop: int
    own_start: int
    own_stop: int

    def frames(self, first_middle: int, step: int, at_most: int) -> tuple[int, int]:
        """The window's frames that count: those whose middle is in its own part.

        Args:
            first_middle: samples from the window's start to the middle of its frame 0.
            step: samples from frame to frame.
            at_most: number of frames that the model returns.

        Returns:
            A half-open range of frames; may be empty.

        >>> [window.frames(first_middle=2, step=4, at_most=4) for window in cut(28, longest=16, overlap=8, step=4)]
        [(0, 2), (1, 3), (1, 4)]
        """
        first = _divide_up(self.own_start - self.start - first_middle, step)
        stop = _divide_up(self.own_stop - self.start - first_middle, step)
        return min(max(first, 0), at_most), min(max(stop, 0), at_most)


def cut(samples: int, longest: int, overlap: int, step: int) -> list[Window]:
    """Cuts a clip into windows of nearly equal length, evenly spread: the last one has as much audio as the others.

    Args:
        samples: the clip's length.
        longest: maximum length of a window; a clip that is not longer is one window.
        overlap: minimum overlap of neighbours.
        step: samples from frame to frame; windows start at multiples of it, so that their frames are on one grid.

    Raises:
        ValueError: if an overlap leaves no room for a step.

    >>> [(window.start, window.stop, window.own_start, window.own_stop) for window in cut(28, longest=16, overlap=8, step=4)]
    [(0, 16, 0, 10), (4, 20, 10, 16), (12, 28, 16, 28)]
    """  # noqa: E501
    stride = (longest - overlap) // step * step
    if stride < step:
        raise ValueError(f"windows of {longest} samples with an overlap of {overlap} do not move by a step of {step}")
    if samples <= longest:
        return [Window(0, samples, 0, samples)]
    count = 1 + _divide_up(samples - longest, stride)
    last = _divide_up(samples - longest, step) * step
    starts = [last * number // (count - 1) // step * step for number in range(count)]
    stops = [min(start + longest, samples) for start in starts]
    borders = [0, *((start + stop) // 2 for start, stop in zip(starts[1:], stops[:-1], strict=True)), samples]
    return [Window(*window) for window in zip(starts, stops, borders[:-1], borders[1:], strict=True)]


def combine(
    means: NDArray[np.float32], variances: NDArray[np.float32], counts: Sequence[int], clips: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance over all frames of each clip, from those of its windows (Chan et al. 1979, equation 2.1b).

    Args:
        means, variances: (windows, dim) over a window's own frames.
        counts: number of counted frames of each window; windows without any are ignored, and each clip has a window
            with some.
        clips: the clip of each window, from 0, ascending without gaps.

    Returns:
        Two arrays (clips, dim).

    >>> mean, variance = combine(np.array([[1.0], [4.0], [7.0]]), np.zeros((3, 1)), counts=[2, 1, 1], clips=[0, 0, 1])
    >>> mean.ravel().tolist(), variance.ravel().tolist()
    ([2.0, 7.0], [2.0, 0.0])
    """
    weights = np.asarray(counts, dtype=np.float64)[:, None]
    known = np.where(weights > 0, means, 0.0).astype(np.float64)
    starts = np.flatnonzero(np.diff(clips, prepend=-1))
    if not len(starts):
        return known, known
    total = np.add.reduceat(weights, starts)
    mean = np.add.reduceat(weights * known, starts) / total
    with np.errstate(invalid="ignore"):  # the caller checks for infinite numbers
        apart = np.where(weights > 0, variances + (known - mean[np.asarray(clips)]) ** 2, 0.0)
    return mean, np.add.reduceat(weights * apart, starts) / total


def _divide_up(number: int, by: int) -> int:
    return -(-number // by)


def join_sequences(
    clips: Sequence[int],
    pieces: Sequence[NDArray[np.float16]],
    present: NDArray[np.bool_],
    middles: Callable[[int], NDArray[np.float32]],
) -> list[EncodedSequence | None]:
    """The frames of each utterance, concatenated over its windows.

    Args:
        clips: for each window, the index of its utterance; windows of one utterance are in order.
        pieces: for each window, the counted (frames, dim).
        present: (utterances,) whether there is a vector.
        middles: returns the times of this many frames in seconds from a clip's start.
    """
    of_clip: dict[int, list[NDArray[np.float16]]] = {}
    for clip, piece in zip(clips, pieces, strict=True):
        of_clip.setdefault(clip, []).append(piece)
    joined = [np.concatenate(of_clip[index]) if there else None for index, there in enumerate(present)]
    return [None if vectors is None else EncodedSequence(vectors, middles(len(vectors))) for vectors in joined]
