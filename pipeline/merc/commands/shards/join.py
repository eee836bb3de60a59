"""``merc-shards join``: combines modalities of two shards of one corpus."""

from pathlib import Path

import click

from merc import log
from merc.command_line import OVERWRITE, PARAMS, WAIT, echo, exiting


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("one", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path))
@click.option(
    "--out", "target", required=True, metavar="TARGET", type=click.Path(path_type=Path), help="The new folder."
)
@click.option(
    "--modalities",
    metavar="LIST",
    help="Modalities to take from OTHER, comma-separated; they replace those of ONE. Default: those missing in ONE.",
)
@OVERWRITE
@WAIT
@PARAMS
def command(
    one: Path, other: Path, target: Path, modalities: str | None, overwrite: bool, wait: bool, params_file: Path | None
) -> None:
    """Write the shards in ONE to TARGET, with modalities from the shards in OTHER.

    Both must be of the same corpus, with the same labels and the same dialogues in the same splits; utterances are
    matched by their ids, or by their order if one of the two was imported from a file without ids. Differences are
    listed. Ids, speakers, labels, texts and times are those of ONE. Failure rows and encoders are copied with their
    vectors; counts, statistics, card and checksums are recomputed. Trajectories are left out.

    \b
    Examples (the features of M3NET; audio and faces of MMGCN with our own text):
      merc-shards join mmgcn-meld/shards cosmic-meld/shards --modalities text --out m3net-meld
      merc-shards join features/meld/shards mmgcn-meld/shards --modalities audio,visual --out mixed

    \b
    Exit codes:
      0  done                                                  4  other dialogues, utterances or labels, with a list; no shards
      2  usage, another corpus or label set, no such modality  5  something is already at TARGET
                                                               7  another process writes to TARGET
    """  # noqa: E501
    from merc.params import Params
    from merc.shards.circulation.joining import join_modalities
    from merc.shards.config import Config as ShardsConfig

    log.set_up()
    with exiting():
        chosen = [name.strip() for name in modalities.split(",")] if modalities else []
        config = Params.load(params_file).fill("shards", ShardsConfig)
        for note in join_modalities(one, other, target, config, modalities=chosen, overwrite=overwrite, wait=wait):
            log.logger.warning("%s", note)
        echo(target)
