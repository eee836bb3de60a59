"""``merc-adapt``: fine-tunes an encoder on the emotion labels of a dataset's train split."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from merc import __version__, extras, lock, log
from merc.command_line import (
    DEVICE,
    LOG_FORMAT,
    OFFLINE,
    OUT,
    OVERWRITE,
    PARAMS,
    RAW,
    SET,
    WAIT,
    Command,
    echo,
    exiting,
)
from merc.command_line import workers as workers_option
from merc.commands import completion
from merc.errors import BadSettings, nearest
from merc.files import read_json
from merc.layout import Layout

if TYPE_CHECKING:
    from merc.params import Params


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "--dataset",
    required=True,
    metavar="NAME",
    shell_complete=completion.datasets,
    help="Dataset whose train labels are used; as for merc-extract.",
)
@click.option(
    "--modality", type=click.Choice(["text", "audio"]), help="Default: the modality that has an encoder of this name."
)
@click.option(
    "--encoder",
    required=True,
    metavar="NAME",
    shell_complete=completion.adaptable_encoders,
    help="An encoder of `merc-extract models`: a transformer, or an audio model with a checkpoint.",
)
@click.option(
    "--settings",
    default="full",
    show_default=True,
    metavar="NAME",
    help="full, lora or, for text, context; or a block under adaptations.MODALITY in params.yaml.",
)
@click.option(
    "--name",
    default="",
    metavar="NAME",
    help="Suffix of the folder's name, after that of the encoder. Default: the name of the settings.",
)
@RAW
@OUT
@workers_option("Processes for decoding audio.", 2)
@DEVICE
@OVERWRITE
@WAIT
@OFFLINE
@PARAMS
@SET
@LOG_FORMAT
@click.version_option(__version__)
def main(
    dataset: str,
    modality: str | None,
    encoder: str,
    settings: str,
    name: str,
    raw: Path,
    out: Path,
    workers: int,
    device: str,
    overwrite: bool,
    wait: bool,
    offline: bool,
    params_file: Path | None,
    overrides: tuple[str, ...],
    log_format: str,
) -> None:
    """Fine-tune an encoder on the emotion labels of a train split, select the epoch on dev, score test once.

    The folder that it writes, <out>/DATASET/adapted/MODALITY/ENCODER-NAME, is an encoder like any other: name it as
    repo in a block under encoders. Its features are tagged "adapted", and scores based on them are not ranked with
    those of frozen encoders.

    \b
    Examples:
      merc-adapt --dataset meld --encoder minilm
      merc-extract --dataset meld --modalities text --encoder text=minilm_meld
      merc-adapt --dataset meld --encoder wav2vec2_base --settings lora

    \b
    Exit codes:
      0  done                                                5  work with other settings already exists
      1  unexpected, or the output cannot be written         6  a model is not available
      2  usage or settings                                   7  another process writes to the same output
      3  more broken clips than run.max_failed allows      130  interrupted; run again
      4  raw data missing or of another shape
    """
    log.set_up(log_format)
    with exiting():
        extras.need("adapt", "merc-adapt")
        from merc.adaptation.stage import adapt, choose
        from merc.corpora.stage import build_manifest
        from merc.corpora.stage import choose as choose_corpus
        from merc.job import RunOptions
        from merc.media.config import of_dataset as media_of
        from merc.media.stage import decode
        from merc.params import Params

        params, layout = Params.load(params_file, overrides), Layout(raw, out, dataset)
        modality = modality or modality_of(params, encoder)
        run = RunOptions.of(params, workers=workers, device=device, overwrite=overwrite, offline=offline, wait=wait)
        chosen, corpus, media = (
            choose(params, modality=modality, encoder=encoder, settings=settings),
            choose_corpus(params, dataset),
            None,
        )
        if modality == "audio":
            media = media_of(params, dataset)
        params.check_overrides()
        chosen.trainable(offline=offline)  # check this before hours of decoding
        with lock.held(layout.folder, wait=wait):
            build_manifest(corpus, layout, run, modalities=(modality,))
            if media is not None:
                decode(media, layout, run, streams=frozenset({"audio"}))
            made = adapt(chosen, layout, run, name=name)
        record = read_json(made / "record.json")
        for split in ("dev", "test"):
            if record[split]:
                echo(
                    f"{split}: weighted F1 {record[split]['weighted_f1']:.4f}, accuracy {record[split]['accuracy']:.4f}"
                )
        echo(made)


def modality_of(params: "Params", encoder: str) -> str:
    """The modality with an encoder of this name, among those whose encoders can be adapted. Raises ``BadSettings`` if
    there is none, or several.
    """
    from merc.encoders.engine import registry

    there = {modality: registry.names(params, modality) for modality in ("text", "audio")}
    found = [modality for modality, names in there.items() if encoder in names]
    if not found:
        raise BadSettings(
            f"no text or audio encoder {encoder!r};"
            f" {nearest(encoder, [name for names in there.values() for name in names])}"
        )
    if len(found) > 1:
        raise BadSettings(f"{encoder!r} is both a text and an audio encoder; choose one with --modality")
    return found[0]
