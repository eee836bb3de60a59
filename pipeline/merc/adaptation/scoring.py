"""The scores of a fine-tuning."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score


def scores(labels_N: NDArray[np.int64], predicted_N: NDArray[np.int64], classes: int) -> dict[str, float]:
    """``weighted_f1`` (Σ n_c · F1_c / N) and ``accuracy`` of labelled utterances.

    Args:
        labels_N, predicted_N: 0 … classes - 1.
        classes: number of classes.
    """
    weighted_f1 = f1_score(labels_N, predicted_N, labels=range(classes), average="weighted", zero_division=0)
    return {"weighted_f1": float(weighted_f1), "accuracy": float(accuracy_score(labels_N, predicted_N))}
