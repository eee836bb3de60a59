"""Precision, recall, F1 and support of each class, and the confusion matrix."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support


def per_class(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: Sequence[str]
) -> dict[str, dict[str, float | int]]:
    """Class name → ``precision``, ``recall``, ``f1`` (0 where undefined) and ``support``."""
    columns = precision_recall_fscore_support(labels, predicted, labels=range(len(classes)), zero_division=0)
    return {
        name: {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}
        for name, precision, recall, f1, support in zip(classes, *columns, strict=True)
    }


def confusion(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> list[list[int]]:
    """Rows: actual class, columns: predicted class."""
    matrix: list[list[int]] = confusion_matrix(labels, predicted, labels=range(classes)).tolist()
    return matrix
