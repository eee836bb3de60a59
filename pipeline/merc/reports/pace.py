"""The duration of an epoch of a recipe, from the times next to the runs (:mod:`merc.timing`), or why it is unknown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merc import files, timing
from merc.errors import BadTable
from merc.reports.results import Recipe

_WAYS = "training, and scoring dev and test; the median over the epochs, the mean over the seeds"
_UNKNOWN = "not timed: trained elsewhere, or before times were kept"


@dataclass(frozen=True)
class Pace:
    """The duration of an epoch.

    Attributes:
        seconds: elapsed time; None if no seed has times.
        words: what was measured and where, or why there is nothing.
    """

    seconds: float | None
    words: str

    def __str__(self) -> str:
        return "–" if self.seconds is None else seconds(self.seconds)


NOTHING = Pace(None, _UNKNOWN)


def seconds(value: float) -> str:
    """Three significant digits for numbers with a fraction.

    >>> [seconds(one) for one in (1234.5, 123.4, 12.34, 1.234, 0.01234)]
    ['1,234', '123', '12.3', '1.23', '0.012']
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.3f}"


def read_pace(runs: Path, recipe: Recipe, record: Mapping[str, Any]) -> Pace:
    """The pace of a recipe, from the seeds that have times; problems with the times are not errors.

    Args:
        runs: the folder of all runs.
        recipe: name of the recipe.
        record: record of its training; times that belong to another one are left out.
    """
    found, wrong = [], {}
    for seed in recipe.seeds:
        try:
            found.append(_read(timing.path_of(runs, recipe.dataset, recipe.recipe, seed), record.get("fingerprint")))
        except (BadTable, OSError) as error:
            wrong[seed] = str(error)
    if not found:
        return Pace(None, next(iter(wrong.values())))
    mean = sum(one.wall_seconds for one in found) / len(found)
    return Pace(mean, _words(found, wrong))


def _read(path: Path, fingerprint: str | None) -> timing.Times:
    """Raises ``BadTable`` with the reason if there are no times of this training."""
    if not path.exists():
        raise BadTable(_UNKNOWN)
    times = timing.Times(**files.read_record(path, timing.Times, "the times of a seed"))
    if times.fingerprint != fingerprint:
        raise BadTable("not timed: the existing times belong to another training of this recipe")
    return times


def _words(found: Sequence[timing.Times], wrong: Mapping[str, str]) -> str:
    cpu = sum(one.cpu_seconds for one in found) / len(found)
    where = dict.fromkeys(f"{one.device}, {one.threads} thread{'s' if one.threads != 1 else ''}" for one in found)
    without = [f"seed {seed} {why}" for seed, why in wrong.items()]
    return "; ".join([f"wall-clock time; {seconds(cpu)} of processor time", _WAYS, *where, *without])
