"""The shards' data on every utterance, as flat arrays in the order of the shards. Reads no vectors.

Legend: K dialogues, N utterances in all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from merc import parquet
from merc.errors import BadTable
from merc.records import failures
from merc.records.failures import REASONS
from merc.shards.format import files as shard_files
from merc.shards.format import reader
from merc.shards.format.row_groups import files_of
from merc.shards.format.schema import TRANSCRIPTS, check_trajectories, quality_columns
from merc.shown import visible

NEIGHBOURS = 5
"""Number of a dialogue's nearest dialogues that are linked, for each similarity."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """All dialogues of a dataset.

    Attributes:
        classes: the label set of the shards.
        splits: test before dev before train, for which recipes have no predictions.
        dialogue_ids: K strings.
        split_of: index into ``splits``.
        lengths: utterances of each dialogue.
        utterance_ids: N strings.
        labels: index into ``classes``; -1 outside the label set.
        speakers: the distinct speakers.
        speaker_of: index into ``speakers``.
        texts: N strings; None if the shards contain no transcripts, or none were requested.
        present: modality → bool [N].
        quality: name → float32 [N], NaN if unknown.
    """

    classes: tuple[str, ...]
    splits: tuple[str, ...]
    dialogue_ids: pa.Array
    split_of: NDArray[np.int64]
    lengths: NDArray[np.int64]
    utterance_ids: pa.Array
    labels: NDArray[np.int64]
    speakers: tuple[str, ...]
    speaker_of: NDArray[np.int64]
    texts: pa.Array | None
    present: dict[str, NDArray[np.bool_]]
    quality: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def utterances(self) -> int:
        return len(self.utterance_ids)

    @cached_property
    def bounds(self) -> NDArray[np.int64]:
        """[K + 1], the start of each dialogue, and the end of the last."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def places(self, utterance_ids: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
        """Indices of utterances; -1 for those that do not exist."""
        return _places(utterance_ids, self.utterance_ids)


@dataclass(frozen=True, kw_only=True)
class Failed:
    """M rows of the failure table, in the order of their utterances.

    Attributes:
        utterance: utterance of each row.
        stages, modalities, reasons, details: M strings each.
    """

    utterance: NDArray[np.int64]
    stages: list[str]
    modalities: list[str]
    reasons: list[str]
    details: list[str]


def read_corpus(shards: Path, *, texts: bool) -> Corpus:
    """Reads all splits.

    Args:
        shards: folder of the shards.
        texts: also read the transcripts.

    Raises:
        BadTable: if a file is missing or damaged, or has a label that is not one of the classes.
    """
    classes = tuple(reader.info(shards)["classes"])
    splits = tuple(reversed(reader.splits(shards)))
    names = shard_files.open_shard(shard_files.find(shards, splits[0])[0]).schema.names
    quality = quality_columns(names)
    present = [name for name in names if name.endswith("_present")]
    more = [TRANSCRIPTS] if texts and TRANSCRIPTS in names else []
    columns = ["dialogue_id", "n_utterances", "utterance_ids", "speakers", "emotion_index", *more, *present, *quality]
    tables = [reader.read_split(shards, split, columns) for split in splits]
    table = pa.concat_tables(tables)
    speakers = _flat(table, "speakers").dictionary_encode()
    labels_N = np.asarray(_flat(table, "emotion_index"), dtype=np.int64)
    if len(labels_N) and not -1 <= labels_N.min() <= labels_N.max() < len(classes):
        raise BadTable(f"{shards}: a label outside the {len(classes)} classes; merc-shards validate says where")
    return Corpus(
        classes=classes,
        splits=splits,
        dialogue_ids=table["dialogue_id"].combine_chunks(),
        split_of=np.repeat(np.arange(len(splits)), [len(one) for one in tables]),
        lengths=np.asarray(table["n_utterances"], dtype=np.int64),
        utterance_ids=_flat(table, "utterance_ids"),
        labels=labels_N,
        speakers=tuple(speakers.dictionary.to_pylist()),
        speaker_of=np.asarray(speakers.indices, dtype=np.int64),
        texts=_flat(table, TRANSCRIPTS) if more else None,
        present={name.removesuffix("_present"): np.asarray(_flat(table, name)) for name in present},
        quality={name: np.asarray(_flat(table, name).fill_null(np.nan)) for name in quality},
    )


def read_failed(shards: Path, corpus: Corpus) -> Failed:
    """The failure rows of the utterances that are in the shards.

    Raises:
        BadTable: if a table is damaged, or contains a reason that the pipeline does not know.
    """
    paths = [path for split in corpus.splits for path in files_of(shards, "failures", split)]
    table = pa.concat_tables(
        [failures.SCHEMA.empty_table(), *(failures.checked(parquet.read(path), path) for path in paths)]
    )
    place_M = corpus.places(table["utterance_id"])
    rows = table.take(order_M := np.argsort(place_M, kind="stable")[np.count_nonzero(place_M < 0) :])
    found = {name: rows[name].to_pylist() for name in ("stage", "modality", "reason", "detail")}
    for reason in dict.fromkeys(found["reason"]):
        if reason not in REASONS:
            raise BadTable(f"{shards / 'failures'}: unknown reason {reason!r}; one of {', '.join(REASONS)}")
    return Failed(
        utterance=place_M[order_M],
        stages=found["stage"],
        modalities=found["modality"],
        reasons=found["reason"],
        details=found["detail"],
    )


def read_neighbours(shards: Path, corpus: Corpus, number: int = NEIGHBOURS) -> dict[str, list[list[tuple[int, float]]]]:
    """The nearest dialogues of every dialogue.

    Args:
        shards: folder of the shards.
        corpus: the dialogues.
        number: maximum number of each dialogue's nearest ones.

    Returns:
        Similarity → for each of the K dialogues (index of a dialogue, similarity), best first; dialogues without
        neighbours have an empty list. Empty if there are no trajectories.

    Raises:
        BadTable: if a table is damaged, or names a dialogue that does not exist.
    """
    found: dict[str, list[list[tuple[int, float]]]] = {}
    for path in (path for split in corpus.splits for path in files_of(shards, "trajectories", split)):
        check_trajectories(parquet.schema(path), path)
        table = parquet.read(path)
        rows = _places(table["dialogue_id"], corpus.dialogue_ids).tolist()
        for name in (name.removeprefix("neighbours_") for name in table.column_names if name.startswith("neighbours_")):
            of_name = found.setdefault(name, [[] for _ in range(len(corpus.dialogue_ids))])
            for row, nearest in zip(rows, _nearest(table, name, number, corpus, path), strict=True):
                if row >= 0:
                    of_name[row] = nearest
    return found


def _nearest(table: pa.Table, name: str, number: int, corpus: Corpus, path: Path) -> list[list[tuple[int, float]]]:
    ids, values = (
        pc.list_slice(table[column].combine_chunks(), 0, number)
        for column in (f"neighbours_{name}", f"similarity_{name}")
    )
    lengths = pc.list_value_length(ids).fill_null(0)
    if not lengths.equals(pc.list_value_length(values).fill_null(0)):
        raise BadTable(f"{path}: not one similarity_{name} for each of neighbours_{name}")
    places = _places(ids.flatten(), corpus.dialogue_ids)
    if (places < 0).any():
        strange = ids.flatten()[int(np.flatnonzero(places < 0)[0])].as_py()
        raise BadTable(f"{path}: neighbours_{name} names {strange!r}, which is not a dialogue of {path.parents[1]}")
    similar = np.asarray(values.flatten(), dtype=np.float64)
    if not np.isfinite(similar).all():
        raise BadTable(f"{path}: similarity_{name} holds a value that is not a number")
    pairs = list(zip(places.tolist(), np.round(similar, 3).tolist(), strict=True))
    ends = np.cumsum(np.asarray(lengths)).tolist()
    return [pairs[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def _places(wanted: pa.Array | pa.ChunkedArray, there: pa.Array) -> NDArray[np.int64]:
    found = wanted.combine_chunks() if isinstance(wanted, pa.ChunkedArray) else wanted
    return np.asarray(pc.index_in(found, value_set=there).fill_null(-1), dtype=np.int64)


def _flat(table: pa.Table, name: str) -> pa.Array:
    return table[name].combine_chunks().flatten()


def shown(texts: Sequence[str]) -> list[str]:
    """Untrusted strings in a form that a page may show (:func:`merc.shown.visible`)."""
    return [visible(one) for one in texts]
