"""Stage ``extract``: manifest × encoder → one vector per utterance, in ``features/<dataset>/<modality>/<encoder>/``."""

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc

from merc import files, log, parquet, provenance
from merc.command_line import stage_command
from merc.compute import device
from merc.encoders.engine.base import Encoder
from merc.encoders.engine.neural import NeuralConfig, NeuralEncoder
from merc.encoders.engine.registry import ChosenEncoder, choose
from merc.extraction import runner
from merc.extraction.config import Config
from merc.extraction.inputs import Source, media_source, text_source
from merc.job import RECORD, Fingerprint, Job, RunOptions
from merc.layout import MODALITIES, Layout
from merc.params import Params
from merc.records import features as feature_tables
from merc.records import manifest
from merc.records.inputs import input_hashes


def extract(chosen: ChosenEncoder, config: Config, layout: Layout, run: RunOptions) -> Path:
    """Extracts the features of one modality with one encoder.

    Args:
        chosen: the encoder with its settings.
        config: settings of the extraction.
        layout: where the manifest and the media are, and where the features go.
        run: workers, device, overwrite, limit of failures.

    Returns:
        The folder with ``part-NNNNN.parquet`` and perhaps ``sequences/`` (:mod:`merc.records.features`), ``failures.parquet`` (this
        stage's rows) and ``record.json``.

    Raises:
        BadSettings: for a setting that does not fit the checkpoint, or an encoder that was fine-tuned on dev or test utterances of this manifest.
        RawDataMissing: if there is no manifest.
        BadTable: if there are no media that fit it.
        ModelUnavailable: if the checkpoint is not to be had.
        SettingsDiffer: if there is work with other settings and ``run.overwrite`` is off.
        TooManyFailures: see ``run.max_failed``; finished parts are kept.
    """
    prepared = _prepare(chosen, config, layout, run)
    job, source = prepared.job, prepared.source
    if job.done_before():
        return job.out
    job.start()
    left = prepared.left()
    total = sum(source.sizes)
    if len(left) < len(source.sizes):
        log.logger.info("%s: %d of %d parts were done before", job.name, len(source.sizes) - len(left), len(source.sizes), extra={"stage": job.name})
    build = partial(_settled(chosen, job).build, offline=run.offline, sequences=prepared.encoder.sequences)
    encoding = runner.Encoding(build, source, job, chosen.modality)
    with log.progress(total, job.name, "utterance", done=total - sum(source.sizes[index] for index in left)) as bar:
        if prepared.encoder.ACCELERATED:
            facts = runner.run_here(encoding, device.resolve(run.device), left, bar.update)
        else:
            facts = runner.run_in_processes(encoding, run.workers, left, bar.update)
    _finish(prepared, facts, run.max_failed)
    log.logger.info("%s: %d utterances", job.name, total, extra={"stage": job.name, "utterances": total})
    return job.out


def dry_run(chosen: ChosenEncoder, config: Config, layout: Layout, run: RunOptions) -> dict[str, Any]:
    """What :func:`extract` would do, for dry runs; imports no torch and changes nothing.

    Returns:
        ``cached`` (bool), ``utterances``, ``utterances_to_do``, ``parts``, ``parts_to_do``, and ``bytes``: of the vectors before
        compression, None if the length of the encoder's vectors is only known once it is loaded.

    Raises:
        As :func:`extract`, as far as it can be told beforehand.
    """
    prepared = _prepare(chosen, config, layout, run)
    cached = prepared.job.cached()
    left = [] if cached else prepared.left()
    sizes = prepared.source.sizes
    dim = files.read_json(prepared.job.out / prepared.job.record)["dim"] if cached else prepared.encoder.planned_dim()
    return {
        "cached": cached,
        "utterances": sum(sizes),
        "utterances_to_do": sum(sizes[index] for index in left),
        "parts": len(sizes),
        "parts_to_do": len(left),
        "bytes": None if dim is None else 4 * dim * sum(sizes),
    }


@dataclass(frozen=True)
class _Prepared:
    chosen: ChosenEncoder
    encoder: Encoder
    source: Source
    job: Job

    def left(self) -> list[int]:
        return [index for index in range(len(self.source.sizes)) if not self.job.is_done(index)]


def _prepare(chosen: ChosenEncoder, config: Config, layout: Layout, run: RunOptions) -> _Prepared:
    modality, name = chosen.modality, chosen.name
    encoder = chosen.build(offline=run.offline, sequences=config.level == "sequences")
    table = manifest.read(layout.manifest)
    settings: dict[str, Any] = {"encoders": {modality: {name: encoder.identity()}}}
    if isinstance(encoder, NeuralEncoder) and encoder.adaptation is not None:
        encoder.adaptation.check_unseen(table)
    source: Source
    if modality == "text":
        size = config.neural_texts_per_part if encoder.ACCELERATED else config.utterances_per_part
        source = text_source(layout.manifest, table, size)
    else:  # pictures are all of one size: nothing is gained by larger parts
        size = config.neural_clips_per_part if encoder.ACCELERATED and modality == "audio" else 1
        source = media_source(layout.media, table, modality, size)
    settings["extraction"] = {"utterances_per_part": size, "level": config.level}
    inputs = input_hashes(layout.media, table, modality)
    out = layout.features(modality, name)
    if config.level == "utterance" and (with_sequences := _with_sequences(out, settings, inputs)) is not None:
        settings = with_sequences
    job = Job(f"{modality}/{name}", out, layout.scratch, Fingerprint(settings, inputs), run.overwrite)
    return _Prepared(chosen, encoder, source, job)


def _settled(chosen: ChosenEncoder, job: Job) -> ChosenEncoder:
    """The encoder with nothing left for the machine to choose: as the run chose that began the work, so that one that goes on gives the same bytes."""
    config = chosen.config
    if not isinstance(config, NeuralConfig) or config.linear_layers != "auto":
        return chosen
    from merc.encoders.engine import linear  # which imports torch

    begun = job.noted(runner.LINEAR_LAYERS)
    return replace(chosen, config=config.model_copy(update={runner.LINEAR_LAYERS: begun[0] if begun else linear.choose("auto")}))


def _with_sequences(out: Path, settings: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any] | None:
    """The settings with sequences, if finished features have these: they hold all that is wanted."""
    wanted = {**settings, "extraction": {**settings["extraction"], "level": "sequences"}}
    there = (out / RECORD).is_file() and files.read_json(out / RECORD).get("fingerprint") == Fingerprint(wanted, inputs).digest
    return wanted if there else None


def _finish(prepared: _Prepared, facts: runner.EncoderFacts, max_failed: str) -> None:
    job, count = prepared.job, len(prepared.source.sizes)
    feature_tables.write_failures(job, count, sum(prepared.source.sizes), max_failed)
    job.finish(
        {
            "modality": prepared.chosen.modality,
            "encoder": prepared.chosen.name,
            **asdict(facts),
            "counts": _counts([job.part(index) for index in range(count)]),
            "versions": provenance.versions(),
        }
    )


def _counts(part_paths: list[Path]) -> dict[str, Any]:
    status = pa.concat_tables([parquet.read(path, ["status"]) for path in part_paths])["status"]
    by_status = {one["values"]: one["counts"] for one in pc.value_counts(status).to_pylist()}
    return {"utterances": len(status), "present": by_status.pop(feature_tables.OK, 0), "absent": by_status}


@stage_command
@click.option("--modality", required=True, type=click.Choice(MODALITIES))
@click.option("--encoder", required=True, help="An encoder of `merc-extract models`.")
def main(params: Params, layout: Layout, run: RunOptions, modality: str, encoder: str) -> None:
    """Manifest and media × encoder → one vector per utterance."""
    extract(choose(params, modality, encoder), params.fill("extraction", Config), layout, run)


if __name__ == "__main__":
    main()
