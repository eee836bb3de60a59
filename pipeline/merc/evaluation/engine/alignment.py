"""Whether dialogues that are close in a model's space have similar emotion trajectories: TA@K and RSA.

Both compare features of N dialogues with a similarity of their trajectories (:mod:`merc.trajectories`). Pairs from one
scenario can be left out, since such dialogues of IEMOCAP share their text; so can pairs of different length, since long
dialogues may be close because they are long, and have similar trajectories for the same reason.
"""

import numpy as np
from numpy.typing import NDArray

from merc.trajectories.controls import partial_correlation, spearman

Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]


def cosines(features: Matrix) -> Matrix:
    """[N, N] cosines of the rows [N, D], 0 for rows of zeros."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions = features / np.where(lengths > 0, lengths, 1)
    made: Matrix = directions @ directions.T
    return made


def length_nearness(sizes: NDArray[np.int64]) -> Matrix:
    """[N, N], the negated difference in length: nearness if only length counted.

    Args:
        sizes: [N], utterances of each dialogue.
    """
    made: Matrix = -np.abs(sizes[:, None] - sizes).astype(np.float64)
    return made


def like_length(sizes: NDArray[np.int64], share: float) -> Mask:
    """[N, N], whether the shorter of two dialogues has at least this share of the utterances of the longer one.

    Args:
        sizes: [N], utterances of each dialogue, at least 1.
        share: 0 to 1; 1 means equal length.

    Example:
        >>> like_length(np.array([4, 5, 10]), 0.8)[0].tolist()
        [True, True, False]
    """
    alike: Mask = np.minimum(sizes[:, None], sizes) / np.maximum(sizes[:, None], sizes) >= share
    return alike


def alignment_at_k(nearness: Matrix, similarity: Matrix, allowed: Mask, k: int) -> dict[str, float | None]:
    """TA@K, the mean similarity of the K nearest dialogues, on a scale from that of all dialogues (0) to that of the K
    most similar ones (1).

    Args:
        nearness: [N, N], such as :func:`cosines`; in case of ties, the first dialogues count.
        similarity: [N, N], of the trajectories.
        allowed: [N, N], which dialogue (column) may be a neighbour of which (row), never of itself. A dialogue with
            fewer than K has all of them; one with none is left out.
        k: K.

    Returns:
        ``ta``, None if the two ends of the scale are equal, and ``found``, ``random`` and ``oracle``, None if there is
        no pair.

    Example:
        >>> near, alike = np.array([[1, 0.9, 0.1], [0.9, 1, 0], [0.1, 0, 1]]), np.array([[1, 0.8, 0.2], [0.8, 1, 0.2], [0.2, 0.2, 1]])
        >>> alignment_at_k(near, alike, ~np.eye(3, dtype=bool), 1)["ta"]
        1.0
    """  # noqa: E501
    some = allowed.any(axis=1)
    if not some.any():
        return dict.fromkeys(("ta", "found", "random", "oracle"))
    similarity, allowed, counts = similarity[some], allowed[some], allowed[some].sum(axis=1)
    chosen = np.arange(similarity.shape[1]) < np.minimum(k, counts)[:, None]
    found, oracle = (_mean_of(similarity, _order(by, allowed), chosen) for by in (nearness[some], similarity))
    random = float((np.where(allowed, similarity, 0).sum(axis=1) / counts).mean())
    room = oracle - random
    return {"ta": (found - random) / room if room > 1e-12 else None, "found": found, "random": random, "oracle": oracle}


def representational_similarity(
    nearness: Matrix, similarity: Matrix, allowed: Mask, sizes: NDArray[np.int64]
) -> dict[str, float | None]:
    """RSA: the rank correlation of nearness and similarity over the allowed pairs.

    Args:
        nearness: [N, N].
        similarity: [N, N].
        allowed: [N, N].
        sizes: [N], utterances of each dialogue.

    Returns:
        ``rsa``, and ``rsa_given_length``, the partial correlation given the difference in length; None if undefined.
    """
    some, others = np.nonzero(np.triu(allowed, 1))
    near, alike, length = (values[some, others] for values in (nearness, similarity, length_nearness(sizes)))
    correlation = spearman(near, alike)
    return {
        "rsa": correlation,
        "rsa_given_length": partial_correlation(correlation, spearman(near, length), spearman(alike, length)),
    }


def _order(by: Matrix, allowed: Mask) -> NDArray[np.int64]:
    """[M, N], for each row the allowed columns first, by decreasing value."""
    order: NDArray[np.int64] = np.argsort(np.where(allowed, -by, np.inf), axis=1, kind="stable")
    return order


def _mean_of(similarity: Matrix, order: NDArray[np.int64], chosen: Mask) -> float:
    """Mean over the rows of the mean of their first values."""
    values = np.take_along_axis(similarity, order, axis=1)
    return float((np.where(chosen, values, 0).sum(axis=1) / chosen.sum(axis=1)).mean())
