"""The thresholds from which each column of an audit is doubtful, as numbers and as text."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from merc.audit.config import Config
from merc.records.audit import quality_of


@dataclass(frozen=True)
class Check:
    """The doubtful values of one column.

    Attributes:
        column: column of the audit's table. label: its meaning, in a few words. low, high: numbers below and above are
            doubtful; None: no limit. Flags are doubtful if set.
        flag: whether the column is a flag.
    """

    column: str
    label: str
    low: float | None = None
    high: float | None = None
    flag: bool = False

    @property
    def threshold(self) -> str:
        """The threshold as text."""
        if self.flag:
            return "set"
        return " or ".join(
            f"{word} {bound:g}" for word, bound in (("below", self.low), ("above", self.high)) if bound is not None
        )

    def values(self, table: pa.Table) -> NDArray[np.float64]:
        """The column's numbers, 1 and 0 for flags; NaN if unknown."""
        found = quality_of(table, "same_sound" if self.column == "same_sound_as" else self.column)
        return np.asarray(found.cast(pa.float64()).fill_null(np.nan).to_numpy())

    def doubtful(self, table: pa.Table) -> NDArray[np.bool_]:
        """Which rows are doubtful; unknown values are not."""
        values_N = self.values(table).astype(
            np.float32
        )  # as stored, so that a value equal to the threshold is not doubtful
        low, high = (
            np.float32(bound) if bound is not None else None for bound in (self.low, 0.5 if self.flag else self.high)
        )
        below_N = values_N < low if low is not None else np.zeros(len(values_N), dtype=bool)
        return np.asarray(below_N | (values_N > high) if high is not None else below_N)


def checks(config: Config) -> list[Check]:
    """All doubts, in the order of the table's columns."""
    return [
        Check("speech_share", "share of the time with speech", low=config.speech_share_min),
        Check("speech_seconds", "seconds of speech", low=config.speech_seconds_min),
        Check("speech_rate", "letters per second of speech", low=config.speech_rate_min, high=config.speech_rate_max),
        Check("same_sound_as", "another utterance has the same audio", flag=True),
        Check("asr_error", "ASR transcript differs from the text (character error rate)", high=config.asr_error_max),
        Check("face_coverage", "share of the frames with the face", low=config.face_coverage_min),
        Check("speaking", "the face speaks (logit)", low=config.speaking_min),
        Check("speaking_share", "share of the time in which the face speaks", low=config.speaking_share_min),
        Check("off_screen", "no mouth matches the audio", flag=True),
        Check(
            "face_unlike", "face unlike the same speaker's other faces (cosine distance)", high=config.face_unlike_max
        ),
        Check("cut_or_short", "cut, or shorter than annotated", flag=True),
    ]


def with_doubts(table: pa.Table, config: Config) -> pa.Table:
    """The table with its column ``doubts`` filled."""
    flags = {check.column: check.doubtful(table) for check in checks(config)}
    doubts = [[name for name, of_column in flags.items() if of_column[row]] for row in range(table.num_rows)]
    index = table.schema.get_field_index("doubts")
    return table.set_column(index, table.schema.field("doubts"), pa.array(doubts, table.schema.field("doubts").type))


def most_doubtful(table: pa.Table) -> NDArray[np.int64]:
    """All rows, those with the most doubts first; in case of ties, those with the higher recognition error, then in
    their order.
    """
    counts_N = pc.list_value_length(table["doubts"]).to_numpy()
    errors_N = table["asr_error"].fill_null(0.0).to_numpy()
    return np.asarray(np.lexsort((-errors_N, -counts_N)), dtype=np.int64)
