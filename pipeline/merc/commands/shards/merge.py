"""``merc-shards merge``: several shards as one."""

from pathlib import Path

import click

from merc import log
from merc.command_line import OVERWRITE, PARAMS, WAIT, echo, exiting


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", "target", required=True, metavar="TARGET", type=click.Path(path_type=Path), help="The new folder."
)
@click.option(
    "--prefix",
    is_flag=True,
    help="Put the corpus into the ids, as in train/meld/dia0, if corpora use the same ids.",
)
@OVERWRITE
@WAIT
@PARAMS
def command(
    folders: tuple[Path, ...], target: Path, prefix: bool, overwrite: bool, wait: bool, params_file: Path | None
) -> None:
    """Write the shards in FOLDERS to TARGET as one.

    They are splits of one corpus, or corpora with the same labels and encoders. Counts, statistics, card and checksums
    are recomputed. Trajectories are left out: their neighbours were found within each folder.

    \b
    Examples:
      merc-shards merge train/meld/shards dev/meld/shards --out meld
      merc-shards merge features/demo-meld/shards features/meld/shards --out both --prefix

    \b
    Exit codes:
      0  done                                    4  an id in two folders; no shards, or a file that cannot be read
      2  usage, or other labels or encoders      5  something is already at TARGET
                                                 7  another process writes to TARGET
    """
    from merc.params import Params
    from merc.shards.config import Config as ShardsConfig
    from merc.shards.merge import merge

    log.set_up()
    with exiting():
        config = Params.load(params_file).fill("shards", ShardsConfig)
        for note in merge(folders, target, config, prefix=prefix, overwrite=overwrite, wait=wait):
            log.logger.warning("%s", note)
        echo(target)
