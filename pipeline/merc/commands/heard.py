"""``merc-extract heard``: the text vectors of a speech recogniser's output, for ``merc-evaluate``."""

from pathlib import Path

import click

from merc import extras, lock, log
from merc.command_line import DEVICE, LOG_FORMAT, OFFLINE, OUT, OVERWRITE, PARAMS, SET, WAIT, echo, exiting
from merc.command_line import workers as workers_option
from merc.commands import completion
from merc.layout import Layout


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "--dataset",
    required=True,
    metavar="NAME",
    shell_complete=completion.datasets,
    help="Its audit must have been made with a Whisper: merc-extract audit --dataset NAME --asr …",
)
@OUT
@click.option(
    "--encoder",
    metavar="NAME",
    shell_complete=completion.text_encoders,
    help="Text encoder. Default: the one of the shards.",
)
@workers_option("Processes for CPU encoders.")
@DEVICE
@OVERWRITE
@WAIT
@OFFLINE
@PARAMS
@SET
@LOG_FORMAT
def heard(
    dataset: str,
    out: Path,
    encoder: str | None,
    workers: int,
    device: str,
    overwrite: bool,
    wait: bool,
    offline: bool,
    params_file: Path | None,
    overrides: tuple[str, ...],
    log_format: str,
) -> None:
    """Encode ASR transcripts instead of the corpus's transcripts.

    Writes <out>/NAME/heard/text/ENCODER, from which merc-evaluate computes scores without human transcripts (protocol
    asr_transcripts). Shards are unchanged. An utterance with an empty ASR transcript has no vector.

    \b
    Examples:
      merc-extract audit --dataset meld --asr whisper_base
      merc-extract heard --dataset meld
      merc-evaluate --dataset meld --protocol asr_transcripts

    \b
    Exit codes:
      0  done                                               5  vectors made with other settings already exist
      2  usage or settings                                  6  the model is not available
      4  no manifest, no shards, or no ASR transcripts      7  another process writes to the same output
    """
    log.set_up(log_format)
    with exiting():
        extras.need("extract", "merc-extract heard")
        from merc.encoders.engine.registry import choose
        from merc.extraction.config import Config
        from merc.extraction.stage import extract
        from merc.job import RunOptions
        from merc.params import Params

        params = Params.load(params_file, overrides)
        layout = Layout(Path("raw"), out, dataset)
        chosen = choose(params, "text", encoder or _of_shards(layout))
        # The evaluation needs only the vectors of utterances.
        config = params.fill("extraction", Config).model_copy(update={"level": "utterance"})
        run = RunOptions.of(params, workers=workers, device=device, overwrite=overwrite, offline=offline, wait=wait)
        params.check_overrides()
        with lock.held(layout.folder, wait=wait):
            echo(extract(chosen, config, layout, run, heard=True))


def _of_shards(layout: Layout) -> str:
    """Raises ``RawDataMissing`` if there are no shards, and ``BadSettings`` if they contain no text."""
    from merc.errors import BadSettings
    from merc.shards.format import reader

    encoders = reader.info_of(layout)["encoders"]
    if "text" not in encoders:
        raise BadSettings(
            f"{layout.shards}: the shards have no text vectors, only {', '.join(encoders)}; give --encoder NAME"
        )
    return str(encoders["text"]["name"])
