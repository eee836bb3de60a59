"""The K nearest dialogues by exact similarity: best first, ties by id, never the dialogue itself.

Dialogues with the same description are searched for once: many short dialogues are "neutral, neutral". The order of
equally similar descriptions is that of their first members by id, since no other member can come before another
description's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merc.trajectories.base import Comparison, Similarity
from merc.trajectories.search import STEPS, best_of_each
from merc.trajectories.trajectory import Labels


@dataclass(frozen=True)
class Neighbours:
    """Nearest dialogues of one dialogue.

    Attributes:
        ids: best first.
        similarities: (neighbours,) float32, rounded to six decimals.
    """

    ids: tuple[str, ...]
    similarities: NDArray[np.float32]


NONE = Neighbours((), np.empty(0, np.float32))


def nearest(
    ids: Sequence[str],
    trajectories: Sequence[Labels],
    similarity: Similarity,
    *,
    classes: int,
    neighbours: int,
    scenarios: Sequence[str] | None = None,
) -> list[Neighbours]:
    """Finds each dialogue's nearest among the others.

    Args:
        ids: unique dialogue ids.
        trajectories: one per id, without unlabelled utterances; a dialogue with an empty trajectory has no neighbours
            and is not a neighbour of any.
        similarity: how to compare.
        classes: number of classes C.
        neighbours: K, at least 1; fewer are returned if there are fewer candidates.
        scenarios: dialogues with the same non-empty scenario are not neighbours of each other. None: they may be.

    Returns:
        In the order of ``ids``.

    Raises:
        ValueError: if ids repeat, or the numbers of ids and trajectories differ.
    """
    if len(ids) != len(trajectories):
        raise ValueError(f"{len(ids)} dialogue ids for {len(trajectories)} trajectories")
    there = [index for index, trajectory in enumerate(trajectories) if len(trajectory)]
    found = [NONE] * len(ids)
    if not there:
        return found
    described = similarity.describe([trajectories[index] for index in there], classes)
    names = None if scenarios is None else [scenarios[index] for index in there]
    for index, one in zip(
        there,
        nearest_described(
            [ids[index] for index in there], described, similarity, neighbours=neighbours, scenarios=names
        ),
        strict=True,
    ):
        found[index] = one
    return found


def nearest_described(
    ids: Sequence[str],
    described: NDArray[Any],
    by: Comparison,
    *,
    neighbours: int,
    scenarios: Sequence[str] | None = None,
) -> list[Neighbours]:
    """The same for dialogues with existing descriptions: see :func:`nearest`.

    Raises:
        ValueError: if ids repeat.
    """
    if len(set(ids)) != len(ids):
        raise ValueError("dialogue ids repeat")
    by_id = sorted(range(len(ids)), key=lambda index: ids[index])
    members = _members(described, by_id, scenarios)
    firsts = np.array([some[0] for some in members], np.int64)
    groups = None if scenarios is None else _numbers([scenarios[index] for index in firsts])
    # One slot for each unit's members, best first; the unit itself is included with similarity 1.
    columns, steps = best_of_each(described[firsts], by, neighbours, groups)
    rank = np.empty(len(ids), np.int64)
    rank[by_id] = np.arange(len(ids))
    found = [NONE] * len(ids)
    for unit, some in enumerate(members):
        barred = groups is not None and groups[unit] >= 0
        taken = [] if barred else [(-STEPS, rank[member], member) for member in some[: neighbours + 1]]
        for column, value in zip(columns[unit].tolist(), steps[unit].tolist(), strict=True):
            if column < 0:
                break
            taken += [(-value, rank[member], member) for member in members[column][:neighbours]]
        taken.sort()
        for member in some:
            chosen = [one for one in taken[: neighbours + 1] if one[2] != member][:neighbours]
            values = np.array([-value for value, _, _ in chosen], np.float64)
            found[member] = Neighbours(tuple(ids[other] for _, _, other in chosen), (values / STEPS).astype(np.float32))
    return found


def _members(described: NDArray[Any], by_id: Sequence[int], scenarios: Sequence[str] | None) -> list[list[int]]:
    """The dialogues of each distinct description (and scenario), by id; the descriptions by their first id."""
    units: dict[tuple[str | bytes, str], list[int]] = {}
    strings = described.dtype == object
    for index in by_id:
        description = described[index] if strings else blake2b(described[index], digest_size=16).digest()
        units.setdefault((description, scenarios[index] if scenarios is not None else ""), []).append(index)
    return list(units.values())


def _numbers(scenarios: Sequence[str]) -> NDArray[np.int64]:
    """A number for each scenario; -1 for the empty one."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(scenarios))}
    return np.array([numbers[name] if name else -1 for name in scenarios], np.int64)
