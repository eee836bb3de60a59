"""F1 averaged over classes, with equal weights."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score


def macro_f1(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> float:
    """Mean of F1 over all ``classes``, including those that do not occur (F1 0). Arguments as in
    :func:`~merc.training.metrics.weighted_f1.weighted_f1`.
    """
    return float(f1_score(labels, predicted, labels=range(classes), average="macro", zero_division=0))
