import numpy as np
import pytest

from merc.training.metrics.any_modality_oracle import any_modality_oracle
from merc.training.metrics.weighted_f1 import weighted_f1

LABELS = np.array([0, 1, 2, 2, 1])
BY_MODALITY = {"text": np.array([0, 0, 0, 2, 0]), "audio": np.array([1, 1, 1, 1, 0])}
FUSED = np.array([1, 1, 1, 1, 2])


def test_it_is_right_where_any_modality_is_and_says_what_the_fusion_says_elsewhere():
    found = any_modality_oracle(LABELS, BY_MODALITY, FUSED, 3)
    assert found == {"accuracy": 3 / 5, "weighted_f1": weighted_f1(LABELS, np.array([0, 1, 1, 2, 2]), 3)}


def test_it_is_never_below_a_modality():
    found = any_modality_oracle(LABELS, BY_MODALITY, FUSED, 3)
    assert all(found["accuracy"] >= np.mean(predicted == LABELS) for predicted in BY_MODALITY.values())


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="no modality"):
        any_modality_oracle(LABELS, {}, FUSED, 3)
    with pytest.raises(ValueError, match=r"5 labels, and predictions of \{'text': 4\}"):
        any_modality_oracle(LABELS, {"text": FUSED[:4]}, FUSED, 3)
