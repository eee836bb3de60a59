"""The failure rows of a dataset, from all stages that made its shards."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from merc import files, parquet
from merc.errors import BadTable
from merc.layout import Layout
from merc.records import failures
from merc.records.features import FAILURES


class _Row(BaseModel):
    utterance_id: str
    stage: str
    modality: str
    reason: str
    kind: str
    detail: str


class ManifestRecord(BaseModel):
    """The minimum content of ``manifest.json``."""

    model_config = ConfigDict(strict=True, extra="allow")

    settings: dict[str, dict[str, Any]]
    source: str
    deviations: list[str]
    failures: list[_Row]
    counts_compared: bool = True


def collect(
    layout: Layout, table: pa.Table, encoders: Mapping[str, str], record: Mapping[str, Any]
) -> tuple[pa.Table, NDArray[np.int64]]:
    """All failure rows, in manifest order; those of an utterance in the order of the stages.

    Args:
        layout: paths of the stages' outputs.
        table: the manifest.
        encoders: modality → encoder; the media's rows on other modalities are left out, since another run may have
            decoded those.
        record: content of ``manifest.json``, whose ``failures`` are the manifest's rows.

    Returns:
        The rows (:data:`merc.records.failures.SCHEMA`), and int64 [rows]: for each, the row of its utterance in the
        manifest.

    Raises:
        BadTable: if a stage's table is missing or has other columns, or a row is about an utterance that is not in the
            manifest.
    """
    found = [failures.table(record["failures"])]
    if {"audio", "visual"} & set(encoders):
        of_media = _read(layout.media / FAILURES)
        found.append(of_media.filter(pc.is_in(of_media["modality"], pa.array([*encoders, "all"]))))
    found += [_read(layout.features(modality, encoder) / FAILURES) for modality, encoder in encoders.items()]
    rows = pa.concat_tables(found)
    position = pc.index_in(rows["utterance_id"], table["utterance_id"].combine_chunks())
    strange = rows["utterance_id"].filter(pc.is_null(position))
    if len(strange):
        raise BadTable(
            f"{layout.folder}: {len(strange)} failure rows about utterances that are not in the manifest, the first"
            f" about {strange[0].as_py()!r}"
        )
    position_F = position.to_numpy().astype(np.int64)
    order_F = np.argsort(position_F, kind="stable")
    return rows.take(pa.array(order_F)), position_F[order_F]


def explained(rows: pa.Table, position_F: NDArray[np.int64], modality: str, utterances: int) -> NDArray[np.bool_]:
    """The utterances whose vector of ``modality`` may be absent: a row of kind ``broken`` or ``absent`` says why.

    Args:
        rows: see :func:`collect`.
        position_F: likewise.
        modality: ``text``, ``audio`` or ``visual``.
        utterances: number of rows of the manifest.

    Returns:
        bool [utterances].
    """
    explains = pc.and_(pc.not_equal(rows["kind"], "altered"), pc.is_in(rows["modality"], pa.array([modality, "all"])))
    explained_N = np.zeros(utterances, dtype=bool)
    explained_N[position_F[explains.to_numpy()]] = True
    return explained_N


def read_record(layout: Layout) -> dict[str, Any]:
    """Content of ``manifest.json``, the record next to the manifest.

    Raises:
        BadTable: if it is missing or has no failure rows.
    """
    path = layout.folder / "manifest.json"
    if not path.is_file():
        raise BadTable(f"{path}: the manifest's record is missing; run the stage manifest again")
    try:
        record: dict[str, Any] = files.read_record(path, ManifestRecord, "the record of a manifest")
    except BadTable as error:
        raise BadTable(f"{error}; run the stage manifest again") from error
    return record


def _read(path: Path) -> pa.Table:
    if not path.is_file():
        raise BadTable(f"{path}: the failure table is missing; run the stage that writes it again")
    return failures.checked(parquet.read(path), path)
