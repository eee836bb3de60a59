"""Whether one recipe is better than another: over seeds, over dialogues, and with many comparisons in a table.

"Significant" is to be written only where the paired t-test over seeds, after Holm's correction, and the bootstrap over dialogues agree: the seeds say nothing
about the choice of test dialogues, of which IEMOCAP has but 31.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

Labels = NDArray[np.int64]

_ROUNDING = 1e-12  # scores lie between 0 and 1; what is smaller is no difference


def paired_t_test(first: Sequence[float], second: Sequence[float]) -> dict[str, float]:
    """Two-sided paired t-test of the scores of two recipes, seed by seed.

    Args:
        first: a score for each seed.
        second: the other recipe's, the same seeds in the same order.

    Returns:
        ``difference`` (mean of first - second), ``t``, ``p`` and ``degrees_of_freedom``. Where all differences are the same, ``t`` is infinite and ``p`` 0,
        or 0 and 1 if they are zero.

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
    labels: Labels, first: Labels, second: Labels, lengths: Labels, classes: int, *, resamples: int, confidence: float, seed: int
) -> dict[str, float]:
    """Interval of the difference in weighted F1, dialogues drawn with replacement; the same dialogues for both recipes and all seeds.

    Utterances of one dialogue are alike, so that whole dialogues are drawn. The difference is averaged over seeds within each resample.

    Args:
        labels: [N], all utterances of the split, -1 = unlabelled.
        first: [S, N], predictions of each seed.
        second: [S', N], the other recipe's.
        lengths: [K], utterances of each dialogue, in the order of the rows.
        classes: number of classes.
        resamples: how often the K dialogues are drawn.
        confidence: share of the resamples that the interval holds, such as 0.95.
        seed: of the draws.

    Returns:
        ``difference`` (first - second, on the split itself), ``low`` and ``high``, percentiles of the resamples.

    Raises:
        ValueError: if the lengths or predictions do not fit the labels, nothing is labelled, or the confidence does not lie between 0 and 1.
    """
    if lengths.sum() != len(labels) or first.shape[1:] != labels.shape or second.shape[1:] != labels.shape:
        raise ValueError(f"{len(labels)} labels, predictions {first.shape} and {second.shape}, and dialogues of {lengths.sum()} utterances together")
    if not (labels >= 0).any() or not 0 < confidence < 1:
        raise ValueError(f"nothing is labelled, or the confidence of {confidence} does not lie between 0 and 1")
    dialogues = np.repeat(np.arange(len(lengths)), lengths)
    times = np.random.default_rng(seed).multinomial(len(lengths), np.full(len(lengths), 1 / len(lengths)), size=resamples)
    once = np.ones((1, len(lengths)), dtype=times.dtype)
    drawn, whole = (
        _weighted_f1(labels, first, dialogues, classes, times_RK) - _weighted_f1(labels, second, dialogues, classes, times_RK) for times_RK in (times, once)
    )
    low, high = np.nanpercentile(drawn, [50 * (1 - confidence), 50 * (1 + confidence)])
    return {"difference": float(whole[0]), "low": float(low), "high": float(high)}


def significant(adjusted_p: float, low: float, high: float, *, level: float) -> bool:
    """Whether both tests agree: the corrected p lies below ``level`` and the interval does not hold 0."""
    return adjusted_p < level and not low <= 0 <= high


def _weighted_f1(labels: Labels, predicted_SN: Labels, dialogues: Labels, classes: int, times_RK: Labels) -> NDArray[np.float64]:
    """[R]: weighted F1, mean over seeds, with every dialogue counted so many times; NaN where nothing drawn is labelled."""
    kept = labels >= 0
    actual_RC = times_RK @ _counts(dialogues[kept], labels[kept], len(times_RK[0]), classes)
    total = np.zeros(len(times_RK))
    for predicted in predicted_SN[:, kept]:
        right = predicted == labels[kept]
        right_RC = times_RK @ _counts(dialogues[kept][right], predicted[right], len(times_RK[0]), classes)
        said_RC = times_RK @ _counts(dialogues[kept], predicted, len(times_RK[0]), classes)
        f1_RC = 2 * right_RC / np.maximum(said_RC + actual_RC, 1)
        with np.errstate(invalid="ignore"):
            total += (f1_RC * actual_RC).sum(axis=1) / actual_RC.sum(axis=1)
    return total / len(predicted_SN)


def _counts(dialogues: Labels, label: Labels, n_dialogues: int, classes: int) -> Labels:
    """[K, C]: how often each class occurs in each dialogue."""
    return np.bincount(dialogues * classes + label, minlength=n_dialogues * classes).reshape(n_dialogues, classes)
