"""Stage ``extract``: manifest × encoder → one vector per utterance, in ``features/<dataset>/<modality>/<encoder>/``."""

from collections.abc import Collection, Generator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc

from merc import files, log, parquet, provenance
from merc.command_line import stage_command
from merc.compute.executors.base import Listed, Parts
from merc.compute.executors.base import choose as choose_executor
from merc.encoders.engine.base import Encoder
from merc.encoders.engine.neural import NeuralConfig, NeuralEncoder
from merc.encoders.engine.registry import ChosenEncoder, choose
from merc.extraction import runner
from merc.extraction.config import Config
from merc.extraction.inputs import MediaToCome, Source, media_source, text_source
from merc.job import RECORD, Fingerprint, Job, RunOptions
from merc.layout import MODALITIES, Layout
from merc.params import Params
from merc.records import audit as audits
from merc.records import features as feature_tables
from merc.records import manifest
from merc.records.inputs import input_hashes, media_hashes


def extract(chosen: ChosenEncoder, config: Config, layout: Layout, run: RunOptions, *, heard: bool = False) -> Path:
    """Extracts the features of one modality with one encoder.

    Args:
        chosen: the encoder with its settings.
        config: settings of the extraction.
        layout: paths of the manifest, the media and the features.
        run: workers, device, overwrite, limit of failures.
        heard: for text: encode a speech recogniser's output instead of the transcripts, into ``layout.heard_text``.

    Returns:
        The folder with ``part-NNNNN.parquet`` and perhaps ``sequences/`` (:mod:`merc.records.features`),
        ``failures.parquet`` (this stage's rows) and ``record.json``.

    Raises:
        BadSettings: for a setting that does not fit the checkpoint, or an encoder that was fine-tuned on dev or test
            utterances of this manifest.
        RawDataMissing: if there is no manifest.
        BadTable: if there are no matching media; with ``heard``, no transcripts by a speech recogniser.
        ModelUnavailable: if the checkpoint is not available.
        SettingsDiffer: if work with other settings exists and ``run.overwrite`` is off.
        TooManyFailures: see ``run.max_failed``; finished parts are kept.
    """
    prepared = prepare(chosen, config, layout, run, heard=heard)
    if prepared.job.done_before():
        return prepared.job.out
    making = make(prepared, run, Listed(prepared.left()))
    while True:
        try:
            next(making)
        except StopIteration as ended:
            return finish(prepared, ended.value, run.max_failed)


def dry_run(chosen: ChosenEncoder, config: Config, layout: Layout, run: RunOptions) -> dict[str, Any]:
    """What :func:`extract` would do, for dry runs; imports no torch and changes nothing.

    Returns:
        ``cached`` (bool), ``utterances``, ``utterances_to_do``, ``parts``, ``parts_to_do``, and ``bytes``: of the
        vectors before compression, None if the length of the encoder's vectors is only known once it is loaded.

    Raises:
        As :func:`extract`, as far as errors can be found beforehand.
    """
    prepared = prepare(chosen, config, layout, run)
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
class Prepared:
    """What :func:`extract` has to do.

    Attributes:
        chosen: the encoder with its settings.
        encoder: built, not loaded.
        source: source of its parts. job: destination of its parts.
    """

    chosen: ChosenEncoder
    encoder: Encoder
    source: Source
    job: Job

    def left(self) -> list[int]:
        """The parts that are not done."""
        return [index for index in range(len(self.source.sizes)) if not self.job.is_done(index)]


def prepare(
    chosen: ChosenEncoder,
    config: Config,
    layout: Layout,
    run: RunOptions,
    media: MediaToCome | None = None,
    *,
    heard: bool = False,
) -> Prepared:
    """What :func:`extract` has to do; with ``media``, for media that are being made."""
    modality, name = chosen.modality, chosen.name
    encoder = chosen.build(offline=run.offline, sequences=config.level == "sequences")
    table = manifest.read(layout.manifest)
    if heard:
        table = audits.with_heard_text(layout, table)
    settings: dict[str, Any] = {"encoders": {modality: {name: encoder.identity()}}}
    if isinstance(encoder, NeuralEncoder) and encoder.adaptation is not None:
        encoder.adaptation.check_unseen(table)
    source: Source
    if modality == "text":
        size = config.neural_texts_per_part if encoder.ACCELERATED else config.utterances_per_part
        source = text_source(layout.manifest, table, size, layout.audit / audits.TABLE if heard else None)
    else:  # images all have one size: larger parts have no advantage
        size = config.neural_clips_per_part if encoder.ACCELERATED and modality == "audio" else 1
        source = media_source(layout.media, table, modality, size) if media is None else media.source(modality, size)
    settings["extraction"] = {"utterances_per_part": size, "level": config.level}
    if media is None or modality == "text":
        inputs = input_hashes(layout.media, table, modality)
    else:
        inputs = media_hashes(media.fingerprint.settings, media.fingerprint.inputs, modality)
    out = layout.heard_text(name) if heard else layout.features(modality, name)
    if config.level == "utterance" and (with_sequences := _with_sequences(out, settings, inputs)) is not None:
        settings = with_sequences
    job = Job(
        f"{'heard/' if heard else ''}{modality}/{name}",
        out,
        layout.scratch,
        Fingerprint(settings, inputs),
        run.overwrite,
    )
    return Prepared(chosen, encoder, source, job)


def _settled(chosen: ChosenEncoder, job: Job) -> ChosenEncoder:
    """The encoder with all machine-dependent choices made: those of the run that started the work, so that a resumed
    run gives the same bytes.
    """
    config = chosen.config
    if not isinstance(config, NeuralConfig) or config.linear_layers != "auto":
        return chosen
    from merc.encoders.engine import linear  # which imports torch

    begun = job.noted(runner.LINEAR_LAYERS)
    return replace(
        chosen, config=config.model_copy(update={runner.LINEAR_LAYERS: begun[0] if begun else linear.choose("auto")})
    )


def _with_sequences(out: Path, settings: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any] | None:
    """The settings with sequences, if finished features have them: they include everything that is requested."""
    wanted = {**settings, "extraction": {**settings["extraction"], "level": "sequences"}}
    there = (out / RECORD).is_file() and files.read_json(out / RECORD).get("fingerprint") == Fingerprint(
        wanted, inputs
    ).digest
    return wanted if there else None


def make(
    prepared: Prepared, run: RunOptions, parts: Parts, share: Collection[int] | None = None
) -> Generator[int, None, runner.EncoderFacts]:
    """Encodes parts: yields the number of each finished part, and at the end facts about the encoder.

    Args:
        prepared: what to do.
        run: how to run.
        parts: those that are not done.
        share: the parts that must exist at the end, while other processes make the others; None: all.
    """
    job, sizes = prepared.job, prepared.source.sizes
    mine = range(len(sizes)) if share is None else sorted(share)
    left, total = [index for index in mine if not job.is_done(index)], sum(sizes[index] for index in mine)
    build = partial(_settled(prepared.chosen, job).build, offline=run.offline, sequences=prepared.encoder.sequences)
    encoding = runner.Encoding(build, prepared.encoder.ACCELERATED, prepared.source, job, prepared.chosen.modality)
    facts: runner.EncoderFacts | None = None
    with (
        log.progress(total, job.name, "utterance", done=total - sum(sizes[index] for index in left)) as bar,
        closing(choose_executor(run).map(encoding, parts, bar.update)) as done,
    ):
        job.start() if share is None else job.join()
        if len(left) < len(mine):
            log.logger.info(
                "%s: %d of %d parts were already done",
                job.name,
                len(mine) - len(left),
                len(mine),
                extra={"stage": job.name},
            )
        for index, found in done:
            facts = found
            yield index
    return runner.with_notes(facts or runner.facts_of(encoding.loaded("cpu")), job)


def finish(prepared: Prepared, facts: runner.EncoderFacts, max_failed: str) -> Path:
    """Moves encoded parts to their final place. Raises ``TooManyFailures`` as :func:`extract`."""
    job, count = prepared.job, len(prepared.source.sizes)
    total = sum(prepared.source.sizes)
    feature_tables.write_failures(job, count, total, max_failed)
    job.finish(
        {
            "modality": prepared.chosen.modality,
            "encoder": prepared.chosen.name,
            **asdict(facts),
            "counts": _counts([job.part(index) for index in range(count)]),
            "versions": provenance.versions(),
        }
    )
    log.logger.info("%s: %d utterances", job.name, total, extra={"stage": job.name, "utterances": total})
    return job.out


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
