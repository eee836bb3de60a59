"""``merc-train``: trains one recipe on the shards of one dataset, or labels shards with a model that it trained."""

import os
from pathlib import Path

import click

from merc import log
from merc.command_line import exiting
from merc.layout import Layout
from merc.params import Params
from merc.parts import RunOptions


def _checked(dataset: str | None, recipe: str | None, model: Path | None, shards: Path | None) -> None:
    """Raises ``click.UsageError`` unless the options say either what to train or what to label."""
    train, label = (dataset is not None, recipe is not None), (model is not None, shards is not None)
    if not (all(train) and not any(label)) and not (all(label) and not any(train)):
        raise click.UsageError("give --dataset and --recipe to train, or --predict and --shards to label")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--dataset", help="Whose shards; made by `merc-extract --dataset NAME`.")
@click.option("--recipe", help="A block under recipes in params.yaml, also with additions and modalities: baseline, mmgcn+dclf, mmgcn+dclf@text.")
@click.option(
    "--out", type=click.Path(path_type=Path), default="features", show_default=True, help="Folder of all features; the shards are in <out>/<dataset>/shards."
)
@click.option(
    "--runs", type=click.Path(path_type=Path), default="runs", show_default=True, help="Folder of the trained runs; this one goes to <runs>/<dataset>/<recipe>."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--workers", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default="cores", help="Seeds trained at once on a CPU.")
@click.option("--overwrite", is_flag=True, help="Replace a run that was made with other settings.")
@click.option("--predict", "model", type=click.Path(path_type=Path), metavar="CHECKPOINT", help="Label dialogues with this seed-<n>/model.safetensors.")
@click.option("--shards", type=click.Path(path_type=Path), help="With --predict: the folder of the shards to label.")
@click.option("--split", help="With --predict: only this split.")
@click.option(
    "--predictions", type=click.Path(path_type=Path), default="predictions.parquet", show_default=True, help="With --predict: the Parquet file to write."
)
@click.option("--force", is_flag=True, help="With --predict: also label vectors of another encoder than the model was trained on.")
@click.option("--params", "params_file", type=click.Path(path_type=Path, dir_okay=False), help="Settings; default: params.yaml here.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Another value for a key of params.yaml; repeatable.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="json: one object a line, on stderr.")
def main(
    dataset: str | None,
    recipe: str | None,
    out: Path,
    runs: Path,
    device: str,
    workers: int,
    overwrite: bool,
    model: Path | None,
    shards: Path | None,
    split: str | None,
    predictions: Path,
    force: bool,
    params_file: Path | None,
    overrides: tuple[str, ...],
    log_format: str,
) -> None:
    """Train a recipe with all its seeds, choose each seed's epoch on the dev split, score the test split once.

    Writes weights (safetensors), predictions (Parquet) and metrics (JSON). A killed run goes on with the first
    unfinished seed.

    With --predict, label dialogues, which need no labels of their own, and write a Parquet file.

    \b
    Examples:
      merc-train --dataset demo-meld --recipe baseline
      merc-train --predict runs/demo-meld/baseline/seed-0/model.safetensors --shards features/demo-meld/shards
    """
    _checked(dataset, recipe, model, shards)
    log.set_up(log_format)
    with exiting():
        if model is not None and shards is not None:
            from merc.compute import device as devices
            from merc.training.loop.prediction import label

            label(model, shards, predictions, split=split, force=force, device=devices.resolve(device))
            click.echo(predictions)
            return
        from merc.training.recipes.resolution import resolve
        from merc.training.stage import train

        run = RunOptions(device=device, overwrite=overwrite, workers=workers)
        params = Params.load(params_file, overrides)
        resolved = resolve(params, recipe or "")
        params.check_overrides()
        made = train(resolved, Layout(Path("raw"), out, dataset or ""), run, runs=runs)
        click.echo(made / "metrics.json")
