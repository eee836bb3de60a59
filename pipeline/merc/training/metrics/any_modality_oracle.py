"""The score of a perfect choice among the modalities: an utterance counts as right if any single modality predicts it
correctly.

A diagnostic (Xie et al., DCLF, COLING 2025, introduction), not a score: it looks at the labels.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from merc.training.metrics.accuracy import accuracy
from merc.training.metrics.weighted_f1 import weighted_f1


def any_modality_oracle(
    labels: NDArray[np.int64], by_modality: Mapping[str, NDArray[np.int64]], otherwise: NDArray[np.int64], classes: int
) -> dict[str, float]:
    """``accuracy`` and ``weighted_f1`` of the oracle.

    Args:
        labels: [N], labelled utterances.
        by_modality: modality → [N], predictions of its own logits.
        otherwise: [N], the fused prediction, used if no modality is right.
        classes: number of classes.

    Raises:
        ValueError: if there is no modality, or lengths differ.

    Example:
        >>> labels, text, audio = np.array([0, 1, 1]), np.array([0, 0, 0]), np.array([1, 1, 0])
        >>> any_modality_oracle(labels, {"text": text, "audio": audio}, text, 2)["accuracy"] == 2 / 3
        True
    """
    if not by_modality:
        raise ValueError("there is no modality to choose from")
    lengths = {name: len(predicted) for name, predicted in by_modality.items()}
    if set(lengths.values()) != {len(labels)}:
        raise ValueError(f"{len(labels)} labels, and predictions of {lengths}")
    right = np.any([predicted == labels for predicted in by_modality.values()], axis=0)
    chosen = np.where(right, labels, otherwise)
    return {"accuracy": accuracy(labels, chosen), "weighted_f1": weighted_f1(labels, chosen, classes)}
