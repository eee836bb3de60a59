"""``merc-extract audit``: what to distrust, utterance by utterance, as a table and a page."""

import json
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
    help="Its media must have been decoded: merc-extract --dataset NAME.",
)
@OUT
@click.option(
    "--asr",
    metavar="NAME_OR_FOLDER",
    help="Whisper model for transcription: a folder, whisper_base, whisper_small, or a name on the hub. Default:"
    " audit.asr.",
)
@workers_option("Processes for speech detection.")
@DEVICE
@OVERWRITE
@WAIT
@OFFLINE
@PARAMS
@SET
@LOG_FORMAT
def audit(
    dataset: str,
    out: Path,
    asr: str | None,
    workers: int,
    device: str,
    overwrite: bool,
    wait: bool,
    offline: bool,
    params_file: Path | None,
    overrides: tuple[str, ...],
    log_format: str,
) -> None:
    """Report what to distrust in each utterance: its words, its audio, its face.

    Writes <out>/NAME/audit: audit.parquet with a row per utterance, and audit.html with the most doubtful utterances.
    Nothing is decoded again, and nothing is dropped. A killed run resumes. Thresholds and the language are settings of
    the block audit.

    \b
    Examples:
      merc-extract audit --dataset meld --asr whisper_base
      merc-extract audit --dataset emodb --asr /models/whisper --set audit.language=de
      merc-extract --dataset meld --quality --overwrite       then shards with columns quality_...

    \b
    Exit codes:
      0  done                              5  an audit with other settings already exists
      2  usage or settings                 6  the model is not available
      4  no manifest or no media           7  another process writes to the same output
    """
    log.set_up(log_format)
    with exiting():
        extras.need("extract", "merc-extract audit")
        from merc.audit.config import Config
        from merc.audit.stage import make_audit, transcriber_of
        from merc.job import RunOptions
        from merc.params import Params

        params = Params.load(params_file, overrides + ((f"audit.asr={json.dumps(asr)}",) if asr is not None else ()))
        config, layout = params.fill("audit", Config), Layout(Path("raw"), out, dataset)
        run = RunOptions.of(params, workers=workers, device=device, overwrite=overwrite, offline=offline, wait=wait)
        transcriber = transcriber_of(params, config, offline=offline)
        params.check_overrides()
        with lock.held(layout.folder, wait=wait):
            folder = make_audit(config, layout, run, transcriber)
        echo(folder / "audit.html")
