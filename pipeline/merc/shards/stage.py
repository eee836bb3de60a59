"""Stage ``shards``: manifest + features → one row per dialogue, in ``features/<dataset>/shards/``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from merc import files, log, parquet, provenance
from merc.command_line import stage_command
from merc.errors import BadSettings, nearest
from merc.job import RECORD, Fingerprint, Job, RunOptions
from merc.layout import MODALITIES, Layout
from merc.params import Params
from merc.records import audit as audits
from merc.records import manifest
from merc.records.dialogue import SPLITS
from merc.records.feature_parts import Features, open_features
from merc.shards.config import Config
from merc.shards.format import cutting
from merc.shards.format.meta import FACE_SETTINGS, STATS_SPLIT
from merc.shards.format.moments import RunningMoments
from merc.shards.format.schema import SCHEMA_VERSION, merc_metadata, quality_columns, schema
from merc.shards.joining.failures import collect, explained, read_record
from merc.shards.joining.join import check_absent, join

INFO = "meta/info.json"
STATS = "meta/stats.json"


def build_shards(config: Config, layout: Layout, run: RunOptions, *, encoders: dict[str, str]) -> Path:
    """Builds the shards of a dataset: ``dialogues/``, ``failures/``, ``meta/info.json``, ``meta/stats.json``.

    The dataset card and the checksums come last, after the trajectories (:func:`merc.shards.card.writing.write_card`).

    Args:
        params: settings.
        layout: paths of manifest, media and features; the shards go to ``layout.shards``.
        run: overwrite.
        encoders: modality → encoder, for each modality of the shards.

    Returns:
        The folder of the shards.

    Raises:
        BadSettings: if a setting or a modality is unknown, or no modality is given.
        BadTable: if a table is missing, stale, incomplete or in another order, or an absent vector has no failure row;
            with ``quality`` also if there is no audit, or one of different data.
        SettingsDiffer: if shards with other settings exist and ``run.overwrite`` is off.
        PipelineError: if a file cannot be written; existing shards are kept.
    """
    prepared = _prepare(config, layout, run, encoders)
    job = prepared.job
    if job.done_before():
        return job.out
    job.start()
    building = _Building(prepared, layout)
    for split in prepared.splits:
        building.write_split(split)
    files.write_json(
        job.folder / STATS, {modality: moments.as_json() for modality, moments in building.moments.items()}
    )
    job.finish(building.info())
    log.logger.info(
        "shards: %d utterances",
        prepared.table.num_rows,
        extra={"stage": job.name, "utterances": prepared.table.num_rows},
    )
    return job.out


def dry_run(config: Config, layout: Layout, run: RunOptions, *, encoders: dict[str, str]) -> dict[str, Any]:
    """What :func:`build_shards` would do, for dry runs; raises as it does, and changes nothing.

    Returns:
        ``cached`` (bool), ``utterances``, ``dialogues``, and ``bytes`` before compression.
    """
    prepared = _prepare(config, layout, run, encoders)
    return {
        "cached": prepared.job.cached(),
        "utterances": prepared.table.num_rows,
        "dialogues": len(manifest.dialogue_bounds(prepared.table)),
        "bytes": int(cutting.row_bytes(prepared.table, [one.dim for one in prepared.features.values()]).sum()),
    }


@dataclass(frozen=True)
class _Prepared:
    config: Config
    table: pa.Table
    record: dict[str, Any]
    features: dict[str, Features]
    encoders: dict[str, str]
    job: Job
    quality: dict[str, Any] | None

    @property
    def splits(self) -> list[str]:
        there = set(pc.unique(self.table["split"]).to_pylist())
        return [split for split in SPLITS if split in there]


def _prepare(config: Config, layout: Layout, run: RunOptions, encoders: Mapping[str, str]) -> _Prepared:
    for modality in encoders:
        if modality not in MODALITIES:
            raise BadSettings(f"no modality {modality!r}; {nearest(modality, list(MODALITIES))}")
    if not encoders:
        raise BadSettings(f"shards of no modality; valid: {', '.join(MODALITIES)}")
    table = manifest.read(layout.manifest)
    record = read_record(layout)
    audit = audits.read(layout, table) if config.quality else None
    in_order = {modality: encoders[modality] for modality in MODALITIES if modality in encoders}
    features = {modality: open_features(layout, table, modality, encoder) for modality, encoder in in_order.items()}
    fingerprint = Fingerprint(
        settings={"shards": config.decisive(), "encoders": in_order},
        inputs={
            "schema_version": SCHEMA_VERSION,
            "manifest": files.sha256(layout.manifest),
            "manifest_record": files.digest(record),
            "features": {modality: found.fingerprint for modality, found in features.items()},
            **({} if audit is None else {"audit": audit.fingerprint}),
        },
    )
    job = Job("shards", layout.shards, layout.scratch, fingerprint, run.overwrite, record=INFO)
    return _Prepared(
        config,
        table if audit is None else _with_quality(table, audit),
        record,
        features,
        in_order,
        job,
        _about_quality(audit),
    )


def _with_quality(table: pa.Table, audit: audits.Audit) -> pa.Table:
    """The manifest with the numbers of an audit."""
    found = audit.quality()
    for name in found.column_names:
        table = table.append_column(f"{audits.PREFIX}{name}", found[name])
    return table


def _about_quality(audit: audits.Audit | None) -> dict[str, Any] | None:
    """What ``meta/info.json`` says about the audit columns."""
    if audit is None:
        return None
    return {
        "columns": [f"{audits.PREFIX}{name}" for name in audits.QUALITY],
        "settings": audit.settings,
        "fingerprints": [audit.fingerprint],
    }


@dataclass
class _Building:
    """The shards while they are being written: one row group's vectors are in memory at a time."""

    prepared: _Prepared
    layout: Layout
    moments: dict[str, RunningMoments] = field(default_factory=dict)
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        table, features = self.prepared.table, self.prepared.features
        self.moments = {modality: RunningMoments(found.dim) for modality, found in features.items()}
        self.failures, self.failed_rows = collect(self.layout, table, self.prepared.encoders, self.prepared.record)
        self.explained = {
            modality: explained(self.failures, self.failed_rows, modality, table.num_rows) for modality in features
        }
        self.bounds = np.array(manifest.dialogue_bounds(table))
        self.split_of_row = table["split"].combine_chunks()
        self.classes = manifest.classes(table)
        self.metadata = {
            "corpus": self.layout.dataset,
            "label_set": table.schema.metadata[b"label_set"].decode(),
            "encoders": {modality: _encoder_facts(found) for modality, found in features.items()},
        }
        dims = {modality: found.dim for modality, found in features.items()}
        quality = quality_columns(table.column_names)
        self.schema = schema(
            dims, self.metadata, self.classes, transcripts=self.prepared.config.transcripts, quality=quality
        )

    def write_split(self, split: str) -> None:
        """Writes the dialogues and the failures of a split."""
        table, dims = self.prepared.table, [found.dim for found in self.prepared.features.values()]
        of_split_N = pc.equal(self.split_of_row, split).to_numpy(zero_copy_only=False)
        bounds_D2 = self.bounds[of_split_N[self.bounds[:, 0]]]
        bytes_D = np.add.reduceat(cutting.row_bytes(table, dims), self.bounds[:, 0])[of_split_N[self.bounds[:, 0]]]
        spans = cutting.plan_files(bytes_D.tolist(), self.prepared.config.max_file_bytes)
        present = dict.fromkeys(self.prepared.features, 0)
        for index, (first, last) in enumerate(spans):
            parquet.write_groups(
                self._path("dialogues", split, index, len(spans)),
                self.schema,
                self._groups(split, bounds_D2[first:last], present),
            )
        failed = self.failures.filter(pa.array(of_split_N[self.failed_rows]))
        parquet.write(
            self._path("failures", split, 0, 1),
            failed.replace_schema_metadata(merc_metadata({"corpus": self.layout.dataset})),
        )
        labels_N = table["emotion_index"].to_numpy()[of_split_N]
        self.counts[split] = _counts(len(bounds_D2), labels_N, self.classes) | {
            "present": present,
            "failures": failed.num_rows,
        }

    def _path(self, name: str, split: str, index: int, count: int) -> Path:
        return self.prepared.job.folder / name / cutting.file_name(split, index, count)

    def _groups(self, split: str, bounds_D2: NDArray[np.int64], present: dict[str, int]) -> Iterator[pa.Table]:
        """The dialogue rows of one file, row group by row group; also updates the statistics and the counts."""
        rows = self.prepared.config.row_group_dialogues
        for first in range(0, len(bounds_D2), rows):
            yield pa.concat_tables(
                [
                    self._joined(split, start, stop, present)
                    for start, stop in _runs(bounds_D2[first : first + rows].tolist())
                ]
            )

    def _joined(self, split: str, start: int, stop: int, present: dict[str, int]) -> pa.Table:
        """The dialogues in the rows ``start`` to ``stop`` of the manifest."""
        rows = self.prepared.table.slice(start, stop - start)
        vectors = {modality: found.read(start, stop) for modality, found in self.prepared.features.items()}
        for modality, found in vectors.items():
            check_absent(rows["utterance_id"], modality, found, self.explained[modality][start:stop])
            present[modality] += int(found.present.sum())
            if split == STATS_SPLIT:
                self.moments[modality].add(found.values[found.present])
        return join(rows, vectors, self.schema)

    def info(self) -> dict[str, Any]:
        """What ``meta/info.json`` contains in addition to the fingerprint."""
        return {
            "schema_version": SCHEMA_VERSION,
            **self.metadata,
            "classes": list(self.classes),
            "modalities": list(self.prepared.features),
            "dims": {modality: found.dim for modality, found in self.prepared.features.items()},
            "transcripts": self.prepared.config.transcripts,
            "counts": self.counts,
            **({"faces": found} if (found := _face_facts(self.layout)) and "visual" in self.prepared.features else {}),
            "splits": self.prepared.splits,
            "source": self.prepared.record["source"],
            "corpus_settings": self.prepared.record["settings"]["corpora"][self.layout.dataset],
            "counts_compared": self.prepared.record.get("counts_compared", True),
            **({"redistribution": terms} if (terms := self.prepared.record.get("redistribution")) else {}),
            "deviations": self.prepared.record["deviations"],
            **({} if self.prepared.quality is None else {"quality": self.prepared.quality}),
            "versions": provenance.versions(),
        }


def _face_facts(layout: Layout) -> dict[str, Any]:
    """How faces were found and chosen, and in how many utterances the speaker is off screen; empty if the media are not
    ours, as for imported vectors.
    """
    path = layout.media / RECORD
    record = files.read_json(path) if path.is_file() else {}
    settings = record.get("settings", {}).get("media", {})
    facts = {key: settings[key] for key in FACE_SETTINGS if key in settings}
    counts = record.get("counts", {})
    return (
        {**facts, "off_screen_utterances": counts["off_screen"], "judged_utterances": counts["judged"]}
        if "off_screen" in counts
        else facts
    )


def _runs(bounds: list[list[int]]) -> list[tuple[int, int]]:
    """Row spans of a split's dialogues in the manifest, with adjacent ones merged: one span unless splits are
    interleaved.
    """
    runs: list[tuple[int, int]] = []
    for start, stop in bounds:
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return runs


def _encoder_facts(found: Features) -> dict[str, Any]:
    """What made a column: provenance, settings with their hash, library versions."""
    settings = found.info["settings"]["encoders"][found.modality][found.info["encoder"]]
    return {
        **found.info["provenance"],
        "name": found.info["encoder"],
        "dim": found.dim,
        "settings": settings,
        "settings_sha256": files.digest(settings),
        "fingerprint": found.fingerprint,
        "versions": found.info["versions"],
    }


def _counts(dialogues: int, labels_N: NDArray[np.int16], classes: tuple[str, ...]) -> dict[str, Any]:
    """Numbers of dialogues, of utterances, and of utterances per class; ``unlabelled`` are outside the label set."""
    return {
        "dialogues": dialogues,
        "utterances": len(labels_N),
        "labels": {name: int((labels_N == index).sum()) for index, name in enumerate(classes)},
        "unlabelled": int((labels_N < 0).sum()),
    }


@stage_command
@click.option(
    "--encoder",
    "encoder",
    multiple=True,
    metavar="MODALITY=NAME",
    help="One per modality; default: what params.yaml builds of the dataset.",
)
def main(params: Params, layout: Layout, run: RunOptions, encoder: tuple[str, ...]) -> None:
    """Manifest and features → one row per dialogue."""
    chosen: dict[str, str] = dict(_pair(one) for one in encoder) or dict(params.get(f"build.{layout.dataset}"))
    build_shards(params.fill("shards", Config), layout, run, encoders=chosen)


def _pair(text: str) -> tuple[str, str]:
    modality, equals, name = text.partition("=")
    if not equals or not name:
        raise BadSettings(f"--encoder {text!r} is not of the form MODALITY=NAME")
    return modality, name


if __name__ == "__main__":
    main()
