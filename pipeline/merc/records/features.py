"""The feature tables: one vector per utterance. ``part-NNNNN.parquet``, rows in manifest order."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from merc import parquet
from merc.job import Job, Record
from merc.records import failures

OK = "ok"
FAILURES = "failures.parquet"  # next to the parts: the failure rows of the stage that wrote them


class FeatureRecord(Record):
    """What the record of features says about the encoder."""

    modality: str
    encoder: str
    dim: PositiveInt
    provenance: dict[str, Any]
    counts: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)


def schema(dim: int) -> pa.Schema:
    """Columns of a feature table with vectors of length ``dim``."""
    return pa.schema(
        [
            pa.field("utterance_id", pa.string(), nullable=False),
            pa.field("embedding", vectors_type(dim), nullable=False),  # zeros where absent, never null
            pa.field("present", pa.bool_(), nullable=False),
            pa.field("status", pa.string(), nullable=False),  # "ok", or why it is absent
        ]
    )


def vectors_type(dim: int) -> pa.DataType:
    """Fixed-size list of float32 without nulls: the one vector type that every reader opens (pyarrow, pandas, polars,
    DuckDB, datasets, Ray).
    """
    return pa.list_(pa.field("element", pa.float32(), nullable=False), dim)


def vectors(values: NDArray[np.float32]) -> pa.FixedSizeListArray:
    """(n, dim) float32 as an Arrow column."""
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=vectors_type(values.shape[1]))


def write_failures(job: Job, parts: int, utterances: int, max_failed: str) -> pa.Table:
    """Writes the failure rows of all parts of a job next to them, if there are few enough.

    Args:
        job: the job, with all parts done.
        parts: number of parts.
        utterances: number of utterances that it handled.
        max_failed: see :func:`merc.records.failures.check_limit`.

    Returns:
        The rows.

    Raises:
        TooManyFailures: if more utterances are broken; the parts are kept.
    """
    rows = job.failures(parts)
    failures.check_limit(rows, utterances, max_failed, job.name)
    table = failures.table(rows)
    parquet.write(job.folder / FAILURES, table)
    return table
