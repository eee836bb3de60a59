"""``merc-shards import``: a feature file in circulation becomes shards."""

import tempfile
from pathlib import Path
from typing import get_args

import click

from merc import files, log
from merc.command_line import OVERWRITE, PARAMS, exiting
from merc.errors import BadSettings, RawDataMissing, SettingsDiffer
from merc.job import RunOptions
from merc.layout import Layout
from merc.params import Params
from merc.shards.circulation.layouts import RobertaLayer


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--label-set", metavar="NAME", help="iemocap6, iemocap4 or meld7. Default: by the ids of the dialogues, and iemocap4 if no label is above 3.")
@click.option(
    "--validation",
    type=click.Choice(["val12", "random20", "none"]),
    help="Dev of IEMOCAP where the file does not tell it from train. Default: corpora.iemocap.validation in params.yaml.",
)
@click.option(
    "--roberta", "layer", type=click.Choice(get_args(RobertaLayer)), default="mean", show_default=True, help="Which of COSMIC's four layers is the text."
)
@OVERWRITE
@PARAMS
def command(file: Path, out: Path, label_set: str | None, validation: str | None, layer: RobertaLayer, overwrite: bool, params_file: Path | None) -> None:
    """Turn FILE, a pickle of features in circulation, into shards in OUT, with their trajectories.

    Its layout is found by its structure: MMGCN and MM-DFN, DialogueGCN and COGMEN (IEMOCAP_features.pkl, MELD_features_raw1.pkl), COSMIC
    (..._features_roberta.pkl), IDCL (data_iemocap.pkl). Nothing in the file is run: it may hold containers and numpy arrays, and is refused
    otherwise. Vectors that are not finite, or all zeros, are absent and have a row in the failure table. Counts that are not the corpus's are
    printed and recorded.

    \b
    Example:
      merc-shards import IEMOCAP_features.pkl features/mmgcn-iemocap/shards
    """
    log.set_up()
    with exiting():
        from merc.corpora.iemocap import Iemocap
        from merc.corpora.stage import choose
        from merc.shards.card.writing import write_card
        from merc.shards.circulation import importing
        from merc.shards.config import Config as ShardsConfig
        from merc.trajectories.config import Config as TrajectoriesConfig
        from merc.trajectories.stage import build_trajectories

        _check(file, out, overwrite)
        params = Params.load(params_file)
        iemocap, shards, trajectories = (
            choose(params, "iemocap").reader.config,
            params.fill("shards", ShardsConfig),
            params.fill("trajectories", TrajectoriesConfig),
        )
        if not isinstance(iemocap, Iemocap.Config):
            raise BadSettings(f"corpora.iemocap.reader is {iemocap.reader!r}; how dev of IEMOCAP is chosen is a setting of the reader iemocap")
        imported = importing.read_file(file, iemocap, importing.Wishes(label_set, validation, layer))
        out.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that it gets there by a rename; a run that is killed leaves nothing at OUT.
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
            layout = Layout(Path(scratch), Path(scratch), imported.corpus)
            importing.build(imported, shards, layout)
            build_trajectories(trajectories, layout, RunOptions())
            write_card(layout.shards)
            files.replace_folder(layout.shards, out)
        for line in importing.summary(imported, out):
            click.echo(line)


def _check(file: Path, out: Path, overwrite: bool) -> None:
    if not file.is_file():
        raise RawDataMissing(f"{file}: there is no such file")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / "meta" / "info.json").is_file():
        raise BadSettings(f"{out} is there, and is no folder of shards; it is not replaced. Name another one")
    if not overwrite:
        raise SettingsDiffer(f"{out}: there are shards already; give --overwrite to replace them, or name another folder")
