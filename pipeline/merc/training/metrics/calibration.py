"""Whether a model's confidence matches its accuracy (Guo et al., On Calibration of Modern Neural Networks, ICML 2017).

The confidence of an utterance is the probability of the predicted class. A temperature, by which logits are divided,
is chosen on dev; it changes no label.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]

_HIGHEST_TEMPERATURE = 50.0
_SMALLEST = float(np.finfo(np.float32).tiny)  # values that float32 has rounded to 0 were not larger


def reliability(labels: Labels, probabilities: Probabilities, bins: int) -> list[dict[str, float | int | None]]:
    """The reliability curve: for each of ``bins`` equal ranges of confidence (low, high] its ``low``, ``high``, number
    of utterances (``support``), and their mean ``confidence`` and ``accuracy``, None if the range is empty.

    Args:
        labels: [N], labelled utterances.
        probabilities: [N, C].
        bins: number of ranges from 0 to 1.

    Raises:
        ValueError: if the two differ in length.
    """
    _check(labels, probabilities)
    confidence, right = probabilities.max(axis=1, initial=0.0), probabilities.argmax(axis=1) == labels
    places = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    support, confident, correct = (
        np.bincount(places, weights=one, minlength=bins) for one in (np.ones(len(labels)), confidence, right)
    )
    return [
        {
            "low": place / bins,
            "high": (place + 1) / bins,
            "support": int(count),
            "confidence": float(confident[place] / count) if count else None,
            "accuracy": float(correct[place] / count) if count else None,
        }
        for place, count in enumerate(support)
    ]


def expected_calibration_error(labels: Labels, probabilities: Probabilities, bins: int) -> float:
    """Mean over the utterances of the gap between accuracy and confidence in their range of :func:`reliability`, 0 to
    1.

    Raises:
        ValueError: if the two differ in length, or there is no utterance.

    Example:
        >>> expected_calibration_error(np.array([0, 1]), np.array([[0.75, 0.25], [0.75, 0.25]]), 10)
        0.25
    """
    _check(labels, probabilities)
    if not len(labels):
        raise ValueError("there is no utterance")
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    places = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(places, weights=right - confidence, minlength=bins)).sum() / len(labels))


def negative_log_likelihood(labels: Labels, probabilities: Probabilities) -> float:
    """Mean of -log p of the true classes. Raises ``ValueError`` if the two differ in length, or there is no
    utterance.
    """
    _check(labels, probabilities)
    if not len(labels):
        raise ValueError("there is no utterance")
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], _SMALLEST)).mean())


def tempered(probabilities: Probabilities, temperature: float) -> Probabilities:
    """The probabilities [N, C] of the same logits, divided by a temperature; 1 changes nothing, higher values reduce
    the confidence.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST)) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    made: Probabilities = raised / raised.sum(axis=1, keepdims=True)
    return made


def best_temperature(labels: Labels, probabilities: Probabilities) -> float:
    """The temperature, 0.02 to 50, with the lowest negative log likelihood; to be chosen on dev.

    Raises:
        ValueError: if the two differ in length, or there is no utterance.
    """
    negative_log_likelihood(labels, probabilities)  # checks them
    bound = math.log(_HIGHEST_TEMPERATURE)
    # Convex in 1 / T, and so with one minimum in log T.
    found = minimize_scalar(
        lambda log: negative_log_likelihood(labels, tempered(probabilities, math.exp(log))),
        bounds=(-bound, bound),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(math.exp(found.x))


def _check(labels: Labels, probabilities: Probabilities) -> None:
    if probabilities.ndim != 2 or len(labels) != len(probabilities):
        raise ValueError(f"{len(labels)} labels, and probabilities {probabilities.shape}")
