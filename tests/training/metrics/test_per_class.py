import numpy as np

from merc.training.metrics.per_class import confusion, per_class

ACTUAL, PREDICTED = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0])


def test_each_class_has_its_four_figures():
    assert per_class(ACTUAL, PREDICTED, ("neutral", "joy", "anger")) == {
        "neutral": {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3},
        "joy": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2},
        "anger": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0},
    }


def test_rows_of_the_confusion_matrix_are_actual_classes():
    assert confusion(ACTUAL, PREDICTED, 3) == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
