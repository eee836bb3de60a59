"""``merc-extract inspect``: images of what the media stage sees, so that people can check the faces.

The requested utterances are decoded again from the raw files, with the stage's own code and settings; the stage's
output is not changed. If finished media exist, differences from them are reported.
"""

from pathlib import Path

import click

from merc import extras, log
from merc.command_line import PARAMS, RAW, SET, echo, exiting
from merc.command_line import workers as workers_option
from merc.commands import completion
from merc.layout import Layout
from merc.records.dialogue import SPLITS


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "--dataset",
    required=True,
    metavar="NAME",
    shell_complete=completion.datasets,
    help="Its manifest must have been made: merc-extract --dataset NAME.",
)
@click.option(
    "--utterance",
    "utterances",
    multiple=True,
    metavar="ID",
    help="Utterance to draw, for example train/dia0_utt0; repeatable.",
)
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Make a page of N utterances.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed for the random choice of --sample."
)
@click.option(
    "--split",
    "splits",
    multiple=True,
    type=click.Choice(SPLITS),
    help="Draw from this split; repeatable. Default: all.",
)
@click.option(
    "--doubtful",
    is_flag=True,
    help="With --sample: take the most doubtful faces of the finished media instead of a random sample.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE_OR_DIR",
    help="A .png file for one utterance, else a folder.",
)
@RAW
@click.option(
    "--features",
    type=click.Path(path_type=Path),
    default="features",
    show_default=True,
    help="The folder given to merc-extract as --out.",
)
@click.option(
    "--preset",
    metavar="NAME",
    shell_complete=completion.presets,
    help="The preset used for the extraction, if any, for its media settings.",
)
@workers_option("Processes for decoding.")
@PARAMS
@SET
def inspect(
    dataset: str,
    utterances: tuple[str, ...],
    sample: int | None,
    seed: int,
    splits: tuple[str, ...],
    doubtful: bool,
    out: Path,
    raw: Path,
    features: Path,
    preset: str | None,
    workers: int,
    params_file: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Draw what decoding sees: frames, all faces, the chosen face, crops, audio.

    \b
    Examples:
      merc-extract inspect --dataset meld --utterance train/dia0_utt0 --out one.png
      merc-extract inspect --dataset meld --sample 50 --out faces            writes faces/index.html
      merc-extract inspect --dataset meld --sample 50 --doubtful --out doubtful

    Extracted files are not changed. A clip without video or without a face is shown as such.
    """
    if bool(utterances) == (sample is not None):
        raise click.UsageError("Give either --utterance or --sample. See --help.")
    if utterances and (doubtful or splits):
        raise click.UsageError("--doubtful and --split go with --sample.")
    log.set_up()
    with exiting():
        extras.need("extract", "merc-extract inspect")
        from merc.commands.inspection.drawing import draw, make_page
        from merc.job import RunOptions
        from merc.media.config import of_dataset as media_of
        from merc.params import Params

        params, layout = Params.load(params_file, overrides), Layout(raw, features, dataset)
        config, run = media_of(params, dataset, preset), RunOptions.of(params, workers=workers)
        params.check_overrides()
        if sample is None:
            written = draw(config, layout, run, utterances, out)
        else:
            written = [
                make_page(config, layout, run, sample, out, seed=seed, splits=splits or SPLITS, doubtful=doubtful)
            ]
        for path in written:
            echo(path)
