"""Stage ``compare``: all finished runs of a dataset → ``evaluations/comparisons/<dataset>/<comparison>/``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from merc import files, lock, log
from merc.command_line import EVALUATIONS, OUT, PARAMS, RUNS, exiting
from merc.evaluation.choice import choose
from merc.evaluation.engine.base import SCORES, Comparison
from merc.evaluation.engine.runs import Run, finished
from merc.evaluation.stage import SCRATCH
from merc.job import Fingerprint, Job, RunOptions
from merc.layout import Layout
from merc.log import logger
from merc.params import Params


def compare(
    runs: Sequence[Run], comparisons: Mapping[str, Comparison], options: RunOptions, evaluations: Path
) -> list[Path]:
    """Compares the finished runs of one dataset; returns the ``scores.json`` of each comparison.

    Args:
        runs: at least one.
        comparisons: by name.
        options: overwrite, wait.
        evaluations: the folder of all evaluations.

    Raises:
        As :func:`merc.evaluation.stage.evaluate`; BadSettings if the settings name an unfinished recipe.
    """
    dataset = runs[0].facts.dataset
    home = evaluations / "comparisons" / dataset
    made = []
    with lock.held(home, wait=options.wait):
        with files.writing(home):
            home.mkdir(parents=True, exist_ok=True)  # DVC needs its output even if nothing is compared
        for name, comparison in comparisons.items():
            settings = {"evaluation": {name: comparison.config.model_dump(mode="json")}}
            fingerprint = Fingerprint(
                settings, {"runs": {run.recipe: run.fingerprint for run in runs}, "version": comparison.VERSION}
            )
            job = Job(f"{dataset}/{name}", home / name, evaluations / SCRATCH, fingerprint, options.overwrite)
            if not job.done_before():
                job.start()
                comparison.compare(runs).write(job.folder)
                for run in runs:
                    run.check_there()
                job.finish({})
                logger.info(
                    "%s: %d runs compared",
                    job.name,
                    len(runs),
                    extra={"stage": "compare", "recipes": [run.recipe for run in runs]},
                )
            made.append(job.out / SCORES)
    return made


def all_runs(runs: Path, layout: Layout) -> list[Run]:
    """The finished runs of a dataset, by name. Raises ``BadTable`` if one was not written by a training."""
    return [Run.read(runs / layout.dataset / recipe, layout) for recipe in finished(runs, layout.dataset)]


@click.command()
@OUT
@RUNS
@EVALUATIONS
@PARAMS
def main(out: Path, runs: Path, evaluations: Path, params_file: Path | None) -> None:
    """Compares the finished runs of every dataset."""
    log.set_up()
    with exiting():
        params = Params.load(params_file)
        comparisons = choose(params).comparisons
        options = RunOptions.of(params, overwrite=True)
        for dataset in sorted({path.parents[1].name for path in runs.glob("*/*/results.json")}):
            compare(all_runs(runs, Layout(Path("raw"), out, dataset)), comparisons, options, evaluations)


if __name__ == "__main__":
    main()
