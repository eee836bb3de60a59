"""What an evaluation must offer: a new one is one file in ``protocols/`` or ``comparisons/``, with its settings as a
nested ``Config``, and its test.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from merc import files, parquet
from merc.evaluation.engine.runs import Run
from merc.params import Settings

SCORES = "scores.json"


@dataclass(frozen=True, kw_only=True)
class Found:
    """The result of an evaluation.

    Attributes:
        scores: JSON-able, without NaN; becomes ``scores.json``.
        tables: name → table; becomes ``<name>.parquet``.
    """

    scores: dict[str, Any]
    tables: dict[str, pa.Table] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes each file, completely or not at all."""
        for name, table in self.tables.items():
            parquet.write(folder / f"{name}.parquet", table)
        files.write_json(folder / SCORES, self.scores)


class _Evaluation(ABC):
    """The common base of both kinds.

    Args:
        config: an instance of the class's ``Config``.
    """

    Config: ClassVar[type[Settings]]
    """The settings, a class nested in the evaluation; the block ``evaluation.<name>``. Every field has a default."""
    VERSION: ClassVar[int] = 1
    """Incremented when the same settings give different numbers."""

    def __init__(self, config: Any) -> None:
        self.config = config


class Protocol(_Evaluation):
    """One way to evaluate a finished run."""

    def lacks(self, run: Run) -> str:
        """Why this cannot be applied to a run, in a few words, such as ``the recipe sees one modality``; empty if it
        can. Reads little.
        """
        return ""

    def inputs(self, run: Run) -> dict[str, Any]:
        """What determines the result in addition to the run: JSON-able hashes of whatever else is read."""
        return {}

    @abstractmethod
    def evaluate(self, run: Run) -> Found:
        """Evaluates all seeds of a run.

        Raises:
            BadTable: if a file of the run or of its shards is missing, damaged, or from other work.
        """


class Comparison(_Evaluation):
    """One way to compare the finished runs of a dataset; it uses only what they recorded."""

    @abstractmethod
    def compare(self, runs: Sequence[Run]) -> Found:
        """Compares runs, at least one.

        Raises:
            BadTable: if a file of a run is missing or damaged.
            BadSettings: if the settings name a recipe that is not among them.
        """
