"""Sequences below the utterance: tokens, pieces of audio, face crops. Each modality has one memory-mapped file, from
which batches are gathered.

    features/<dataset>/audio/<encoder>/sequences/part-*.parquet                (extraction with --level sequences; float16)
        │  a row group at a time; a longer sequence becomes the means of ``longest`` equal parts of it
    features/<dataset>/.scratch/sequences/audio-<hash>-<longest>/values.float16   [R, D], utterances.parquet
        │  mapped, not read
    DialogueSplit.sequences["audio"] ──► DialogueBatch.sequences["audio"]   [N, L, D], padded to the longest of the batch

Legend: N utterances, L entries of a sequence, R entries of all sequences, D numbers of an entry.
"""  # noqa: E501

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from merc import files, parquet
from merc.errors import BadSettings, BadTable, CannotWrite
from merc.extraction import sequences
from merc.job import finished_fingerprint

_FOLDER = Path(".scratch", "sequences")
_VALUES = "values.float16"
_UTTERANCES = "utterances.parquet"  # written last: if it exists, the values are complete


@dataclass(frozen=True)
class Sequences:
    """The sequences of a split's utterances in one modality, on the CPU.

    Attributes:
        values: float16 [R, D], mapped from the disk; row 0 is zeros, for padding.
        starts: long [N + 1]; the first row of each utterance, 0 for padding and if there is none.
        counts: long [N + 1]; number of entries of each utterance, 0 for padding and if there is none.
    """

    values: Tensor
    starts: Tensor
    counts: Tensor

    def gathered(self, rows_N: Tensor) -> tuple[Tensor, Tensor]:
        """The sequences of some utterances, padded with zeros to the longest among them, at least one entry: float16
        [N, L, D], bool [N, L].
        """
        counts_N = self.counts[rows_N]
        steps_L = torch.arange(max(1, int(counts_N.max())))
        mask_NL = steps_L < counts_N[:, None]
        return self.values[torch.where(mask_NL, self.starts[rows_N, None] + steps_L, 0)], mask_NL

    def of(self, rows_N: Tensor) -> "Sequences":
        """The sequences of some utterances, possibly repeated, in their order; the last row must be that of padding."""
        return Sequences(self.values, self.starts[rows_N], self.counts[rows_N])


def read_sequences(
    shards: Path, info: Mapping[str, Any], modality: str, longest: int, utterance_ids: Sequence[str], present: Tensor
) -> Sequences:
    """Finds the sequences of a split, and writes the memory-mapped file if it is missing.

    Args:
        shards: folder of the shards; the features that they were made from are next to it.
        info: the shards' ``meta/info.json``.
        modality: name of the modality.
        longest: maximum number of entries of a sequence.
        utterance_ids: the N ids of the split.
        present: bool [N + 1] on the CPU, whether each has the modality.

    Raises:
        BadTable: if no sequences were kept, they do not belong to the extraction that the shards were made from, or are
            missing for a vector.
        BadSettings: if entries and vectors differ in length, as with vectors of mean and deviation.
        CannotWrite: if the file cannot be written.
    """
    features = shards.parent / modality / info["encoders"][modality]["name"]
    fingerprint = _fingerprint(features, info, modality)
    folder = shards.parent / _FOLDER / f"{modality}-{fingerprint[:16]}-{longest}"
    if not (folder / _UTTERANCES).is_file():
        for stale in folder.parent.glob(f"{modality}-*"):
            if not stale.name.startswith(f"{modality}-{fingerprint[:16]}-"):
                shutil.rmtree(stale)
        _write(folder, features, info["dims"][modality], longest)
    table = parquet.read(folder / _UTTERANCES)
    counts_of_all = table["entries"].to_numpy()
    rows = np.asarray(
        pc.index_in(pa.array(utterance_ids, pa.string()), table["utterance_id"].combine_chunks()).fill_null(-1)
    )
    counts = np.where(rows < 0, 0, counts_of_all[rows])
    wrong = np.flatnonzero((counts > 0) != present[:-1].numpy())
    if len(wrong):
        raise BadTable(
            f"{features}: {utterance_ids[wrong[0]]} has {counts[wrong[0]]} entries, which does not match the vector in"
            " the shards; remake them"
        )
    starts = np.where(counts > 0, 1 + (np.cumsum(counts_of_all) - counts_of_all)[rows], 0)
    size = (1 + int(counts_of_all.sum()), info["dims"][modality])
    values = torch.from_file(str(folder / _VALUES), shared=False, size=size[0] * size[1], dtype=torch.float16).view(
        size
    )
    return Sequences(values, *(torch.from_numpy(np.append(column, 0).astype(np.int64)) for column in (starts, counts)))


def _fingerprint(features: Path, info: Mapping[str, Any], modality: str) -> str:
    made_of = info["encoders"][modality].get("fingerprint")
    if made_of is None or not (features / sequences.FOLDER).is_dir():
        raise BadTable(
            f"{features}: the recipe reads sequences, but none were kept; run the extraction with --level sequences"
        )
    if finished_fingerprint(features) != made_of:
        raise BadTable(f"{features}: remade since the shards were made; remake the shards, too")
    return str(made_of)


def _write(folder: Path, features: Path, dim: int, longest: int) -> None:
    """Writes the values, one row group at a time, and then the table of the utterances."""
    utterance_ids, counts = [], []
    try:
        with files.replacing(folder / _VALUES) as temporary, temporary.open("wb") as file:
            file.write(np.zeros(dim, np.float16).tobytes())
            for utterance_id, entries_LD in _condensed(features, dim, longest):
                file.write(entries_LD.tobytes())
                utterance_ids.append(utterance_id)
                counts.append(len(entries_LD))
        parquet.write(
            folder / _UTTERANCES,
            pa.table({"utterance_id": pa.array(utterance_ids, pa.string()), "entries": pa.array(counts, pa.int64())}),
        )
    except CannotWrite as error:
        raise CannotWrite(
            f"{error} It holds a second copy of the sequences of {features}; free some space there."
        ) from error


def _condensed(features: Path, dim: int, longest: int) -> Iterator[tuple[str, NDArray[np.float16]]]:
    for utterance_id, vectors_LD, _ in sequences.read(features):
        if vectors_LD.shape[1] != dim:
            raise BadSettings(
                f"{features}: entries of {vectors_LD.shape[1]} numbers and vectors of {dim}; a model reads sequences"
                " whose vectors are means of them, so set the encoder's pooling to mean"
            )
        yield utterance_id, condensed(vectors_LD, longest)


def condensed(vectors_LD: NDArray[np.float16], longest: int) -> NDArray[np.float16]:
    """A sequence of at most ``longest`` entries; a longer one becomes the means of this many parts, whose lengths
    differ by at most one entry.

    Example:
        >>> condensed(np.array([[1], [3], [5], [7], [9]], dtype=np.float16), 2)[:, 0].tolist()
        [2.0, 7.0]
    """
    length = len(vectors_LD)
    if length <= longest:
        return vectors_LD
    begins = np.arange(longest) * length // longest
    sums = np.add.reduceat(vectors_LD.astype(np.float32), begins)
    means: NDArray[np.float16] = (sums / np.diff(begins, append=length)[:, None]).astype(np.float16)
    return means
