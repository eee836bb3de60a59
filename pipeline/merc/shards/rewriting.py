"""Writes shards from the rows of other shards: split into files as the stage does, with counts and statistics of what
was written.

Rows arrive as a stream; at most one row group and one incoming table are in memory.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from merc import files, parquet, provenance
from merc.job import Fingerprint
from merc.records import failures
from merc.shards.card.writing import write_card
from merc.shards.config import Config
from merc.shards.facts import Facts
from merc.shards.format import cutting, reader
from merc.shards.format.meta import STATS_SPLIT
from merc.shards.format.moments import RunningMoments
from merc.shards.format.row_groups import column, files_of, row_groups
from merc.shards.format.schema import SCHEMA_VERSION, merc_metadata, per_utterance
from merc.shards.stage import INFO, STATS


class Rewriting:
    """Writes a folder of shards, split by split.

    Args:
        folder: an empty folder; created if it does not exist.
        facts: the shards' properties.
        config: where files and row groups are split.
    """

    def __init__(self, folder: Path, facts: Facts, config: Config) -> None:
        self.folder, self.facts, self.config = folder, facts, config
        self.counts: dict[str, dict[str, Any]] = {}
        self.moments = {modality: RunningMoments(dim) for modality, dim in facts.dims.items()}

    def write_split(self, split: str, rows: Iterable[pa.Table], failed: pa.Table) -> None:
        """Writes the dialogues and failure rows of a split; a split without dialogues is left out.

        Args:
            split: ``train``, ``dev`` or ``test``.
            rows: dialogues in order, with the columns of :attr:`Facts.schema`, in pieces of any size.
            failed: failure rows, in order.

        Raises:
            CannotWrite: if a file cannot be written.
        """
        counts: dict[str, Any] = {
            "dialogues": 0,
            "utterances": 0,
            "labels": dict.fromkeys(self.facts.labels.classes, 0),
            "unlabelled": 0,
        }
        counts |= {"present": dict.fromkeys(self.facts.dims, 0), "failures": failed.num_rows}
        paths: list[Path] = []
        with files.writing(self.folder / "dialogues"):
            for number, pieces in enumerate(self._files(self._counted(rows, counts, split == STATS_SPLIT))):
                paths.append(self.folder / "dialogues" / f"{split}-{number}.unfinished")
                paths[-1].parent.mkdir(parents=True, exist_ok=True)
                with parquet.writer(paths[-1], self.facts.schema) as writer:
                    for group in _regrouped(pieces, self.config.row_group_dialogues):
                        writer.write_table(group)
            for number, path in enumerate(paths):  # a file's name contains the number of files
                path.rename(path.with_name(cutting.file_name(split, number, len(paths))))
        if counts["dialogues"]:
            self.counts[split] = counts
            name = self.folder / "failures" / cutting.file_name(split, 0, 1)
            parquet.write(name, failed.replace_schema_metadata(merc_metadata({"corpus": self.facts.corpus})))

    def finish(
        self,
        settings: Mapping[str, Any],
        inputs: Mapping[str, Any],
        more: Mapping[str, Any],
        stats: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes the records, the card and the checksums.

        Args:
            settings: what was requested.
            inputs: hashes of the input shards.
            more: further keys of ``meta/info.json``.
            stats: the statistics, if no train split was written; None: zeros then.
        """
        own = {modality: moments.as_json() for modality, moments in self.moments.items()}
        files.write_json(
            self.folder / STATS,
            own if stats is None or STATS_SPLIT in self.counts else {modality: stats[modality] for modality in own},
        )
        info = {
            "schema_version": SCHEMA_VERSION,
            "fingerprint": Fingerprint(settings, inputs).digest,
            "settings": settings,
            "inputs": inputs,
            "corpus": self.facts.corpus,
            "label_set": self.facts.labels.name,
            "classes": list(self.facts.labels.classes),
            "encoders": self.facts.encoders,
            "modalities": list(self.facts.dims),
            "dims": self.facts.dims,
            "transcripts": self.facts.transcripts,
            **({} if self.facts.quality is None else {"quality": self.facts.quality}),
            **({} if self.facts.faces is None or "visual" not in self.facts.dims else {"faces": self.facts.faces}),
            "counts": self.counts,
            "splits": list(self.counts),
            "versions": provenance.versions(),
        }
        files.write_json(self.folder / INFO, {**more, **info})
        write_card(self.folder)

    def _counted(self, rows: Iterable[pa.Table], counts: dict[str, Any], train: bool) -> Iterator[pa.Table]:
        """The same rows; counts them and adds those of the train split to the statistics."""
        for piece in rows:
            if not piece.num_rows:
                continue
            labels_N = column(piece, "emotion_index").flatten().to_numpy()
            counts["dialogues"] += piece.num_rows
            counts["utterances"] += len(labels_N)
            for index, name in enumerate(self.facts.labels.classes):
                counts["labels"][name] += int((labels_N == index).sum())
            counts["unlabelled"] += int((labels_N < 0).sum())
            for modality in self.facts.dims:
                present_N = column(piece, f"{modality}_present").flatten().to_numpy(zero_copy_only=False)
                counts["present"][modality] += int(present_N.sum())
                if train:
                    self.moments[modality].add(reader.vectors_of(piece[modality])[0][present_N])
            yield piece

    def _files(self, rows: Iterable[pa.Table]) -> Iterator[Iterator[pa.Table]]:
        """The rows of each file; a file ends before the dialogue that would exceed ``max_file_bytes``, as in
        :func:`cutting.plan_files`.
        """
        source = _Peekable(rows)
        while source.peek() is not None:
            yield self._until_full(source)

    def _until_full(self, source: "_Peekable") -> Iterator[pa.Table]:
        size = 0
        while (piece := source.peek()) is not None:
            total_K = size + np.cumsum(dialogue_bytes(piece, self.facts))
            fit = int(np.searchsorted(total_K, self.config.max_file_bytes, side="right"))
            fit = max(fit, 1) if size == 0 else fit
            yield piece.slice(0, fit)
            source.replace(piece.slice(fit))
            if fit < piece.num_rows:
                return
            size = int(total_K[-1])


class _Peekable:
    """A stream of tables; a part of the first one may be put back."""

    def __init__(self, tables_of_rows: Iterable[pa.Table]) -> None:
        self._source = iter(tables_of_rows)
        self._first: pa.Table | None = None

    def peek(self) -> pa.Table | None:
        """The first table that has rows; None at the end."""
        while self._first is None or not self._first.num_rows:
            self._first = next(self._source, None)
            if self._first is None:
                return None
        return self._first

    def replace(self, rest: pa.Table) -> None:
        """Puts back the rest of the first table."""
        self._first = rest


def dialogue_bytes(rows: pa.Table, facts: Facts) -> NDArray[np.int64]:
    """Bytes in memory of each dialogue; the counterpart of :func:`cutting.row_bytes` for tables with one row per
    dialogue.
    """
    lengths_K = rows["n_utterances"].to_numpy().astype(np.int64)
    kinds = [
        (name, kind) for name, _, kind in per_utterance(transcripts=facts.transcripts, quality=facts.quality_columns)
    ]
    each = sum(4 * dim + 1 for dim in facts.dims.values()) + sum(
        4 if pa.types.is_string(kind) else kind.bit_width // 8 for _, kind in kinds
    )
    starts_K = np.cumsum(lengths_K) - lengths_K
    bytes_K: NDArray[np.int64] = each * lengths_K
    for name, kind in kinds:
        if pa.types.is_string(kind):
            bytes_K += np.add.reduceat(
                pc.binary_length(column(rows, name).flatten()).to_numpy().astype(np.int64), starts_K
            )
    return bytes_K


def read_failures(root: Path, split: str) -> pa.Table:
    """All failure rows of a split. Raises ``BadTable`` if a table has other columns."""
    pieces = [failures.checked(piece, path) for path in files_of(root, "failures", split) for piece in row_groups(path)]
    return pa.concat_tables([failures.SCHEMA.empty_table(), *pieces])


def _regrouped(pieces: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """The same rows in tables of ``size`` rows, the last one smaller."""
    waiting: list[pa.Table] = []
    rows = 0
    for piece in pieces:
        waiting.append(piece)
        rows += piece.num_rows
        while rows >= size:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, size)
            waiting, rows = [whole.slice(size)], rows - size
    if rows:
        yield pa.concat_tables(waiting)
