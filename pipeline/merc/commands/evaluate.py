"""``merc-evaluate``: evaluates finished runs, and compares them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from merc import __version__, extras, log
from merc.command_line import (
    DEVICE,
    EVALUATIONS,
    LOG_FORMAT,
    OUT,
    OVERWRITE,
    PARAMS,
    RUNS,
    SET,
    WAIT,
    Command,
    exiting,
    go_through,
)
from merc.commands import completion
from merc.layout import Layout

if TYPE_CHECKING:
    from merc.evaluation.choice import Chosen
    from merc.job import RunOptions


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
@click.option("--dataset", required=True, shell_complete=completion.shards_datasets, help="Whose runs.")
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    shell_complete=completion.recipes,
    help="Evaluate only this run; repeatable. Default: all finished runs. Comparisons always include all of them.",
)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    help="Only this evaluation, such as emotion_shift; repeatable. Default: evaluation.evaluations, or all.",
)
@OUT
@RUNS
@EVALUATIONS
@DEVICE
@OVERWRITE
@WAIT
@PARAMS
@SET
@LOG_FORMAT
def main(
    dataset: str,
    recipes: tuple[str, ...],
    protocols: tuple[str, ...],
    out: Path,
    runs: Path,
    evaluations: Path,
    device: str,
    overwrite: bool,
    wait: bool,
    params_file: Path | None,
    overrides: tuple[str, ...],
    log_format: str,
) -> None:
    """Evaluate finished runs: emotion shift, replaced context, missing modalities, ASR transcripts, calibration, each
    modality by itself, emotion trajectories; and test which recipes differ significantly. Prints the scores.json of
    each evaluation.

    Existing evaluations with the same settings are not repeated. A run that cannot be evaluated does not stop the
    others; when they are done, the command ends with the exit code of that failure.

    \b
    Examples:
      merc-evaluate --dataset meld
      merc-evaluate --dataset meld --recipe mmgcn+dclf --protocol context_substitution
      merc-evaluate --dataset meld --set evaluation.significance.reference=mmgcn

    \b
    Exit codes:
      0  done                                                5  an evaluation with other settings already exists
      1  unexpected, or the output cannot be written         7  another process writes to the same output
      2  usage or settings                                 130  interrupted; run again to resume
      4  no finished run, or runs or shards missing, damaged, or mismatched
    """
    log.set_up(log_format)
    with exiting():
        extras.need("train", "merc-evaluate")
        from merc.evaluation.choice import choose
        from merc.job import RunOptions
        from merc.params import Params

        params = Params.load(params_file, overrides)
        chosen = choose(params, protocols)
        params.check_overrides()
        options = RunOptions(device=device, overwrite=overwrite, wait=wait)
        _evaluate(chosen, Layout(Path("raw"), out, dataset), recipes, options, runs, evaluations)


def _evaluate(
    chosen: "Chosen", layout: Layout, recipes: tuple[str, ...], options: "RunOptions", runs: Path, evaluations: Path
) -> None:
    """Evaluates each run and compares all; errors are raised at the end, as one with the exit code of the first."""
    from merc.compute import device as devices
    from merc.evaluation.comparing import all_runs, compare
    from merc.evaluation.engine import runs as finished
    from merc.evaluation.stage import evaluate

    on = devices.resolve(options.device)

    def one(recipe: str) -> list[Path]:
        return evaluate(
            finished.Run.read(runs / layout.dataset / recipe, layout, on), chosen.protocols, options, evaluations
        )

    there = finished.chosen(runs, layout.dataset, recipes)
    work: dict[str, Callable[[], list[Path]]] = {recipe: partial(one, recipe) for recipe in there if chosen.protocols}
    if chosen.comparisons:
        work["the comparison"] = lambda: compare(all_runs(runs, layout), chosen.comparisons, options, evaluations)
    go_through(work)
