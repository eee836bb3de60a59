"""Scores of several seeds: each, their mean and their standard deviation, in the form of a run's ``results.json``."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Tree = Mapping[str, Any]
"""Scores by name, in mappings of mappings; a score that does not exist is None."""


def over_seeds(found: Mapping[int, Tree]) -> dict[str, Any]:
    """``seeds`` (seed → its scores), and ``mean`` and ``std`` (ddof 1; None for one seed) of the same form; None if a
    seed has no such score.

    Args:
        found: seed → its scores, all of the same form.

    Example:
        >>> over_seeds({0: {"f1": 0.5}, 1: {"f1": 0.75}})["mean"]
        {'f1': 0.625}
    """
    trees = list(found.values())
    return {
        "seeds": {str(seed): tree for seed, tree in found.items()},
        "mean": _leaf_by_leaf(trees, statistics.fmean),
        "std": _leaf_by_leaf(trees, _deviation),
    }


def _leaf_by_leaf(trees: Sequence[Any], of: Callable[[Sequence[float]], float | None]) -> Any:
    if isinstance(trees[0], Mapping):
        return {name: _leaf_by_leaf([tree[name] for tree in trees], of) for name in trees[0]}
    return None if None in trees else of(trees)


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
