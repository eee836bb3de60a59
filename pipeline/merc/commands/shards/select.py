"""``merc-shards select``: a part of shards as shards of its own."""

from pathlib import Path

import click

from merc import log
from merc.command_line import OVERWRITE, PARAMS, WAIT, echo, exiting
from merc.params import Params
from merc.records.dialogue import SPLITS


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--split", "splits", multiple=True, type=click.Choice(SPLITS), help="Only this split; repeatable. Default: all.")
@click.option("--modalities", metavar="LIST", help="Only the vectors of these, divided by commas. Default: all.")
@click.option("--dialogue", "dialogues", multiple=True, metavar="ID", help="Only this dialogue, such as train/dia0; repeatable. Default: all.")
@click.option("--no-text", is_flag=True, help="Leave out the transcripts. The text vectors stay.")
@OVERWRITE
@WAIT
@PARAMS
def command(
    folder: Path,
    target: Path,
    splits: tuple[str, ...],
    modalities: str | None,
    dialogues: tuple[str, ...],
    no_text: bool,
    overwrite: bool,
    wait: bool,
    params_file: Path | None,
) -> None:
    """Write a part of the shards in FOLDER to TARGET.

    It has a card, counts, statistics and checksums of its own. Trajectories come along unless single dialogues are chosen. Without the train split the
    statistics stay those of FOLDER.

    \b
    Examples:
      merc-shards select features/meld/shards meld-to-show --no-text
      merc-shards select features/meld/shards meld-text-test --split test --modalities text

    \b
    Exit codes:
      0  done                    4  no shards, of another schema version, or a file that cannot be read
      2  usage, or no such part  5  something is already at TARGET
                                 7  another process writes to TARGET
    """
    from merc.shards.config import Config as ShardsConfig
    from merc.shards.select import select

    log.set_up()
    with exiting():
        chosen = [name.strip() for name in modalities.split(",")] if modalities else []
        config = Params.load(params_file).fill("shards", ShardsConfig)
        for note in select(
            folder, target, config, splits=splits, modalities=chosen, dialogues=dialogues, transcripts=not no_text, overwrite=overwrite, wait=wait
        ):
            log.logger.warning("%s", note)
        echo(target)
