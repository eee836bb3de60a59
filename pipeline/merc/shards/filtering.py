"""Utterances for which a condition is not true lose their label, or are left out of their dialogues."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from merc.errors import BadSettings
from merc.records.audit import PREFIX
from merc.shards.format.row_groups import column
from merc.shards.where import Condition


@dataclass(frozen=True)
class Filtering:
    """A filter, and how often it applied.

    Attributes:
        condition: condition that utterances must satisfy.
        splits: splits to which it applies.
        drop: leave out utterances that do not, instead of only their labels.
        counts: split → number of utterances for which the condition was not true, and total number.
        known: the columns of the condition with at least one value.
    """

    condition: Condition
    splits: tuple[str, ...]
    drop: bool
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)

    @property
    def columns(self) -> list[str]:
        """The columns of the shards that the condition reads."""
        return [f"{PREFIX}{name}" for name in self.condition.names]

    def holds(self, rows: pa.Table) -> NDArray[np.bool_]:
        """For each utterance of some dialogues, in sequence, whether the condition is true."""
        values = {name: column(rows, f"{PREFIX}{name}").flatten() for name in self.condition.names}
        self.known.update(name for name, one in values.items() if one.null_count < len(one))
        return self.condition.holds(values)

    def applied(self, rows: pa.Table, split: str) -> pa.Table:
        """The filtered dialogues; counts the changes."""
        if split not in self.splits or not rows.num_rows:
            return rows
        holds_N = self.holds(rows)
        failed, total = self.counts.get(split, (0, 0))
        self.counts[split] = failed + int((~holds_N).sum()), total + len(holds_N)
        return _without(rows, holds_N) if self.drop else _unlabelled(rows, holds_N)

    def settings(self) -> dict[str, Any]:
        """For the record of the shards."""
        return {"where": self.condition.text, "where_splits": list(self.splits), "drop": self.drop}

    def told(self) -> list[str]:
        """What was done, a sentence per split, for the card.

        Raises:
            BadSettings: if the condition was not true for any utterance.
        """
        if all(failed == total for failed, total in self.counts.values()):
            unknown = ", ".join(name for name in self.condition.names if name not in self.known)
            why = f". None of them has a value of {unknown}: docs/audit.md says how to get it" if unknown else ""
            raise BadSettings(
                f"--where {self.condition.text!r} is met by no utterance in {', '.join(self.splits)}; nothing was"
                f" written{why}"
            )
        fate = "they were left out" if self.drop else "they have no label here and serve as context for the others"
        words = (
            "{split}: {failed} of {total} utterances do not meet the condition {condition}, or it is unknown whether"
            " they do; {fate}."
        )
        return [
            words.format(split=split, failed=failed, total=total, condition=self.condition.text, fate=fate)
            for split, (failed, total) in self.counts.items()
        ]


def _unlabelled(rows: pa.Table, holds_N: NDArray[np.bool_]) -> pa.Table:
    """The same dialogues without the emotion of some utterances, as if the corpus had not labelled them."""
    for name, nothing in (("emotions", ""), ("emotion_index", -1)):
        values = column(rows, name)
        kept = pc.if_else(pa.array(holds_N), values.flatten(), pa.scalar(nothing, values.type.value_type))
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), _lists(values, kept))
    return rows


def _lists(like: pa.ListArray, values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pc.subtract(like.offsets, like.offsets[0]), values, type=like.type)


def _without(rows: pa.Table, holds_N: NDArray[np.bool_]) -> pa.Table:
    """The dialogues without some utterances, with speakers renumbered; dialogues that become empty are left out."""
    owner_N = np.repeat(np.arange(rows.num_rows), rows["n_utterances"].to_numpy())
    lengths_K = np.bincount(owner_N[holds_N], minlength=rows.num_rows)
    speakers_N, number_K = _renumbered(
        column(rows, "speaker_index").flatten().to_numpy()[holds_N], owner_N[holds_N], rows.num_rows
    )
    offsets, mask = pa.array(np.r_[0, np.cumsum(lengths_K)].astype(np.int32)), pa.array(holds_N)
    columns = {name: column(rows, name) for name in rows.column_names}
    for name, values in columns.items():
        if pa.types.is_list(values.type):
            flat = (
                pa.array(speakers_N, values.type.value_type)
                if name == "speaker_index"
                else values.flatten().filter(mask)
            )
            columns[name] = pa.ListArray.from_arrays(offsets, flat, type=values.type)
    columns |= {"n_utterances": pa.array(lengths_K, pa.int32()), "n_speakers": pa.array(number_K, pa.int32())}
    return pa.table(columns, schema=rows.schema).filter(pa.array(lengths_K > 0))


def _renumbered(
    speakers_N: NDArray[np.int16], owner_N: NDArray[np.int64], dialogues: int
) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Speakers by first appearance in the rest of each dialogue, and their number in each dialogue."""
    numbers: dict[tuple[int, int], int] = {}
    number_K = np.zeros(dialogues, dtype=np.int64)
    renumbered_N = np.zeros(len(speakers_N), dtype=np.int16)
    for at, key in enumerate(zip(owner_N.tolist(), speakers_N.tolist(), strict=True)):
        if key not in numbers:
            numbers[key] = int(number_K[key[0]])
            number_K[key[0]] += 1
        renumbered_N[at] = numbers[key]
    return renumbered_N, number_K
