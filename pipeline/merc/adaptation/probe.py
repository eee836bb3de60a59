"""A linear classifier fitted to the vectors of the untouched encoder, for a fine-tuning to start with.

A classifier with random weights sends gradients into the encoder that have little to do with the task, and distorts it
before the classifier is any good. Source: Kumar et al., Fine-tuning can distort pretrained features and underperform
out-of-distribution, ICLR 2022 (LP-FT).

Legend: N utterances, D features, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # required by scikit-learn

from merc.adaptation.scoring import scores
from merc.encoders.engine.base import Encoded
from merc.errors import BadSettings

# Inverse strengths of the L2 penalty, the strongest first.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_ITERATIONS = 1000
# Logit of a class without train utterances: below all others, and within the range of 16 bits.
NEVER = -1e4


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted classifier; its logits are ``vectors @ weight.T + bias``.

    Attributes:
        weight: (C, D) float32.
        bias: (C,) float32.
        strength: the one of :data:`STRENGTHS` that was chosen.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    strength: float


def fit(
    train: Encoded, train_labels: NDArray[np.int64], dev: Encoded, dev_labels: NDArray[np.int64], classes: int
) -> Probe:
    """Logistic regression on standardised vectors; the standardisation is part of the weights that are returned.

    Args:
        train: vectors of the train split; those that are absent are left out.
        train_labels: (N,) 0 … classes - 1.
        dev: vectors of the dev split, by whose weighted F1 the strength is chosen, with the stronger penalty in case of
            ties; those that are absent count with their zero vectors, as in every score of a fine-tuning.
        dev_labels: (N,).
        classes: number of classes; the logit of one that no train vector has is :data:`NEVER`.

    Raises:
        BadSettings: if the train vectors do not have two classes.
    """
    vectors_ND, labels_N = train.embeddings[train.present].astype(np.float64), train_labels[train.present]
    found = np.unique(labels_N)
    if len(found) < 2:
        raise BadSettings(
            f"adaptation: head_start probe needs two classes or more among the {len(labels_N)} labelled train"
            f" utterances that have a vector, and there are {len(found)}; use head_start random"
        )
    with threadpool_limits(1, user_api="blas"):  # sums depend on the number of threads
        scaler = StandardScaler().fit(vectors_ND)
        standardised_ND = scaler.transform(vectors_ND)
        probes = [_fitted(standardised_ND, labels_N, found, scaler, classes, strength) for strength in STRENGTHS]
        return max(probes, key=lambda one: _weighted_f1(one, dev.embeddings, dev_labels))


def _fitted(
    standardised_ND: NDArray[np.float64],
    labels_N: NDArray[np.int64],
    found: NDArray[np.int64],
    scaler: StandardScaler,
    classes: int,
    strength: float,
) -> Probe:
    model = LogisticRegression(C=strength, max_iter=_ITERATIONS).fit(standardised_ND, labels_N)
    coefficients_KD, intercepts_K = model.coef_, model.intercept_
    if len(found) == 2:  # one logit, of the second class against the first
        coefficients_KD = np.concatenate([-coefficients_KD, coefficients_KD]) / 2
        intercepts_K = np.concatenate([-intercepts_K, intercepts_K]) / 2
    folded_KD = coefficients_KD / scaler.scale_
    weight_CD = np.zeros((classes, standardised_ND.shape[1]), dtype=np.float32)
    bias_C = np.full(classes, NEVER, dtype=np.float32)
    weight_CD[found], bias_C[found] = folded_KD, intercepts_K - folded_KD @ scaler.mean_
    return Probe(weight_CD, bias_C, strength)


def _weighted_f1(probe: Probe, vectors_ND: NDArray[np.float32], labels_N: NDArray[np.int64]) -> float:
    predicted_N = (vectors_ND @ probe.weight.T + probe.bias).argmax(axis=1)
    return scores(labels_N, predicted_N, len(probe.bias))["weighted_f1"]
