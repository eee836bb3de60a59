"""Share of utterances that are right; in this field also called WA, since it is the support-weighted mean of the
recalls.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score


def accuracy(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Accuracy over labelled utterances, 0 to 1. Raises ``ValueError`` if the two differ in length or are empty."""
    return float(accuracy_score(labels, predicted))
