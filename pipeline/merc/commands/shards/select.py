"""``merc-shards select``: selects a part of shards as new shards."""

from pathlib import Path

import click

from merc import log
from merc.command_line import OVERWRITE, PARAMS, WAIT, echo, exiting
from merc.records.dialogue import SPLITS


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--split", "splits", multiple=True, type=click.Choice(SPLITS), help="Only this split; repeatable. Default: all."
)
@click.option(
    "--modalities", metavar="LIST", help="Only the vectors of these modalities, comma-separated. Default: all."
)
@click.option(
    "--dialogue",
    "dialogues",
    multiple=True,
    metavar="ID",
    help="Only this dialogue, for example train/dia0; repeatable. Default: all.",
)
@click.option("--no-text", is_flag=True, help="Leave out the transcripts. The text vectors stay.")
@click.option(
    "--where",
    default="",
    metavar="CONDITION",
    help="Only utterances that meet this condition keep their label; needs the columns of an audit. See above.",
)
@click.option(
    "--where-split",
    "where_splits",
    multiple=True,
    type=click.Choice(SPLITS),
    help="Apply --where only to this split; repeatable. Default: all.",
)
@click.option("--drop", is_flag=True, help="Remove utterances that do not meet --where, instead of only their labels.")
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
    where: str,
    where_splits: tuple[str, ...],
    drop: bool,
    overwrite: bool,
    wait: bool,
    params_file: Path | None,
) -> None:
    """Write a part of the shards in FOLDER to TARGET.

    TARGET has its own card, counts, statistics and checksums. Trajectories are copied unless single dialogues are
    chosen or --where is given. Without the train split, the statistics are those of FOLDER.

    --where compares the columns of an audit (quality_asr_error is asr_error there) with numbers by <, <=, >, >=, ==,
    !=, `is None`, `is not None`, joined by and, or, not and parentheses. No comparison with an unknown value is true.
    An utterance that does not meet the condition stays where it is, as context, and is neither trained on nor scored;
    --drop removes it from its dialogue.

    \b
    Examples:
      merc-shards select features/meld/shards meld-to-show --no-text
      merc-shards select features/meld/shards meld-text-test --split test --modalities text
      merc-shards select features/meld/shards meld-clean --where "asr_error < 0.5 and speaking > 0" --where-split train

    \b
    Exit codes:
      0  done                    4  no shards, of another schema version, or a file that cannot be read
      2  usage, or no such part  5  something is already at TARGET
                                 7  another process writes to TARGET
    """
    from merc.params import Params
    from merc.shards.config import Config as ShardsConfig
    from merc.shards.select import select

    log.set_up()
    with exiting():
        chosen = [name.strip() for name in modalities.split(",")] if modalities else []
        config = Params.load(params_file).fill("shards", ShardsConfig)
        notes = select(
            folder,
            target,
            config,
            splits=splits,
            modalities=chosen,
            dialogues=dialogues,
            transcripts=not no_text,
            where=where,
            where_splits=where_splits,
            drop=drop,
            overwrite=overwrite,
            wait=wait,
        )
        for note in notes:
            log.logger.warning("%s", note)
        echo(target)
