"""The K nearest dialogues by exact similarity: best first, ties by id, never the dialogue itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.trajectories.similarity import Similarity
from pipeline.trajectories.trajectory import Labels

# Similarities are compared as whole millionths: ratios that are equal on paper, such as 1/√3 and 2/√12, differ in the
# last bit of a float, and would be ordered by that bit instead of by id.
STEPS = 1_000_000
# Cells of the largest matrix at once: 4 million float64 are 32 MB, whatever the size of the corpus.
CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Neighbours:
    """Nearest dialogues of one dialogue.

    Attributes:
        ids: best first.
        similarities: (neighbours,) float32, rounded to six decimals.
    """

    ids: tuple[str, ...]
    similarities: NDArray[np.float32]


NONE = Neighbours((), np.empty(0, np.float32))


def nearest(ids: Sequence[str], trajectories: Sequence[Labels], similarity: Similarity, *, classes: int, neighbours: int) -> list[Neighbours]:
    """Finds each dialogue's nearest among the others.

    Args:
        ids: unique dialogue ids.
        trajectories: as many, without unlabelled utterances; a dialogue whose trajectory is empty has no neighbours and is nobody's neighbour.
        similarity: how to compare.
        classes: number of classes C.
        neighbours: K, at least 1; fewer are given where there are fewer candidates.

    Returns:
        In the order of ``ids``.

    Raises:
        ValueError: if ids repeat, or there are not as many trajectories.
    """
    if len(set(ids)) != len(ids):
        raise ValueError("dialogue ids repeat")
    if len(ids) != len(trajectories):
        raise ValueError(f"{len(ids)} dialogue ids for {len(trajectories)} trajectories")
    # In the order of their ids, the lower of two equally similar candidates is the one that comes first.
    by_id = sorted((index for index, trajectory in enumerate(trajectories) if len(trajectory)), key=lambda index: ids[index])
    found = [NONE] * len(ids)
    if len(by_id) < 2:
        return found
    described = similarity.describe([trajectories[index] for index in by_id], classes)
    rows = max(1, CELLS_AT_ONCE // len(by_id))
    for begin in range(0, len(by_id), rows):
        block = similarity.compare(described[begin : begin + rows], described)
        best, steps = _best_of_rows(np.rint(block * STEPS).astype(np.int64), begin, min(neighbours, len(by_id) - 1))
        for row, (columns, values) in enumerate(zip(best, steps, strict=True)):
            found[by_id[begin + row]] = Neighbours(tuple(ids[by_id[column]] for column in columns), (values / STEPS).astype(np.float32))
    return found


def _best_of_rows(steps: NDArray[np.int64], begin: int, neighbours: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns of the largest values of each row, largest first, of equal ones the leftmost; and the values.

    Args:
        steps: (rows, candidates), not negative; row r is candidate ``begin + r``, which is left out.
        begin: see ``steps``.
        neighbours: how many, less than the number of candidates.

    Returns:
        Two arrays (rows, neighbours).
    """
    rows, candidates = steps.shape
    # Value and column in one number: no two keys of a row are equal, so that the partial sort has no choice.
    keys = steps * candidates + np.arange(candidates - 1, -1, -1)
    keys[np.arange(rows), begin + np.arange(rows)] = -1
    top = np.argpartition(keys, candidates - neighbours, axis=1)[:, candidates - neighbours :]
    order = np.argsort(-np.take_along_axis(keys, top, axis=1), axis=1)
    columns = np.take_along_axis(top, order, axis=1)
    return columns, np.take_along_axis(steps, columns, axis=1)
