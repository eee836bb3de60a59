"""What else could explain the similarity of two dialogues: the emotions in them, their lengths, a shared script."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merc.trajectories.base import Comparison, Similarity
from merc.trajectories.trajectory import Labels

# Number of pairs compared at once: few enough for the processor's cache.
_PAIRS = 4096


def order_excess(
    trajectories: Sequence[Labels],
    classes: int,
    similarity: Similarity,
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    permutations: int,
    seed: int,
) -> NDArray[np.float32]:
    """How much of a similarity the order of the emotions explains: κ = (s - E s') / (1 - E s').

    s' is the similarity after shuffling the labels of both dialogues independently; E is the mean over the shuffles. κ
    is 1 if the trajectories are equal, about 0 if they agree no more than their composition implies, and 0 if every
    shuffle leaves them equal.

    Args:
        trajectories: those of N dialogues, none empty.
        classes: number of classes C.
        similarity: an order-sensitive one.
        pairs: indices of the dialogues of P pairs.
        permutations: number of shuffles.
        seed: of the shuffles.

    Returns:
        (P,) float32, rounded to six decimals.
    """
    if not len(pairs[0]):
        return np.empty(0, np.float32)
    lengths = np.array([len(one) for one in trajectories], np.int64)
    owner, ends = np.repeat(np.arange(len(trajectories)), lengths), np.cumsum(lengths)[:-1]
    labels = np.concatenate([np.empty(0, np.int16), *trajectories])
    generator = np.random.default_rng(seed)
    shuffled = np.zeros(len(pairs[0]))
    for _ in range(permutations):
        order = np.lexsort((generator.random(len(labels)), owner))
        shuffled += compare_pairs(similarity, similarity.describe(np.split(labels[order], ends), classes), pairs)
    expected = shuffled / permutations
    actual = compare_pairs(similarity, similarity.describe(trajectories, classes), pairs)
    # All shuffles equal to a millionth of a millionth: float noise, not order.
    room = 1 - expected
    kappa = np.divide(actual - expected, room, out=np.zeros_like(room), where=room > 1e-12)
    return kappa.round(6).astype(np.float32)


def compare_pairs(
    by: Comparison, described: NDArray[Any], pairs: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> NDArray[np.float64]:
    """The similarities of the pairs, (P,), computed this many at a time."""
    some, others = pairs
    parts = [
        by.pairs(described[some[at : at + _PAIRS]], described[others[at : at + _PAIRS]])
        for at in range(0, len(some), _PAIRS)
    ]
    return np.concatenate([np.empty(0), *parts])


def sample_pairs(number: int, limit: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of different dialogues i < j: all of them, or ``limit`` drawn at random with replacement.

    Args:
        number: number of dialogues.
        limit: maximum number of pairs.
        seed: seed of the draw.
    """
    if number * (number - 1) // 2 <= limit:
        some, others = np.triu_indices(number, 1)
        return some.astype(np.int64), others.astype(np.int64)
    generator = np.random.default_rng(seed)
    first = generator.integers(0, number, limit)
    second = (first + generator.integers(1, number, limit)) % number
    return np.minimum(first, second), np.maximum(first, second)


def spearman(some: NDArray[Any], others: NDArray[Any]) -> float | None:
    """Rank correlation, ties at their mean rank; None if either is constant or there are fewer than two values."""
    return _correlation(_ranks(some), _ranks(others))


def partial_correlation(
    some_others: float | None, some_given: float | None, others_given: float | None
) -> float | None:
    """The partial correlation of two variables given a third, from the three correlations; None if undefined."""
    if some_others is None or some_given is None or others_given is None:
        return None
    room = (1 - some_given**2) * (1 - others_given**2)
    return round((some_others - some_given * others_given) / float(np.sqrt(room)), 6) if room > 1e-12 else None


def pair_report(
    values: Mapping[str, NDArray[np.float64]],
    lengths: Sequence[int],
    scenarios: Sequence[str],
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> dict[str, Any]:
    """What the similarities of the same pairs of dialogues correlate with.

    Args:
        values: similarity → (P,).
        lengths: number of labelled utterances of each dialogue.
        scenarios: that of each dialogue, empty if there is none.
        pairs: indices of the dialogues of P pairs.

    Returns:
        ``pairs``; ``with_length``: similarity → rank correlation with -\\|ΔL\\|; ``between``: rank correlation of two
        similarities, ``plain`` and, as a partial correlation, ``given_length``, and both for ``other_scenario`` pairs
        only; ``scenarios``: ``same_pairs``, and similarity → mean of the ``same`` pairs and of the ``other`` ones. None
        means undefined.
    """
    some, others = pairs
    length, scenario = (
        np.array(lengths, np.int64),
        np.unique(np.array(scenarios, np.str_), return_inverse=True)[1].ravel(),
    )
    nearness = -np.abs(length[some] - length[others])
    has_one = np.array([bool(name) for name in scenarios], np.bool_)
    same = (scenario[some] == scenario[others]) & has_one[some]
    ranks, near = {name: _ranks(value) for name, value in values.items()}, _ranks(nearness)
    elsewhere = {name: _ranks(value[~same]) for name, value in values.items()} if same.any() else ranks
    with_length = {name: _correlation(rank, near) for name, rank in ranks.items()}
    between = {}
    for one, other in combinations(values, 2):
        plain = _correlation(ranks[one], ranks[other])
        between[f"{one}~{other}"] = {
            "plain": plain,
            "given_length": partial_correlation(plain, with_length[one], with_length[other]),
            "other_scenario": _correlation(elsewhere[one], elsewhere[other]),
        }
    means = {name: {"same": _mean(value[same]), "other": _mean(value[~same])} for name, value in values.items()}
    return {
        "pairs": len(some),
        "with_length": with_length,
        "between": between,
        "scenarios": {"same_pairs": int(same.sum()), "means": means},
    }


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Ranks centred at their mean, ties at their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[place] - (len(values) + 1) / 2
    return ranks


def _correlation(ranks: NDArray[np.float64], others: NDArray[np.float64]) -> float | None:
    size = float(np.sqrt((ranks @ ranks) * (others @ others)))
    return round(float(ranks @ others) / size, 6) if size > 0 else None


def _mean(values: NDArray[np.float64]) -> float | None:
    return round(float(values.mean()), 6) if len(values) else None
