"""``merc-train``: trains one recipe on the shards of one dataset."""

from pathlib import Path

import click

from pipeline import log
from pipeline.command_line import exiting
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.parts import RunOptions


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--dataset", required=True, help="Whose shards; made by `merc-extract --dataset NAME`.")
@click.option("--recipe", required=True, help="A block under recipes in params.yaml, such as baseline.")
@click.option(
    "--out", type=click.Path(path_type=Path), default="features", show_default=True, help="Folder of all features; the shards are in <out>/<dataset>/shards."
)
@click.option(
    "--runs", type=click.Path(path_type=Path), default="runs", show_default=True, help="Folder of the trained runs; this one goes to <runs>/<dataset>/<recipe>."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--overwrite", is_flag=True, help="Replace a run that was made with other settings.")
@click.option("--params", "params_file", type=click.Path(path_type=Path, dir_okay=False), help="Settings; default: params.yaml here.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Another value for a key of params.yaml; repeatable.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="json: one object a line, on stderr.")
def main(
    dataset: str,
    recipe: str,
    out: Path,
    runs: Path,
    device: str,
    overwrite: bool,
    params_file: Path | None,
    overrides: tuple[str, ...],
    log_format: str,
) -> None:
    """Train a recipe with all its seeds, choose each seed's epoch on the dev split, score the test split once.

    Writes weights (safetensors), predictions (Parquet) and metrics (JSON). A killed run goes on with the first
    unfinished seed.

    \b
    Example:
      merc-train --dataset demo-meld --recipe baseline
    """
    log.set_up(log_format)
    with exiting():
        from pipeline.training.stage import train

        run = RunOptions(device=device, overwrite=overwrite)
        made = train(Params.load(params_file, overrides), Layout(Path("raw"), out, dataset), run, recipe=recipe, runs=runs)
        click.echo(made / "metrics.json")
