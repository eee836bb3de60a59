"""Reports a training to a program that shows it while it runs, without changing a byte of the run.

runs/.follow/<dataset>/<recipe>/seed-<n>/<follower>/    what a follower writes, restarted whenever the seed is

A new follower is one file in ``following``, named like the distribution that it needs and the extra that installs it,
and its test.
"""

import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merc import extras, files, plugins
from merc.errors import BadSettings, nearest

FOLLOWERS = "merc.training.following"
FOLDER = ".follow"
Tell = Callable[[Mapping[str, Any]], None]
"""Takes a row of a seed's history."""
_WHEN = ("seed", "phase", "epoch")


@dataclass(frozen=True)
class Followed:
    """The seed that is followed."""

    dataset: str
    recipe: str
    seed: int

    def __str__(self) -> str:
        return f"{self.recipe} on {self.dataset}, seed {self.seed}"

    def folder(self, runs: Path) -> Path:
        """The folder that followers write to, next to the runs, whose bytes are the same with and without followers."""
        return runs / FOLDER / self.dataset / self.recipe / f"seed-{self.seed}"


class Follower(ABC):
    """Receives one seed's training, epoch by epoch, in the process that trains it.

    Args:
        folder: its own empty folder, to which it may write.
        followed: which seed it is.
    """

    @abstractmethod
    def __init__(self, folder: Path, followed: Followed) -> None: ...

    @abstractmethod
    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """Takes an epoch's losses and scores; ``step`` counts the epochs of the seed from 1, over all phases."""

    @abstractmethod
    def end(self) -> None:
        """The seed is done, or its training was aborted."""


def check(names: Sequence[str]) -> None:
    """Raises ``BadSettings`` if one of the followers is unknown, ``MissingExtra`` if it is not installed; imports none
    of them.
    """
    there = plugins.names(FOLLOWERS)
    for name in names:
        if name not in there:
            raise BadSettings(f"follow: no {name!r}; {nearest(name, there)}")
        extras.need(name, f"--follow {name}")


@contextmanager
def following(names: Sequence[str], runs: Path, followed: Followed) -> Iterator[Tell]:
    """Yields a function that passes a seed's rows to every named follower, until the end or an error.

    Args:
        names: names of installed followers; empty: nothing is written.
        runs: the folder of all runs.
        followed: the seed.
    """
    with ExitStack() as stack:
        followers = [_begun(name, followed.folder(runs) / name, followed, stack) for name in names]
        done = 0

        def tell(row: Mapping[str, Any]) -> None:
            nonlocal done
            done += 1
            for follower in followers:
                follower.epoch(done, _values(row))

        yield tell


def _begun(name: str, folder: Path, followed: Followed, stack: ExitStack) -> Follower:
    with files.writing(folder):
        shutil.rmtree(folder, ignore_errors=True)  # from a killed training, or from another one
        folder.mkdir(parents=True)
    follower = plugins.load(FOLLOWERS, name, Follower)(folder, followed)  # type: ignore[type-abstract]
    stack.callback(follower.end)
    return follower


def _values(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row, by name; prefixed with the name of the phase, if there is one.

    >>> _values({"seed": 0, "phase": "teacher", "epoch": 3, "train_loss": 0.5, "focal_share": None})
    {'teacher/train_loss': 0.5}
    """
    phase = f"{row['phase']}/" if "phase" in row else ""
    return {
        f"{phase}{name}": float(value)
        for name, value in row.items()
        if name not in _WHEN and value is not None and math.isfinite(value)
    }
