"""The main metric of the field: F1 per class, weighted by the class's number of utterances."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score


def weighted_f1(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> float:
    """Σ n_c · F1_c / N over the concatenated labelled utterances of a split; a class never predicted has F1 0.

    Args:
        labels: [N], 0 … classes - 1; unlabelled utterances and padding must be removed.
        predicted: [N].
        classes: number of classes; those that do not occur do not count.

    Raises:
        ValueError: if there is no utterance or the two differ in length.
    """
    return float(f1_score(labels, predicted, labels=range(classes), average="weighted", zero_division=0))
