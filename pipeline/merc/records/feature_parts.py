"""Extracted feature tables, checked once against the manifest and read by row span."""

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from merc import files, job, parquet
from merc.errors import BadTable
from merc.layout import Layout
from merc.records import features as feature_tables
from merc.records.inputs import input_hashes


@dataclass(frozen=True)
class Vectors:
    """Vectors of N utterances.

    Attributes:
        values: float32 [N, D]; zeros where absent.
        present: bool [N].
    """

    values: NDArray[np.float32]
    present: NDArray[np.bool_]


@dataclass(frozen=True)
class Features:
    """The features of one modality.

    Attributes:
        folder: folder of the parts.
        modality: ``text``, ``audio`` or ``visual``.
        info: the stage's ``record.json``.
        paths: the parts, in order.
        bounds: first row of each part, followed by the total number of rows.
    """

    folder: Path
    modality: str
    info: dict[str, Any]
    paths: tuple[Path, ...]
    bounds: tuple[int, ...]
    _last: dict[Path, pa.Table] = field(default_factory=dict, repr=False, compare=False)

    @property
    def dim(self) -> int:
        return int(self.info["dim"])

    @property
    def fingerprint(self) -> str:
        return str(self.info["fingerprint"])

    def read(self, start: int, stop: int) -> Vectors:
        """Vectors of the manifest's rows ``start`` to ``stop`` (half-open); only the parts that hold them are read.

        Raises:
            BadTable: if a vector is null or not finite, or a part is damaged.
        """
        pieces = []
        for part in range(bisect_right(self.bounds, start) - 1, bisect_left(self.bounds, stop)):
            first, end = self.bounds[part : part + 2]
            pieces.append(self._part(self.paths[part]).slice(max(start - first, 0), min(stop, end) - max(start, first)))
        rows = pa.concat_tables(pieces).combine_chunks()
        embedding = rows["embedding"].chunk(0)
        flat = embedding.flatten()  # honours the slice, leaves out null vectors
        if embedding.null_count or flat.null_count or rows["present"].null_count:
            raise BadTable(f"{self.folder}: null values among rows {start} to {stop}")
        values_ND = flat.to_numpy(zero_copy_only=True).reshape(-1, self.dim)
        if not np.isfinite(values_ND).all():
            raise BadTable(
                f"{self.folder}: row {start + int(np.flatnonzero(~np.isfinite(values_ND).all(axis=1))[0])} is not"
                " finite"
            )
        return Vectors(values_ND, rows["present"].chunk(0).to_numpy(zero_copy_only=False))

    def _part(self, path: Path) -> pa.Table:
        """A part; the last one is cached, since a row group often starts in the part in which the previous one
        ended.
        """
        if path not in self._last:
            self._last.clear()
            with parquet.opened(path) as file:
                self._last[path] = file.read(["embedding", "present"])
        return self._last[path]


def open_features(layout: Layout, table: pa.Table, modality: str, encoder: str, folder: Path | None = None) -> Features:
    """Finds the features of a modality and checks that they are those of this manifest, row by row.

    Args:
        layout: paths of the dataset.
        table: the manifest.
        modality: ``text``, ``audio`` or ``visual``.
        encoder: name of the encoder.
        folder: their folder if they are not among the dataset's features, such as
            :meth:`merc.layout.Layout.heard_text`.

    Raises:
        BadTable: if there are none, or they were made from other inputs, have other columns or lengths, or have
            missing, additional or reordered rows.
    """
    folder = folder or layout.features(modality, encoder)
    if not (folder / job.RECORD).is_file():
        raise BadTable(f"{folder}: there are no features; run the extraction of {modality} with {encoder} first")
    info = files.read_record(folder / job.RECORD, feature_tables.FeatureRecord, "the record of features")
    if info["inputs"] != input_hashes(layout.media, table, modality):
        raise BadTable(
            f"{folder}: made from another manifest or other media than the current ones; run the extraction of"
            f" {modality} with {encoder} again"
        )
    paths = tuple(sorted(folder.glob("part-*.parquet")))
    expected = feature_tables.schema(int(info["dim"]))
    ids: list[pa.Array] = []
    bounds = [0]
    for path in paths:
        with parquet.opened(path) as file:
            if not file.schema_arrow.equals(expected, check_metadata=False):
                raise BadTable(f"{path}: columns {_brief(file.schema_arrow)} instead of {_brief(expected)}")
            ids += file.read(["utterance_id"])["utterance_id"].chunks
        bounds.append(sum(map(len, ids)))
    there = pa.chunked_array(ids, pa.string())
    if not there.equals(table["utterance_id"]):
        _name_what_differs(folder, there.to_pylist(), table["utterance_id"].to_pylist())
    return Features(folder, modality, info, paths, tuple(bounds))


def _brief(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


def _name_what_differs(folder: Path, there: list[str], wanted: list[str]) -> NoReturn:
    missing, strange = set(wanted) - set(there), set(there) - set(wanted)
    if missing:
        first = next(one for one in wanted if one in missing)
        raise BadTable(
            f"{folder}: {len(missing)} of the manifest's {len(wanted)} utterances are missing, the first is {first!r}"
        )
    if strange:
        first = next(one for one in there if one in strange)
        raise BadTable(f"{folder}: {len(strange)} utterances that are not in the manifest, the first is {first!r}")
    if len(there) != len(wanted):
        double, times = Counter(there).most_common(1)[0]
        raise BadTable(f"{folder}: {len(there)} rows for {len(wanted)} utterances; {double!r} is there {times} times")
    row = next(row for row, (one, other) in enumerate(zip(there, wanted, strict=True)) if one != other)
    raise BadTable(
        f"{folder}: in another order than the manifest: row {row} is {there[row]!r} instead of {wanted[row]!r}"
    )
