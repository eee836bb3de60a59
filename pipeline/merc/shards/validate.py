"""Checks that a folder contains shards that satisfy the contract (:mod:`merc.shards.format.schema`), and reports all
problems at once.

Memory does not grow with the vectors: they are read one row group at a time. Ids, labels and flags are kept, about 50
bytes per utterance.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from merc.errors import BadTable
from merc.records.dialogue import SPLITS
from merc.shards.checks import failures, records, trajectories
from merc.shards.checks.dialogues import DialogueCheck, SeenSplit
from merc.shards.checks.problems import LISTED, UNREADABLE, Problems
from merc.shards.facts import Facts
from merc.shards.format import reader
from merc.shards.format.meta import STATS_SPLIT
from merc.shards.format.row_groups import TABLES, files_of


@dataclass
class Report:
    """The result of the check.

    Attributes:
        dialogues, utterances, files: numbers that were checked.
        problems: the problems found.
    """

    dialogues: int = 0
    utterances: int = 0
    files: int = 0
    problems: Problems = field(default_factory=Problems)

    @property
    def exit_code(self) -> int:
        """0 if nothing is wrong, 4 if something could not be read at all, else 1."""
        return BadTable.exit_code if self.problems.counts[UNREADABLE] else 1 if self.problems.counts.total() else 0


def validate(root: Path) -> Report:
    """Checks the shards in ``root``.

    Raises:
        BadTable: if it contains no shards, or shards of another schema version.
    """
    info = reader.info(root)
    report = Report(files=sum(len(files_of(root, table, split)) for table in TABLES for split in SPLITS))
    problems = report.problems
    splits = [split for split in SPLITS if files_of(root, "dialogues", split)]
    records.check_names(root, splits, problems)
    dialogues = DialogueCheck(root, Facts.of(info), problems)
    for split in splits:
        for path in files_of(root, "dialogues", split):
            dialogues.check(path, split, train=split == STATS_SPLIT)
    seen = dialogues.seen
    _check_unique(seen, problems)
    failed = {split: failures.check(root, split, seen[split], problems) for split in splits}
    for split in splits:
        trajectories.check(root, split, seen[split], problems)
    records.check_info(info, seen, failed, problems)
    records.check_stats(
        root, info, dialogues.moments if STATS_SPLIT in seen and seen[STATS_SPLIT].complete else None, problems
    )
    records.check_manifest(root, problems)
    report.dialogues = sum(len(one.dialogues) for one in seen.values())
    report.utterances = sum(len(one.utterances) for one in seen.values())
    return report


def _check_unique(seen: Mapping[str, SeenSplit], problems: Problems) -> None:
    """Checks that dialogue and utterance ids are unique over all splits."""
    repeated, more = _repeated({split: one.dialogues for split, one in seen.items()})
    for dialogue_id, splits in repeated:
        where = f"in {' and in '.join(splits)}" if len(splits) > 1 else f"twice in {splits[0]}"
        problems.add(
            "splits" if len(splits) > 1 else "ids", "dialogues", where, dialogue_id=dialogue_id, column="dialogue_id"
        )
    problems.counts["ids"] += more
    repeated, more = _repeated({split: one.utterances for split, one in seen.items()})
    for utterance_id, splits in repeated:
        problems.add(
            "ids", "dialogues", f"{utterance_id} occurs more than once in {', '.join(splits)}", column="utterance_ids"
        )
    problems.counts["ids"] += more


def _repeated(of_split: Mapping[str, pa.ChunkedArray]) -> tuple[list[tuple[str, list[str]]], int]:
    """The first values that occur more than once, each with its splits; and the number of further ones."""
    counted = pc.value_counts(
        pa.chunked_array([chunk for values in of_split.values() for chunk in values.chunks], pa.string())
    )
    repeated = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
    first = repeated.slice(0, LISTED).to_pylist()
    found = [
        (value, [split for split, there in of_split.items() if pc.index(there, value).as_py() >= 0]) for value in first
    ]
    return found, len(repeated) - len(first)
