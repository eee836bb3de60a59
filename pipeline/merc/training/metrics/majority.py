"""The scores of always predicting the train split's most frequent class; compare every result with it."""

import numpy as np
from numpy.typing import NDArray

from merc.training.metrics.accuracy import accuracy
from merc.training.metrics.weighted_f1 import weighted_f1


def majority(train_labels: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> dict[str, float]:
    """``accuracy`` n/N and ``weighted_f1`` 2(n/N)²/(1 + n/N) on ``labels``, n of whose N utterances have the majority
    class.

    Args:
        train_labels: labelled utterances of the train split; in case of ties, the first class is used.
        labels: labelled utterances of the scored split.
        classes: number of classes.
    """
    guess = np.full_like(labels, np.bincount(train_labels, minlength=classes).argmax())
    return {"accuracy": accuracy(labels, guess), "weighted_f1": weighted_f1(labels, guess, classes)}
