"""Whether one recipe is better than another: over seeds, over dialogues, and with many comparisons in a table.

"Significant" must be written only if the paired t-test over seeds, after Holm's correction, and the bootstrap over
dialogues agree: the seeds say nothing about the choice of test dialogues, of which IEMOCAP has only 31.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtr, stdtr, stdtrit

Labels = NDArray[np.int64]
Scores = NDArray[np.float64]

_COUNTS = 4_000_000  # numbers in memory at once

_ROUNDING = 1e-12  # scores are between 0 and 1; anything smaller is not a difference


def paired_t_test(first: Sequence[float], second: Sequence[float]) -> dict[str, float]:
    """Two-sided paired t-test of the scores of two recipes, seed by seed.

    Args:
        first: one score per seed.
        second: the other recipe's, the same seeds in the same order.

    Returns:
        ``difference`` (mean of first - second), ``t``, ``p`` and ``degrees_of_freedom``. If all differences are equal,
        ``t`` is infinite and ``p`` 0, or 0 and 1 if they are zero.

    Raises:
        ValueError: if the two differ in length or have fewer than two seeds.

    Example:
        >>> found = paired_t_test([0.61, 0.63, 0.62], [0.60, 0.60, 0.60])
        >>> round(found["t"], 4), round(found["p"], 4)
        (3.4641, 0.0742)
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"a paired test needs the same seeds twice, at least two, not {len(first)} and {len(second)}")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    freedom = len(differences) - 1
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(len(differences))
    certain = math.copysign(math.inf, mean) if abs(mean) > _ROUNDING else 0.0
    t = mean / error if error > _ROUNDING else certain
    return {"difference": mean, "t": t, "p": 2 * float(stdtr(freedom, -abs(t))), "degrees_of_freedom": freedom}


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction for the tests of one table (Scandinavian Journal of Statistics, 1979); order kept.

    Example:
        >>> holm([0.04, 0.01, 0.03])
        [0.06, 0.03, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in adjusted]


def cluster_bootstrap(
    labels: Labels,
    first: Labels,
    second: Labels,
    lengths: Labels,
    classes: int,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, float]:
    """Interval of the difference in weighted F1, dialogues drawn with replacement; the same dialogues for both recipes
    and all seeds.

    Utterances of one dialogue are correlated, so whole dialogues are drawn. The difference is averaged over seeds
    within each resample.

    Args:
        labels: [N], all utterances of the split, -1 = unlabelled.
        first: [S, N], predictions of each seed.
        second: [S', N], the other recipe's.
        lengths: [K], utterances of each dialogue, in the order of the rows.
        classes: number of classes.
        resamples: how often the K dialogues are drawn.
        confidence: share of the resamples within the interval, such as 0.95. seed: seed of the draws.

    Returns:
        ``difference`` (first - second, on the split itself), ``low`` and ``high``, percentiles of the resamples.

    Raises:
        ValueError: if the lengths or predictions do not fit the labels, nothing is labelled, or the confidence is not
            between 0 and 1.
    """
    scored = [
        resampled_weighted_f1(labels, one, lengths, classes, resamples=resamples, seed=seed) for one in (first, second)
    ]
    return bootstrap_interval(scored[0], scored[1], confidence=confidence)


def resampled_weighted_f1(
    labels: Labels, of_seeds: Labels, lengths: Labels, classes: int, *, resamples: int, seed: int
) -> Scores:
    """Weighted F1 on the split itself and on resamples of its dialogues; two recipes are compared by
    :func:`bootstrap_interval`.

    Args:
        labels: [N], all utterances of the split, -1 = unlabelled.
        of_seeds: [S, N], predictions of each seed.
        lengths: [K], utterances of each dialogue, in the order of the rows.
        classes: number of classes.
        resamples: R, how often the K dialogues are drawn.
        seed: seed of the draws, which depend only on it, K and R.

    Returns:
        [1 + R], means over the seeds, the split itself first; NaN for draws without a labelled utterance.

    Raises:
        ValueError: if the lengths or predictions do not fit the labels, or nothing is labelled.
    """
    if lengths.sum() != len(labels) or of_seeds.shape[1:] != labels.shape:
        raise ValueError(
            f"{len(labels)} labels, predictions {of_seeds.shape}, and dialogues of {lengths.sum()} utterances together"
        )
    if not (labels >= 0).any():
        raise ValueError("nothing is labelled")
    counted = [
        _Counted.of(labels, one, np.repeat(np.arange(len(lengths)), lengths), len(lengths), classes) for one in of_seeds
    ]
    return np.concatenate(
        [
            np.mean([one.weighted_f1(times_RK) for one in counted], axis=0)
            for times_RK in _draws(len(lengths), resamples, seed)
        ]
    )


def bootstrap_interval(first: Scores, second: Scores, *, confidence: float) -> dict[str, float]:
    """The interval of :func:`cluster_bootstrap`, from the scores of two recipes on the same resamples.

    Args:
        first: [1 + R], from :func:`resampled_weighted_f1`.
        second: [1 + R], the other recipe's.
        confidence: share of the resamples within the interval, such as 0.95. Raises:
        ValueError: if the confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"the confidence of {confidence} is not between 0 and 1")
    whole, *drawn = first - second
    low, high = np.nanpercentile(drawn, [50 * (1 - confidence), 50 * (1 + confidence)])
    return {"difference": float(whole), "low": float(low), "high": float(high)}


def seeds_needed(differences: Sequence[float], *, level: float, power: float, most: int = 1000) -> int | None:
    """The number of seeds that a paired t-test would need to detect a difference of this size.

    The true mean and deviation are assumed to be those of the given differences; with few seeds both are rough guesses.

    Args:
        differences: of two recipes' scores, seed by seed; at least two.
        level: significance level of p, two-sided.
        power: probability of reaching it, such as 0.8.
        most: maximum number of seeds considered.

    Returns:
        The number of seeds, at least 2; None if ``most`` do not suffice, as for a difference of 0.

    Raises:
        ValueError: if there are fewer than two differences.

    Example:
        >>> seeds_needed([0.01, 0.03, 0.02, 0.02], level=0.05, power=0.8)
        4
    """
    if len(differences) < 2:
        raise ValueError(f"a deviation needs at least two seeds, not {len(differences)}")
    mean, deviation = float(np.mean(differences)), float(np.std(differences, ddof=1))
    if abs(mean) <= _ROUNDING:
        return None
    if deviation <= _ROUNDING:
        return 2
    seeds = np.arange(2, most + 1)
    bound = stdtrit(seeds - 1, 1 - level / 2)
    # Only the tail on the side of the difference; the other one has a probability below level / 2 and would be an
    # error.
    found = nctdtr(seeds - 1, abs(mean) / deviation * np.sqrt(seeds), bound) <= 1 - power
    return int(seeds[found.argmax()]) if found.any() else None


def significant(adjusted_p: float, low: float, high: float, *, level: float) -> bool:
    """Whether both tests agree: the corrected p is below ``level`` and the interval does not contain 0."""
    return adjusted_p < level and not low <= 0 <= high


def _draws(dialogues: int, resamples: int, seed: int) -> Iterator[Scores]:
    """How often each of K dialogues counts: first [1, K] ones, then [R', K] until there are R; in pieces, so that
    thousands of dialogues fit into memory.
    """
    yield np.ones((1, dialogues))
    generator = np.random.default_rng(seed)
    for left in range(resamples, 0, -max(1, _COUNTS // dialogues)):
        # As floats, whose matrix product is faster; integers of this size are exact.
        yield generator.multinomial(
            dialogues, np.full(dialogues, 1 / dialogues), size=min(left, max(1, _COUNTS // dialogues))
        ).astype(np.float64)


@dataclass(frozen=True)
class _Counted:
    """For a seed, by dialogue and class [K, C]: numbers of true, predicted and correct utterances of the class."""

    actual: Scores
    said: Scores
    right: Scores

    @classmethod
    def of(cls, labels: Labels, predicted: Labels, dialogues: Labels, n_dialogues: int, classes: int) -> "_Counted":
        def counts(chosen: NDArray[np.bool_], label: Labels) -> Scores:
            places = dialogues[chosen] * classes + label[chosen]
            return np.bincount(places, minlength=n_dialogues * classes).reshape(n_dialogues, classes).astype(np.float64)

        kept = labels >= 0
        return cls(counts(kept, labels), counts(kept, predicted), counts(kept & (predicted == labels), predicted))

    def weighted_f1(self, times_RK: Scores) -> Scores:
        """[R], with every dialogue counted this many times; NaN if nothing drawn is labelled."""
        actual_RC, said_RC, right_RC = (times_RK @ one for one in (self.actual, self.said, self.right))
        f1_RC = 2 * right_RC / np.maximum(said_RC + actual_RC, 1)
        with np.errstate(invalid="ignore"):
            scores: Scores = (f1_RC * actual_RC).sum(axis=1) / actual_RC.sum(axis=1)
        return scores
