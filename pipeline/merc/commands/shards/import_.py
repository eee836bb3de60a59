"""``merc-shards import``: converts a circulating feature file to shards."""

import shutil
from pathlib import Path
from typing import get_args

import click

from merc import extras, log
from merc.command_line import OVERWRITE, PARAMS, WAIT, echo, exiting
from merc.errors import BadSettings, RawDataMissing
from merc.layout import MODALITIES, Layout
from merc.shards.circulation.choices import RobertaLayer

_MADE_OF = ".made_of"  # manifest and features, below the folder of the shards while these are being made


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--label-set",
    metavar="NAME",
    help=(
        "iemocap6, iemocap4, meld7, emorynlp or dailydialog. Default: by the ids of the dialogues, and iemocap4 if no"
        " label is above 3."
    ),
)
@click.option(
    "--validation",
    type=click.Choice(["val12", "random20", "none"]),
    help=(
        "How to choose IEMOCAP's dev split if the file does not mark it. Default: corpora.iemocap.validation in"
        " params.yaml."
    ),
)
@click.option(
    "--roberta",
    "layer",
    type=click.Choice(get_args(RobertaLayer)),
    help=(
        "Which of COSMIC's four layers is the text. Default: what the authors' code takes, COSMIC's the mean, SDT's the"
        " first."
    ),
)
@click.option(
    "--annotations",
    type=click.Path(path_type=Path, dir_okay=False),
    help="data_emotion.p of MELD's authors: the labels and texts for their vector files.",
)
@click.option(
    "--modality",
    type=click.Choice(MODALITIES),
    help="Modality of the vectors in those files. Default: the first word of the file's name.",
)
@OVERWRITE
@WAIT
@PARAMS
def command(
    file: Path,
    out: Path,
    label_set: str | None,
    validation: str | None,
    layer: RobertaLayer | None,
    annotations: Path | None,
    modality: str | None,
    overwrite: bool,
    wait: bool,
    params_file: Path | None,
) -> None:
    """Convert FILE, a pickle of published features, to shards in OUT, with their trajectories.

    The layout is recognised by its structure: MMGCN and MM-DFN, DialogueGCN and COGMEN (IEMOCAP_features.pkl,
    MELD_features_raw1.pkl), bc-LSTM (MELD_features_raw.pkl), COSMIC (..._features_roberta.pkl, also of EmoryNLP and
    DailyDialog), SDT (..._multimodal_features.pkl), IDCL (data_iemocap.pkl), MELD's authors (text_glove_CNN_emotion.pkl
    and others). Nothing in the file is executed: it may hold only containers and numpy arrays, or it is refused.
    Vectors that are not finite, all zeros or missing are absent and have a row in the failure table. Counts that differ
    from the corpus's are printed and recorded.

    \b
    Examples:
      merc-shards import IEMOCAP_features.pkl features/mmgcn-iemocap/shards
      merc-shards import audio_embeddings_feature_selection_emotion.pkl audio --annotations data_emotion.p

    \b
    Exit codes:
      0  done                                                  4  no such file, damaged, refused, or of another structure
      2  usage, or an option that does not fit the file        5  something is already at OUT
      1  unexpected, or OUT cannot be written                  7  another process writes to OUT
    """  # noqa: E501
    log.set_up()
    with exiting():
        extras.need("report", "merc-shards import, which makes trajectories,")
        from merc.corpora.iemocap import Iemocap
        from merc.corpora.stage import choose
        from merc.job import RunOptions
        from merc.params import Params
        from merc.shards.card.writing import write_card
        from merc.shards.circulation import importing
        from merc.shards.config import Config as ShardsConfig
        from merc.shards.target import new_shards
        from merc.trajectories.config import Config as TrajectoriesConfig
        from merc.trajectories.stage import build_trajectories

        if not file.is_file():
            raise RawDataMissing(f"{file}: no such file")
        params = Params.load(params_file)
        iemocap, shards, trajectories = (
            choose(params, "iemocap").reader.config,
            params.fill("shards", ShardsConfig),
            params.fill("trajectories", TrajectoriesConfig),
        )
        if not isinstance(iemocap, Iemocap.Config):
            raise BadSettings(
                f"corpora.iemocap.reader is {iemocap.reader!r}; how dev of IEMOCAP is chosen is a setting of the reader"
                " iemocap"
            )
        with new_shards(out, [], overwrite=overwrite, wait=wait) as folder:
            imported = importing.read_file(
                file, iemocap, importing.Wishes(label_set, validation, layer, annotations, modality)
            )
            layout = Layout(folder / _MADE_OF, folder / _MADE_OF, imported.corpus)
            importing.build(imported, shards, layout)
            build_trajectories(trajectories, layout, RunOptions())
            write_card(layout.shards)
            for one in layout.shards.iterdir():
                one.rename(folder / one.name)
            shutil.rmtree(folder / _MADE_OF)
        for line in importing.summary(imported, out):
            echo(line)
