"""The failure rows of a dataset, from all stages that its shards were made by."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import files
from pipeline.corpora import failures
from pipeline.errors import BadTable
from pipeline.extraction.tables import FAILURES
from pipeline.layout import Layout


def collect(layout: Layout, table: pa.Table, encoders: Mapping[str, str], record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All failure rows, in manifest order; those of an utterance in the order of the stages.

    Args:
        layout: where the stages wrote theirs.
        table: the manifest.
        encoders: modality → encoder; the media's rows on other modalities are left out, for another run may have decoded those.
        record: content of ``manifest.json``, whose ``failures`` are the manifest's rows.

    Raises:
        BadTable: if a stage's table is missing or has other columns, or a row is about an utterance that is not in the manifest.
    """
    rows: list[dict[str, Any]] = list(record["failures"])
    if {"audio", "visual"} & set(encoders):
        rows += [row for row in _read(layout.media / FAILURES) if row["modality"] in {*encoders, "all"}]
    for modality, encoder in encoders.items():
        rows += _read(layout.features(modality, encoder) / FAILURES)
    position = {one: row for row, one in enumerate(table["utterance_id"].to_pylist())}
    strange = [row for row in rows if row["utterance_id"] not in position]
    if strange:
        raise BadTable(
            f"{layout.folder}: {len(strange)} failure rows about utterances that are not in the manifest, the first about {strange[0]['utterance_id']!r}"
        )
    return sorted(rows, key=lambda row: position[row["utterance_id"]])


def explained(rows: Collection[Mapping[str, Any]], modality: str) -> set[str]:
    """Ids of the utterances whose vectors of ``modality`` may be absent: a row of kind ``broken`` or ``absent`` says why."""
    return {str(row["utterance_id"]) for row in rows if row["kind"] != "altered" and row["modality"] in (modality, "all")}


def read_record(layout: Layout) -> dict[str, Any]:
    """Content of ``manifest.json``, the record beside the manifest.

    Raises:
        BadTable: if it is missing or has no failure rows.
    """
    path = layout.folder / "manifest.json"
    if not path.is_file():
        raise BadTable(f"{path}: the manifest's record is missing; run the corpora stage again")
    record = files.read_json(path)
    wanted = {"settings", "source", "deviations", "failures"}
    if not isinstance(record, dict) or not wanted <= record.keys() or not isinstance(record["failures"], list):
        raise BadTable(f"{path}: not the record of a manifest: it lacks {', '.join(sorted(wanted))}; run the corpora stage again")
    return record


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise BadTable(f"{path}: the failure table is missing; run the stage that writes it again")
    table = pq.read_table(path)
    if not table.schema.equals(failures.SCHEMA, check_metadata=False):
        raise BadTable(f"{path}: not a failure table: columns {table.schema.names} instead of {failures.SCHEMA.names}")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
