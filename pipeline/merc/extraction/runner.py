"""The loop: read a part, encode it, write it, mark it as done.

    ACCELERATED = False               ACCELERATED = True
    worker 1: part 0, part 2, …       threads:      read 0 │ read 1   │ read 2   │ read 3   │ …
    worker 2: part 1, part 3, …       main thread:         │ encode 0 │ encode 1 │ encode 2 │ …
                                      thread:                         │ write 0  │ write 1  │ …

Each part depends only on its own utterances, so the bytes are the same regardless of the number of workers and of
interruptions.
"""

import os
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from merc import parquet
from merc.compute import memory
from merc.compute.executors.base import Advance, Needs, Opened, Parts, Share
from merc.compute.executors.local import in_processes
from merc.encoders.engine.base import Encoded, EncodedSequence, Encoder
from merc.encoders.engine.neural import NeuralEncoder
from merc.errors import BadTable, ModelUnavailable
from merc.extraction import sequences
from merc.extraction.inputs import PartInput, Source
from merc.job import Job
from merc.log import logger
from merc.records import features as feature_tables
from merc.records.failures import REASONS, Failure

# Memory of a process with an encoder without a checkpoint; and of one with a large model, a batch, and two parts.
_PROCESS_BYTES = 700_000_000
_MODEL_BYTES = 4_000_000_000
LINEAR_LAYERS = "linear_layers"
"""What computed the linear layers, as noted with a job and recorded in the provenance; several if a run was resumed
with a different one.
"""


@dataclass(frozen=True)
class Encoding:
    """What a worker needs to process parts on its own; see :class:`merc.compute.executors.base.Work`.

    Attributes:
        make_encoder: returns the encoder, not yet loaded; picklable.
        accelerated: whether the encoder uses a GPU.
        source: source of the parts. job: destination of the parts. modality: for the failure rows.
    """

    make_encoder: Callable[[], Encoder]
    accelerated: bool
    source: Source
    job: Job
    modality: str

    @property
    def name(self) -> str:
        return self.job.name

    @property
    def home(self) -> Path:
        return self.job.scratch.parent

    @property
    def needs(self) -> Needs:
        if self.accelerated:
            return Needs(
                accelerated=True, cores="threads", memory_bytes=_MODEL_BYTES, parts_at_once=3
            )  # one is being read, one encoded and one written
        return Needs(accelerated=False, cores="processes", memory_bytes=_PROCESS_BYTES, parts_at_once=8)

    def is_done(self, index: int) -> bool:
        return self.job.is_done(index)

    def check(self) -> None:
        encoder = self.make_encoder()
        if (command := encoder.missing()) is not None:
            raise ModelUnavailable(f"{self.name}: its model is not on this machine; to download it:\n  {command}")

    def loaded(self, device: str) -> Encoder:
        """The encoder, loaded."""
        encoder = self.make_encoder()
        encoder.load(device)
        return encoder

    def open(self, share: Share) -> Opened["EncoderFacts"]:
        """Loads the encoder, unless each process of several loads its own."""
        if not self.accelerated:
            return partial(_make_in_processes, self, share.processes)
        memory.return_large_blocks()
        return partial(_make_here, self, self.loaded(share.device), share.device)


@dataclass(frozen=True)
class EncoderFacts:
    """Facts about a loaded encoder: the length of its vectors, and its provenance."""

    dim: int
    provenance: dict[str, Any]


@dataclass(frozen=True)
class EncodedPart:
    """The tables written for a part.

    Attributes:
        vectors: the feature table, one row per utterance of the part.
        sequences: the table of sequences, with the same rows; None if not requested.
        failures: the failure rows of this stage, in row order.
    """

    vectors: pa.Table
    sequences: pa.Table | None
    failures: list[Failure]


def encode_part(encoder: Encoder, part: PartInput, modality: str) -> EncodedPart:
    """Encodes a part.

    Args:
        encoder: loaded.
        part: its utterances; those without input get an absent row with their status.
        modality: for the failure rows.

    Returns:
        Its tables (:mod:`merc.records.features`). A vector that is not finite, or all zeros, becomes absent, and so
        does its sequence.

    Raises:
        BadTable: if the encoder breaks its contract (wrong shapes, an absent vector without a remark, an unknown
            reason).
    """
    rows = np.flatnonzero(np.array(part.status, dtype=object) == feature_tables.OK)
    if len(rows) != len(part.utterances):
        raise ValueError(f"{len(part.utterances)} inputs for {len(rows)} utterances with status ok")
    name = type(encoder).__name__
    encoded = encoder.encode(part.utterances)
    encoded = replace(
        encoded, embeddings=np.asarray(encoded.embeddings, dtype=np.float32)
    )  # before the check for zeros and infinities
    _check_shapes(encoded, len(rows), encoder.dim, name)
    remarks = sorted(_with_own_findings(encoded), key=lambda remark: remark[0])
    why_absent: dict[int, str] = {}
    for index, reason, _ in remarks:
        if not 0 <= index < len(rows) or reason not in REASONS:
            raise BadTable(
                f"{name}: remark {reason!r} on utterance {index} of {len(rows)}; reasons are {', '.join(REASONS)}"
            )
        if REASONS[reason][0] != "altered":
            why_absent.setdefault(index, reason)
    usable = encoded.present & np.isfinite(encoded.embeddings).all(axis=1) & encoded.embeddings.any(axis=1)
    unexplained = [int(index) for index in np.flatnonzero(~usable) if int(index) not in why_absent]
    if unexplained:
        raise BadTable(
            f"{name}: {part.utterances[unexplained[0]].utterance_id} is absent without a remark that explains it"
        )

    values = np.zeros((len(part.utterance_ids), encoder.dim), dtype=np.float32)
    present = np.zeros(len(part.utterance_ids), dtype=bool)
    values[rows[usable]] = encoded.embeddings[usable]
    present[rows[usable]] = True
    status = list(part.status)
    for index in np.flatnonzero(~usable).tolist():
        status[rows[index]] = why_absent[index]
    failures = [
        Failure(part.utterances[index].utterance_id, "extraction", modality, reason, detail)
        for index, reason, detail in remarks
    ]
    columns = [
        pa.array(part.utterance_ids, pa.string()),
        feature_tables.vectors(values),
        pa.array(present),
        pa.array(status, pa.string()),
    ]
    kept = (
        sequences.table(
            part.utterance_ids, _sequences_by_row(encoded, rows, usable, len(status), name), encoder.sequence_dim
        )
        if encoder.sequences
        else None
    )
    return EncodedPart(pa.table(columns, schema=feature_tables.schema(encoder.dim)), kept, failures)


def _sequences_by_row(
    encoded: Encoded, rows: NDArray[np.int64], usable: NDArray[np.bool_], total: int, name: str
) -> list[EncodedSequence | None]:
    """The sequences in their rows; None if the vector is absent."""
    if len(encoded.sequences) != len(rows):
        raise BadTable(f"{name}: sequences of {len(encoded.sequences)} utterances out of {len(rows)}")
    by_row: list[EncodedSequence | None] = [None] * total
    for index in np.flatnonzero(usable).tolist():
        of_one = encoded.sequences[index]
        if of_one is None or not len(of_one.vectors) or not np.isfinite(of_one.vectors).all():
            raise BadTable(f"{name}: utterance {index} of the part has a vector, but no sequence that is finite")
        by_row[rows[index]] = of_one
    return by_row


def _check_shapes(encoded: Encoded, utterances: int, dim: int, name: str) -> None:
    if encoded.embeddings.shape != (utterances, dim) or encoded.present.shape != (utterances,):
        raise BadTable(
            f"{name}: vectors {encoded.embeddings.shape}, present {encoded.present.shape} for {utterances} utterances"
            f" of dimension {dim}"
        )


def _with_own_findings(encoded: Encoded) -> list[tuple[int, str, str]]:
    """The encoder's remarks and those of the runner: non-finite values, vectors of zeros."""
    remarks = list(encoded.remarks)
    finite = np.isfinite(encoded.embeddings)
    for index in np.flatnonzero(encoded.present & ~finite.all(axis=1)).tolist():
        remarks.append((index, "not_finite", f"{int((~finite[index]).sum())} of {finite.shape[1]} values"))
    for index in np.flatnonzero(encoded.present & ~encoded.embeddings.any(axis=1)).tolist():
        remarks.append((index, "zero_vector", ""))
    return remarks


def save_part(encoding: Encoding, index: int, encoded: EncodedPart) -> None:
    """Writes the tables of part ``index``, then its marker."""
    if encoded.sequences is not None:
        sequences.write(encoding.job.part(index), encoded.sequences)
    parquet.write(encoding.job.part(index), encoded.vectors)
    encoding.job.mark_done(index, [failure.row() for failure in encoded.failures])


def _make_here(
    encoding: Encoding, encoder: Encoder, device: str, parts: Parts, advance: Advance
) -> Generator[tuple[int, EncoderFacts], None, None]:
    """Encodes in this process; while one part is encoded, threads read and decode the next and write the previous
    one.
    """
    if isinstance(encoder, NeuralEncoder):
        encoding.job.note(LINEAR_LAYERS, encoder.linear_layers)
    threads = os.cpu_count() or 1
    facts = facts_of(encoder)
    with (
        ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader,
        ThreadPoolExecutor(1, thread_name_prefix="write-behind") as writer,
    ):

        def begin(*, wait: bool) -> _Ahead | None:
            index = parts.take(wait=wait)
            return (
                None
                if index is None
                else (index, reader.submit(encoding.source.read, index, encoder.history_turns, threads))
            )

        ahead: _Ahead | None = begin(wait=True)
        behind: _Behind | None = None
        while ahead is not None:
            index, part = ahead[0], ahead[1].result()
            ahead = begin(wait=False)
            encoded = encode_part(encoder, part, encoding.modality)
            if behind is not None:
                yield _written(behind), facts  # a full disk ends the run here; at most two parts are in memory
            behind = index, writer.submit(save_part, encoding, index, encoded)
            advance(len(part.utterance_ids))
            del part, encoded
            memory.trim()
            if ahead is None:  # a run that waits for the next part has nothing left to write
                yield _written(behind), facts
                behind, ahead = None, begin(wait=True)
    if isinstance(encoder, NeuralEncoder):
        logger.info(
            "%s: batches of up to %d %s on %s", encoding.job.name, encoder.budget.units, encoder.budget.unit, device,
            extra={"stage": encoding.job.name, "budget": encoder.budget.units, "unit": encoder.budget.unit,
            "device": device},
        )  # fmt: skip


_Ahead = tuple[int, Future[PartInput]]
_Behind = tuple[int, Future[None]]


def _written(behind: _Behind) -> int:
    index, writing = behind
    writing.result()
    return index


def _make_in_processes(
    encoding: Encoding, processes: int, parts: Parts, advance: Advance
) -> Generator[tuple[int, EncoderFacts], None, None]:
    """Spreads the parts over processes, each with its own encoder on the CPU."""
    with closing(in_processes(_do_part, partial(_Part, encoding), parts, processes)) as done:
        for index, facts in done:
            advance(encoding.source.sizes[index])
            yield index, facts


@dataclass(frozen=True)
class _Part:
    """One task of a worker."""

    encoding: Encoding
    index: int

    def __str__(self) -> str:
        return f"part {self.index} of {self.encoding.job.name}"


class _Worker:
    """The state of a worker process: its encoder, once loaded, and the work it belongs to."""

    encoder: Encoder
    of: str = ""


def _do_part(part: _Part) -> EncoderFacts:
    encoder = _loaded(part.encoding)
    save_part(
        part.encoding,
        part.index,
        encode_part(encoder, part.encoding.source.read(part.index, encoder.history_turns), part.encoding.modality),
    )
    return facts_of(encoder)


def _loaded(encoding: Encoding) -> Encoder:
    """Its encoder on the CPU, loaded once per process."""
    if _Worker.of != encoding.job.fingerprint.digest:
        _Worker.encoder, _Worker.of = encoding.loaded("cpu"), encoding.job.fingerprint.digest
    return _Worker.encoder


def facts_of(encoder: Encoder) -> EncoderFacts:
    """Facts about a loaded encoder."""
    return EncoderFacts(encoder.dim, encoder.provenance())


def with_notes(facts: EncoderFacts, job: Job) -> EncoderFacts:
    """The same, with the choices of the runs that made the parts."""
    noted = job.noted(LINEAR_LAYERS)
    return replace(facts, provenance={**facts.provenance, LINEAR_LAYERS: ", ".join(noted)}) if noted else facts
