"""``merc-shards export``: converts shards to a feature file that existing research code reads."""

from pathlib import Path
from typing import Literal

import click

from merc import log
from merc.command_line import OVERWRITE, echo, exiting
from merc.errors import SettingsDiffer
from merc.shards.circulation.choices import FORMATS, Format


@click.command()
@click.argument("shards", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    required=True,
    help="mmgcn: the tuple of MMGCN and MM-DFN; cogmen: the layout of COGMEN; idcl: that of IDCL.",
)
@click.option(
    "--absent",
    type=click.Choice(["zeros", "nan"]),
    default="zeros",
    show_default=True,
    help="Value that represents an absent vector.",
)
@OVERWRITE
def command(shards: Path, file: Path, form: Format, absent: Literal["zeros", "nan"], overwrite: bool) -> None:
    """Write SHARDS of MELD or IEMOCAP to FILE, a pickle in a published layout.

    The layouts cannot hold utterances without a label of the set: these are left out and counted. Times, scenarios,
    valence, arousal and dominance are not written either. The training ids of mmgcn and cogmen include dev, whose
    dialogues come first.

    \b
    Example:
      merc-shards export features/iemocap/shards IEMOCAP_features.pkl --format mmgcn
    """
    log.set_up()
    with exiting():
        from merc.shards.circulation.exporting import export

        if file.exists() and not overwrite:
            raise SettingsDiffer(f"{file} already exists; give --overwrite to replace it, or name another file")
        done = export(shards, file, form, absent=absent)
        echo(f"{file}: {done.dialogues} dialogues, {done.utterances} utterances")
        for modality, count in done.absent.items():
            if count:
                echo(f"  {modality}: {count} absent vectors, written as {absent}")
        if done.unlabelled:
            echo(
                f"  left out: {done.unlabelled} utterances without a label of the set, with them {done.emptied}"
                " dialogues"
            )
