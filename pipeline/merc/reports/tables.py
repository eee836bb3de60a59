"""The content of the shards, as rows: splits, coverage, labels, failures, encoders. Reads no embeddings."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merc import parquet
from merc.errors import BadTable
from merc.layout import MODALITIES
from merc.records import failures
from merc.records.failures import LOUD_ABSENT_SHARE, REASONS
from merc.reports.results import Recipe, Scores, Spread
from merc.shards.format import reader

UNLABELLED = "(unlabelled)"


@dataclass(frozen=True)
class SplitRow:
    """Sizes of a split; ``longest`` dialogue in utterances, ``most_speakers`` in one dialogue."""

    dataset: str
    split: str
    dialogues: int
    utterances: int
    labelled: int
    longest: int
    most_speakers: int


@dataclass(frozen=True)
class CoverageRow:
    """The number of utterances of a split with a vector of a modality."""

    dataset: str
    split: str
    modality: str
    utterances: int
    present: int

    @property
    def share(self) -> float:
        return self.present / self.utterances if self.utterances else 0.0


@dataclass(frozen=True)
class AbsenceRow:
    """A modality that many utterances of a split lack: ``absent`` of them, ``of_reason`` of these for the most frequent
    reason.
    """

    dataset: str
    split: str
    modality: str
    utterances: int
    absent: int
    reason: str
    meaning: str
    of_reason: int

    @property
    def share(self) -> float:
        return self.absent / self.utterances


@dataclass(frozen=True)
class LabelRow:
    """The number of utterances of a split with an emotion, and their ``share``."""

    dataset: str
    split: str
    emotion: str
    utterances: int
    share: float


@dataclass(frozen=True)
class FailureRow:
    """The number of utterances with a failure reason."""

    stage: str
    modality: str
    reason: str
    kind: str
    meaning: str
    utterances: int


@dataclass(frozen=True)
class Contents:
    """Everything that the report states about a dataset's shards."""

    splits: list[SplitRow]
    coverage: list[CoverageRow]
    labels: list[LabelRow]
    failures: list[FailureRow]
    absences: list[AbsenceRow]


def read_contents(dataset: str, shards: Path, classes: Sequence[str]) -> Contents:
    """Counts what is in the shards of a dataset, split by split."""
    contents = Contents([], [], [], read_failures(shards), [])
    for split in reader.splits(shards):
        names = parquet.schema(next(iter(sorted((shards / "dialogues").glob(f"{split}-*.parquet"))))).names
        modalities = [modality for modality in MODALITIES if f"{modality}_present" in names]
        columns = ["n_utterances", "n_speakers", "emotion_index", *(f"{modality}_present" for modality in modalities)]
        table = reader.read_split(shards, split, columns=columns)
        contents.splits.append(_split_row(dataset, split, table))
        coverage = _coverage_rows(dataset, split, table, modalities)
        contents.coverage.extend(coverage)
        contents.absences.extend(_absence_rows(coverage, _failed(shards, split)))
        contents.labels.extend(_label_rows(dataset, split, table, classes))
    return contents


def read_failures(shards: Path) -> list[FailureRow]:
    """The failure table by stage, modality and reason, most utterances first.

    Raises:
        BadTable: if it contains a reason that the pipeline does not know.
    """
    grouped = (
        _failed(shards, "*").group_by(["stage", "modality", "reason"]).aggregate([("utterance_id", "count_distinct")])
    )
    rows = []
    for row in grouped.to_pylist():
        if row["reason"] not in REASONS:
            raise BadTable(f"{shards / 'failures'}: unknown reason {row['reason']!r}; one of {', '.join(REASONS)}")
        kind, meaning = REASONS[row["reason"]]
        rows.append(
            FailureRow(row["stage"], row["modality"], row["reason"], kind, meaning, row["utterance_id_count_distinct"])
        )
    return sorted(rows, key=lambda row: (-row.utterances, row.stage, row.modality, row.reason))


def _failed(shards: Path, split: str) -> pa.Table:
    """The failure rows of a split, or of all (``*``)."""
    tables = [
        failures.checked(parquet.read(path), path) for path in sorted((shards / "failures").glob(f"{split}-*.parquet"))
    ]
    return pa.concat_tables([failures.SCHEMA.empty_table(), *tables])


def _split_row(dataset: str, split: str, table: pa.Table) -> SplitRow:
    lengths = table["n_utterances"].to_numpy()
    labels = _flat(table, "emotion_index")
    speakers = table["n_speakers"].to_numpy()
    return SplitRow(
        dataset,
        split,
        table.num_rows,
        int(lengths.sum()),
        int((labels >= 0).sum()),
        int(lengths.max(initial=0)),
        int(speakers.max(initial=0)),
    )


def _coverage_rows(dataset: str, split: str, table: pa.Table, modalities: Iterable[str]) -> list[CoverageRow]:
    present = {modality: _flat(table, f"{modality}_present") for modality in modalities}
    return [
        CoverageRow(dataset, split, modality, len(values), int(values.sum())) for modality, values in present.items()
    ]


def _absence_rows(rows: Iterable[CoverageRow], failed: pa.Table) -> list[AbsenceRow]:
    """One row per modality that more of a split's utterances lack than :data:`LOUD_ABSENT_SHARE`."""
    found = []
    for row in rows:
        absent = row.utterances - row.present
        if absent > LOUD_ABSENT_SHARE * row.utterances:
            of_modality = failed.filter(
                pc.and_(pc.equal(failed["modality"], row.modality), pc.not_equal(failed["kind"], "altered"))
            )
            reasons = Counter(
                reason
                for _, reason in set(
                    zip(of_modality["utterance_id"].to_pylist(), of_modality["reason"].to_pylist(), strict=True)
                )
            )
            reason, count = min(reasons.items(), key=lambda item: (-item[1], item[0]), default=("", 0))
            found.append(
                AbsenceRow(
                    row.dataset,
                    row.split,
                    row.modality,
                    row.utterances,
                    absent,
                    reason,
                    REASONS[reason][1] if reason else "",
                    count,
                )
            )
    return found


def _label_rows(dataset: str, split: str, table: pa.Table, classes: Sequence[str]) -> list[LabelRow]:
    """One row per class, in the label set's order, and one for utterances outside it, if there are any."""
    labels = _flat(table, "emotion_index")
    counts = np.bincount(labels.astype(np.int64) + 1, minlength=len(classes) + 1).tolist()
    named = [*zip(classes, counts[1:], strict=True), *([(UNLABELLED, counts[0])] if counts[0] else [])]
    return [
        LabelRow(dataset, split, emotion, count, count / len(labels) if len(labels) else 0.0)
        for emotion, count in named
    ]


def _flat(table: pa.Table, column: str) -> Any:
    return pc.list_flatten(table[column]).to_numpy()


def coverage_metrics(rows: Iterable[CoverageRow]) -> dict[str, dict[str, dict[str, float]]]:
    """For ``dvc metrics``: dataset → split → modality → share of utterances, rounded to six decimals."""
    tree: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        tree.setdefault(row.dataset, {}).setdefault(row.split, {})[row.modality] = round(row.share, 6)
    return tree


def score_metrics(results: dict[str, list[Recipe]]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """For ``dvc metrics``: dataset → recipe → split → mean weighted F1 and accuracy over the seeds, and the spread of
    the former, rounded to six decimals.
    """
    tree: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for dataset, recipes in results.items():
        for recipe in recipes:
            seeds = recipe.seeds.values()
            tree.setdefault(dataset, {})[recipe.recipe] = {
                "dev": _score_metrics([one.dev for one in seeds]),
                "test": _score_metrics([one.test for one in seeds]),
            }
    return tree


def _score_metrics(scores: Sequence[Scores]) -> dict[str, float]:
    f1, accuracy = Spread([one.weighted_f1 for one in scores]), Spread([one.accuracy for one in scores])
    spread = {} if f1.std is None else {"weighted_f1_std": round(f1.std, 6)}
    return {"weighted_f1": round(f1.mean, 6), **spread, "accuracy": round(accuracy.mean, 6)}


def coverage_csv(rows: Iterable[CoverageRow]) -> str:
    """For ``dvc plots``: dataset, split, modality, utterances, present, share."""
    return _csv(
        ("dataset", "split", "modality", "utterances", "present", "share"),
        ({**asdict(row), "share": row.share} for row in rows),
    )


def labels_csv(rows: Iterable[LabelRow]) -> str:
    """For ``dvc plots``: dataset, split, emotion, utterances, share."""
    return _csv([field.name for field in fields(LabelRow)], map(asdict, rows))


def _csv(names: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.6f}" if isinstance(value, float) else value for name, value in row.items()})
    return text.getvalue()
