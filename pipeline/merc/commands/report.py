"""``merc-report``: tables, plots and the page of all results."""

from pathlib import Path

import click

from merc import __version__, extras, lock, log
from merc.command_line import EVALUATIONS, OUT, PARAMS, RUNS, WAIT, Command, echo, exiting
from merc.commands import completion
from merc.layout import Layout


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    shell_complete=completion.shards_datasets,
    help="Report only on this dataset; repeatable. Default: all that have shards.",
)
@OUT
@RUNS
@EVALUATIONS
@click.option(
    "--no-text",
    is_flag=True,
    help="Leave out transcripts, for reports that are passed on; same as the setting report.text: false.",
)
@click.option(
    "--no-media", is_flag=True, help="Leave out copies of faces and audio; same as the setting report.media: false."
)
@click.option(
    "--reports",
    type=click.Path(path_type=Path),
    default="reports",
    show_default=True,
    help="Folder for pages and tables.",
)
@PARAMS
@WAIT
@click.option(
    "--where",
    is_flag=True,
    help="Only print the locations of shards, metrics, evaluations and report, and the best scores.",
)
def main(
    datasets: tuple[str, ...],
    out: Path,
    runs: Path,
    evaluations: Path,
    no_text: bool,
    no_media: bool,
    reports: Path,
    params_file: Path | None,
    wait: bool,
    where: bool,
) -> None:
    """Write the report: a self-contained folder of HTML pages, the results as Markdown and LaTeX, and the data of the
    plots.

    It reads the shards below --out, the runs below --runs and their evaluations, whichever command made them. Open
    index.html in --reports.

    \b
    Exit codes:
      0  done                                              4  no shards, or something damaged
      1  unexpected, or the output cannot be written       7  another process writes to the same output
      2  usage or settings                               130  interrupted; run again
      5  --reports holds something else
    """
    log.set_up()
    with exiting():
        if not where:
            extras.need("report", "merc-report")
            from merc.params import Params
            from merc.reports.config import Config
            from merc.reports.stage import write_report

            params = Params.load(params_file)
            config = params.fill("report", Config)
            config = config.model_copy(
                update={"text": config.text and not no_text, "media": config.media and not no_media}
            )
            with lock.held(reports, wait=wait):
                write_report(config, out, runs, reports, list(datasets) or None, evaluations)
        for line in whereabouts(out, runs, evaluations, reports):
            echo(line)


def whereabouts(out: Path, runs: Path, evaluations: Path, reports: Path) -> list[str]:
    """One line each for the existing shards, metrics, folders of evaluations and report; then the best scores, and the
    page to open.
    """
    shards = sorted(folder for folder in out.glob("*") if Layout(Path("raw"), out, folder.name).shards.is_dir())
    lines = [f"shards   {Layout(Path('raw'), out, folder.name).shards}" for folder in shards]
    lines += [f"metrics  {path}" for path in sorted(runs.glob("*/*/metrics.json"))]
    evaluated = {
        path.parents[1] for kind in ("runs/*/*", "comparisons/*") for path in evaluations.glob(f"{kind}/*/scores.json")
    }
    lines += [f"scores   {folder}" for folder in sorted(evaluated)]
    lines += [
        f"report   {path}"
        for path in (reports / name for name in ("index.html", "results.md", "results.tex"))
        if path.is_file()
    ]
    index = reports / "index.html"
    lines += best_scores(runs)
    lines += [f"open     {index.resolve().as_uri()}"] if index.is_file() else []
    return lines or ["nothing has been made yet; run `dvc repro` or `merc-extract` first"]


def best_scores(runs: Path) -> list[str]:
    """One line for the best recipe of each dataset, label set and kind of encoders; dev decides which one it is, never
    test.

    Raises:
        BadTable: if the results of a run are damaged.
    """
    from merc.reports.results import read_recipes
    from merc.reports.scoreboard import SCORES, percent, scoreboards, spread

    lines = []
    for dataset in sorted({path.parents[1].name for path in runs.glob("*/*/results.json")}):
        for board in scoreboards(read_recipes(runs, dataset)):
            seeds = len(board.best.seeds)
            score = percent(spread(board.best, next(iter(SCORES))))
            about = f"test weighted F1, {seeds} seed{'s' if seeds > 1 else ''}, best of {len(board.recipes)} on dev"
            lines.append(
                f"best     {dataset}: {board.best.recipe} {score}"
                f" ({about}{', fine-tuned encoders' if board.tuned else ''})"
            )
    return lines
