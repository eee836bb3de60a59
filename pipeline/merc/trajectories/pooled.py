"""``pooled``: the similarity of two dialogues' mean features, regardless of their lengths.

The features of the present utterances are standardised by the shards' ``meta/stats.json`` and averaged, modality by
modality; each modality has the same weight, however many features it has. Our features do not depend on an utterance's
position, but a mean over utterances can still reveal how many there were. Therefore a linear trend of each feature in
the logarithm of the number of utterances, fitted on the train split, is subtracted, including the train mean; the
record states how much the similarity correlates with length before and after. On a handful of train dialogues the line
fits noise, and the record may show a higher correlation after than before.

The similarity is (1 + cosine) / 2. Vectors are rounded to whole numbers (unit length is 2²⁰), whose products are summed
exactly in float64, so the result is the same on every machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merc import parquet
from merc.shards.format.reader import vectors_of
from merc.trajectories.base import Comparison, Sketches, rounding

UNIT = 2.0**20
# Number of dialogues at once: their vectors take a few megabytes.
_BATCH = 64
# The same for mean vectors.
_ROWS = 1024


@dataclass(frozen=True)
class Means:
    """Mean features of a split's dialogues, in the order of the shards.

    Attributes:
        values: (N, D) float32, standardised, all modalities side by side, each weighted by 1/√(its number of features);
            zeros where no utterance of a modality is present.
        lengths: (N,) numbers of utterances.
        there: (N,) whether any utterance is present in any modality.
    """

    values: NDArray[np.float32]
    lengths: NDArray[np.int64]
    there: NDArray[np.bool_]


def read_means(root: Path, split: str, modalities: Sequence[str], stats: Mapping[str, Any]) -> Means:
    """Averages the vectors of a split, a few dialogues in memory at a time.

    Args:
        root: folder of the shards.
        split: ``train``, ``dev`` or ``test``.
        modalities: modalities of the shards.
        stats: of :func:`merc.shards.format.reader.stats`; a feature that never varies is only centred.
    """
    paths = sorted((root / "dialogues").glob(f"{split}-*-of-*.parquet"))
    number = sum(parquet.rows(path) for path in paths)
    values_ND = np.zeros((number, sum(len(stats[modality]["mean"]) for modality in modalities)), np.float32)
    lengths_N, there_N = np.zeros(number, np.int64), np.zeros(number, np.bool_)
    columns = [name for modality in modalities for name in (modality, f"{modality}_present")]
    row = 0
    for path in paths:
        with parquet.opened(path) as file:
            for batch in file.iter_batches(_BATCH, columns=columns):
                rows, first = slice(row, row + batch.num_rows), 0
                for modality in modalities:
                    vectors_UD, offsets = vectors_of(batch.column(modality))
                    present_U = batch.column(f"{modality}_present").flatten().to_numpy(zero_copy_only=False)
                    mean_ND, count_N = _means(vectors_UD, offsets, present_U)
                    mean_D, std_D = (np.array(stats[modality][key]) for key in ("mean", "std"))
                    scaled_ND = (mean_ND - mean_D) / np.where(std_D > 0, std_D, 1) / np.sqrt(len(mean_D))
                    values_ND[rows, first : first + len(mean_D)] = np.where(count_N[:, None] > 0, scaled_ND, 0)
                    there_N[rows] |= count_N > 0
                    lengths_N[rows] = np.diff(offsets)
                    first += len(mean_D)
                row += batch.num_rows
    return Means(values_ND, lengths_N, there_N)


def _means(
    vectors_UD: NDArray[np.float32], offsets: NDArray[np.int64], present_U: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean over the present utterances of each dialogue, (N, D), zeros where there are none; and their number (N,)."""
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[present_U]
    count_N = np.bincount(owner, minlength=len(offsets) - 1)
    sums_ND = np.zeros((len(count_N), vectors_UD.shape[1]))
    begins = np.cumsum(count_N) - count_N
    some = count_N > 0
    if some.any():
        sums_ND[some] = np.add.reduceat(vectors_UD[present_U].astype(np.float64), begins[some], axis=0)
    return sums_ND / np.maximum(count_N, 1)[:, None], count_N


@dataclass(frozen=True)
class LengthTrend:
    """The part of each feature explained by length: ``mean + slope · (ln length - centre)``, mean and slope (D,)."""

    mean: NDArray[np.float64]
    slope: NDArray[np.float64]
    centre: float

    @classmethod
    def flat(cls) -> "LengthTrend":
        """Explains nothing; used if there is no train split."""
        return cls(np.zeros(1), np.zeros(1), 0.0)

    @classmethod
    def fit(cls, means: Means) -> "LengthTrend":
        """Least squares over the dialogues with features; flat if all have the same length."""
        if not means.there.any():
            return cls.flat()
        there = np.flatnonzero(means.there)
        log_N = np.log(means.lengths[there])
        from_centre_N = log_N - log_N.mean()
        spread = float(from_centre_N @ from_centre_N)
        sums_D, products_D = np.zeros(means.values.shape[1]), np.zeros(means.values.shape[1])
        for begin in range(0, len(there), _ROWS):
            some_ND = means.values[there[begin : begin + _ROWS]].astype(np.float64)
            sums_D += some_ND.sum(axis=0)
            products_D += from_centre_N[begin : begin + _ROWS] @ some_ND
        return cls(
            sums_D / len(there), products_D / spread if spread > 0 else np.zeros_like(sums_D), float(log_N.mean())
        )

    def describe(self, means: Means) -> NDArray[np.float32]:
        """The residuals of the trend, in whole numbers (:func:`whole`): (dialogues with features, D)."""
        there = np.flatnonzero(means.there)
        described = np.empty((len(there), means.values.shape[1]), np.float32)
        for begin in range(0, len(there), _ROWS):
            described[begin : begin + _ROWS] = self.rest(means, there[begin : begin + _ROWS])
        return described

    def rest(self, means: Means, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The same for some dialogues: (rows, D)."""
        return whole(means.values[rows] - self.mean - np.outer(np.log(means.lengths[rows]) - self.centre, self.slope))

    def compare_pairs(self, means: Means, some: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
        """Similarity of each of the dialogues ``some`` with the one next to it in ``others``, (P,)."""
        shared = np.empty(len(some))
        for begin in range(0, len(some), _ROWS):
            part = slice(begin, begin + _ROWS)
            shared[part] = _pairs(self.rest(means, some[part]), self.rest(means, others[part]))
        return shared


def whole(values_ND: NDArray[Any]) -> NDArray[np.float32]:
    """The directions of vectors in whole numbers, exact in float32; zeros stay zeros."""
    length_N1 = np.linalg.norm(values_ND, axis=1, keepdims=True)
    # Adding 0 makes -0 a 0: equal numbers have equal bytes.
    rounded: NDArray[np.float32] = (np.rint(values_ND / np.where(length_N1 > 0, length_N1, 1) * UNIT) + 0.0).astype(
        np.float32
    )
    return rounded


def _compare(queries: NDArray[np.float32], candidates: NDArray[np.float32]) -> NDArray[np.float64]:
    some, others = queries.astype(np.float64), candidates.astype(np.float64)
    return _similarity(some @ others.T, np.outer(np.square(some).sum(axis=1), np.square(others).sum(axis=1)))


def _pairs(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    # einsum makes no copies of the products; float64 is exact here in any order.
    products, squares, other_squares = (
        np.einsum("ij,ij->i", a, b, dtype=np.float64) for a, b in ((some, others), (some, some), (others, others))
    )
    return _similarity(products, squares * other_squares)


def _similarity(products: NDArray[np.float64], squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """A zero vector is as far from all others as an orthogonal one."""
    angle = np.divide(products, np.sqrt(squares), out=np.zeros_like(products), where=squares > 0)
    return np.clip((1.0 + angle) / 2.0, 0.0, 1.0)


def _sketch(described: NDArray[np.float32]) -> Sketches:
    """The descriptions themselves, which may take half a gigabyte, and the inverses of their lengths, (N,)."""
    length_N = np.sqrt(np.einsum("ij,ij->i", described, described, dtype=np.float64))
    return described, (1 / np.where(length_N > 0, length_N, 1)).astype(np.float32)


def _bound(queries: Sketches, candidates: Sketches) -> NDArray[np.float32]:
    bound_QM: NDArray[np.float32] = queries[0] @ candidates[0].T
    bound_QM *= np.outer(queries[1], candidates[1])
    bound_QM += 1 + rounding(queries[0].shape[1])
    bound_QM /= 2
    return bound_QM


def _as_they_are(described: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.arange(len(described))


COMPARISON = Comparison(compare=_compare, pairs=_pairs, sketch=_sketch, bound=_bound, order=_as_they_are, pair_cost=64)
