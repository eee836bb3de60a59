import numpy as np
import pytest

from merc.training.metrics.majority import majority

# Test utterances per class; closed forms: accuracy n/N, weighted F1 2(n/N)²/(1 + n/N).
MELD = [1256, 281, 50, 208, 402, 68, 345]
IEMOCAP6 = [144, 245, 384, 170, 299, 381]
IEMOCAP4 = [144, 245, 384, 170]


@pytest.mark.parametrize(
    ("test_counts", "train_majority", "accuracy", "weighted_f1"),
    [(MELD, 0, 48.12, 31.27), (IEMOCAP6, 2, 23.66, 9.05), (IEMOCAP4, 2, 40.72, 23.57)],
)
def test_saying_neutral_scores_what_the_closed_form_says(test_counts, train_majority, accuracy, weighted_f1):
    labels = np.repeat(np.arange(len(test_counts)), test_counts)
    found = majority(np.array([train_majority, train_majority, 1]), labels, len(test_counts))
    assert {name: round(100 * value, 2) for name, value in found.items()} == {
        "accuracy": accuracy,
        "weighted_f1": weighted_f1,
    }


def test_the_majority_is_that_of_train_not_of_what_is_scored():
    assert majority(np.array([1, 1, 0]), np.array([0, 0, 0, 1]), 2)["accuracy"] == 0.25


def test_of_equally_frequent_classes_the_first_is_said():
    assert majority(np.array([1, 0]), np.array([0, 0, 1]), 2)["accuracy"] == pytest.approx(2 / 3)
