"""Stage ``adapt``: the labels of a train split × encoder → the same encoder, fine-tuned, in
``features/<dataset>/adapted/<modality>/<encoder>-<name>/``.

    model.safetensors, config.json, tokenizer   loaded as any checkpoint; name the folder as ``repo`` of a block under ``encoders``
    head.safetensors                            the linear classifier of the training
    record.json                                 checkpoint, corpus, splits, label set, settings, scores
    seen.json                                   keys of the train and dev utterances, for recognising them later

A killed run restarts from the beginning, and on a CPU ends with the same bytes.
"""  # noqa: E501

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import click
import pyarrow as pa

from merc import files, log, provenance
from merc.adaptation.config import Config
from merc.adaptation.examples import check_labels, read_examples
from merc.adaptation.listing import MODALITIES
from merc.command_line import stage_command
from merc.compute import device as devices
from merc.encoders.engine import adapted
from merc.encoders.engine.registry import ChosenEncoder, family_of
from merc.encoders.engine.registry import choose as choose_encoder
from merc.encoders.engine.trainable import TrainableEncoder
from merc.errors import BadSettings, nearest
from merc.job import Fingerprint, Job, RunOptions
from merc.layout import Layout
from merc.params import Laid, Params, Shelf
from merc.records import manifest
from merc.records.inputs import input_hashes

_LABEL_COLUMNS = ("split", "emotion_index", *adapted.KEY_COLUMNS)


@dataclass(frozen=True)
class ChosenAdaptation:
    """A fine-tuning with its settings; nothing is loaded yet.

    Attributes:
        encoder: the encoder with its settings in this training. name: name of the settings.
        config: the settings.
        laid: the settings with their origins.
    """

    encoder: ChosenEncoder
    name: str
    config: Config
    laid: Laid

    def trainable(self, *, offline: bool) -> TrainableEncoder:
        """The encoder.

        Raises:
            BadSettings: if it cannot be trained with its settings, or was adapted before.
            ModelUnavailable: if the checkpoint is not available.
        """
        modality, name = self.encoder.modality, self.encoder.name
        by_torch = replace(
            self.encoder, config=self.encoder.config.model_copy(update={"linear_layers": "torch"})
        )  # oneDNN's operators have no gradients
        encoder = cast(TrainableEncoder, by_torch.build(offline=offline))  # see choose
        if encoder.config.dtype != "float32":
            raise BadSettings(
                f"{modality} encoder {name!r}: dtype is {encoder.config.dtype}; weights are adapted in float32"
            )
        encoder.check_trainable()
        if encoder.adaptation is not None:
            raise BadSettings(
                f"{modality} encoder {name!r} is already adapted, on {encoder.adaptation.corpus}; name the encoder"
                " that it came from"
            )
        return encoder


def adapt(chosen: ChosenAdaptation, layout: Layout, run: RunOptions, *, name: str = "") -> Path:
    """Fine-tunes an encoder on the labels of a dataset's train split, and selects the epoch on dev.

    Args:
        chosen: encoder and settings.
        layout: paths of the dataset.
        run: device, overwrite, offline.
        name: second part of the folder's name, after that of the encoder; empty: the name of the settings.

    Returns:
        The folder; see above.

    Raises:
        BadSettings: for an encoder without trainable weights, or labels from which nothing can be learned.
        RawDataMissing: if there is no manifest.
        BadTable: if there are no matching media.
        ModelUnavailable: if the checkpoint is not available.
        SettingsDiffer: if work with other settings exists and ``run.overwrite`` is off.
        PipelineError: if the loss is not finite, or peft is missing.
    """
    modality, config = chosen.encoder.modality, chosen.config
    prepared = _prepare(chosen, layout, run, name)
    job, trainable = prepared.job, prepared.encoder
    if job.done_before():
        return job.out
    from merc.adaptation import saving
    from merc.adaptation.trainer import adapt_encoder

    device = devices.resolve(run.device)
    job.start()
    base = trainable.provenance()
    trainable.load(device)
    examples = read_examples(layout, prepared.table, modality, trainable.history_turns)
    classes = manifest.classes(prepared.table)
    found = adapt_encoder(trainable, examples, len(classes), config, device)
    keys, splits = adapted.utterance_keys(prepared.table), prepared.table["split"].to_pylist()
    seen = {split: [key for key, of in zip(keys, splits, strict=True) if of == split] for split in ("train", "dev")}
    weights = saving.save(job.folder, trainable, found.head, seen)
    job.finish(
        {
            **weights,
            "corpus": layout.dataset,
            "label_set": prepared.table.schema.metadata[b"label_set"].decode(),
            "classes": list(classes),
            "base": base,
            "trained_with": trainable.settings_of_training(),
            "method": config.method,
            "seed": config.seed,
            "utterances": {split: len(one.utterances) for split, one in examples.items()},
            "epoch": found.epoch,
            "history": found.history,
            "dev_weighted_f1": found.dev["weighted_f1"],
            "dev": found.dev,
            "test": found.test,
            "versions": provenance.versions(),
        }
    )
    log.logger.info(
        "%s: epoch %d, dev weighted F1 %.4f",
        job.name,
        found.epoch,
        found.dev["weighted_f1"],
        extra={"stage": job.name, **found.dev},
    )
    return job.out


def choose(params: Params, *, modality: str, encoder: str, settings: str) -> ChosenAdaptation:
    """Looks up an encoder and the settings of its fine-tuning.

    Args:
        params: the user's settings, which override those of encoders and fine-tunings.
        modality: ``text`` or ``audio``.
        encoder: see :func:`merc.encoders.engine.registry.choose`.
        settings: a file of ``adaptation/<modality>/``, or a block under ``adaptations.<modality>``.

    Raises:
        BadSettings: for an unknown name or key, or an encoder of a family without trainable weights.
    """
    if modality not in MODALITIES:
        raise BadSettings(f"no encoder of {modality!r} can be adapted; {nearest(modality, list(MODALITIES))}")
    family, kind = family_of(params, modality, encoder)
    if not issubclass(kind, TrainableEncoder):  # its settings do not include those of a training
        raise BadSettings(
            f"{modality} encoder {encoder!r}: the family {family} has no weights that can be adapted; valid:"
            " transformer, waveform, spectrogram"
        )
    key = f"adaptations.{modality}"
    laid = Shelf(key, f"merc.adaptation.{modality}", f"fine-tuning of {modality}").read(params, settings)
    config = params.filled(laid, Config, f"{key}.{settings}")
    return ChosenAdaptation(
        choose_encoder(params, modality, encoder, dict(config.encoder), f"{key}.{settings}.encoder"),
        settings,
        config,
        laid,
    )


@dataclass(frozen=True)
class _Prepared:
    encoder: TrainableEncoder
    table: pa.Table
    job: Job


def _prepare(chosen: ChosenAdaptation, layout: Layout, run: RunOptions, name: str) -> _Prepared:
    modality, encoder, settings = chosen.encoder.modality, chosen.encoder.name, chosen.name
    trainable = chosen.trainable(offline=run.offline)
    table = manifest.read(layout.manifest)
    check_labels(table, layout.dataset)
    budget = trainable.BUDGET_KEY  # the pieces of a step affect the dropout masks
    fingerprint = Fingerprint(
        settings={
            "encoders": {modality: {encoder: {**trainable.identity(), budget: getattr(trainable.config, budget)}}},
            "adaptations": {modality: {settings: chosen.config.decisive(exclude={"encoder"})}},
        },
        inputs={
            **input_hashes(layout.media, table, modality),
            "labels": files.digest_of_columns({column: table[column].to_pylist for column in _LABEL_COLUMNS}),
        },
    )
    out = layout.adapted(modality, f"{encoder}-{name or settings}")
    job = Job(f"adapted/{modality}/{out.name}", out, layout.scratch, fingerprint, run.overwrite, record=adapted.RECORD)
    return _Prepared(trainable, table, job)


@click.option("--modality", required=True, type=click.Choice(MODALITIES))
@click.option("--encoder", required=True, help="An encoder of `merc-extract models`.")
@click.option(
    "--settings", required=True, help="full, lora, for text context, or a block under adaptations.<modality>."
)
def _adapt(params: Params, layout: Layout, run: RunOptions, modality: str, encoder: str, settings: str) -> None:
    """Labels of a train split × encoder → the encoder, fine-tuned."""
    adapt(choose(params, modality=modality, encoder=encoder, settings=settings), layout, run)


main = stage_command(_adapt)

if __name__ == "__main__":
    main()
