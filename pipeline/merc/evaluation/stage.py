"""Stage ``evaluate``: a finished run → ``evaluations/runs/<dataset>/<recipe>/<protocol>/``, each resumed or redone
separately.

evaluations/
  runs/<dataset>/<recipe>/<protocol>/          scores.json, tables (Parquet), record.json: what they were made with
  comparisons/<dataset>/<comparison>/          the same, for all finished runs of a dataset (:mod:`merc.evaluation.comparing`)
"""  # noqa: E501

from collections.abc import Mapping
from pathlib import Path

import click
import torch

from merc import files, lock
from merc.command_line import EVALUATIONS, RUNS, stage_command
from merc.compute import device as devices
from merc.compute.repeatable import repeatable
from merc.evaluation.choice import choose
from merc.evaluation.engine.base import SCORES, Protocol
from merc.evaluation.engine.runs import Run
from merc.job import Fingerprint, Job, RunOptions
from merc.layout import Layout
from merc.log import logger
from merc.params import Params

SCRATCH = ".scratch"


def evaluate(run: Run, protocols: Mapping[str, Protocol], options: RunOptions, evaluations: Path) -> list[Path]:
    """Evaluates a run by some protocols; those that do not apply to it are left out, and the log says why.

    Args:
        run: the run.
        protocols: by name.
        options: overwrite, wait.
        evaluations: the folder of all evaluations.

    Returns:
        The ``scores.json`` of each.

    Raises:
        BadTable: if a file of the run or its shards is missing, damaged or from other work, or the run is gone at the
            end; finished evaluations are kept.
        SettingsDiffer: if an evaluation with other settings exists and ``options.overwrite`` is off.
        OutputInUse: if another process is evaluating the same run, and ``options.wait`` is off.
    """
    home = evaluations / "runs" / run.facts.dataset / run.recipe
    made = []
    with lock.held(home, wait=options.wait):
        with files.writing(home):
            home.mkdir(parents=True, exist_ok=True)  # DVC needs its output even if no protocol applies
        for name, protocol in protocols.items():
            missing = protocol.lacks(run)
            if missing:
                logger.info(
                    "%s: %s left out, since %s", run, name, missing, extra={"stage": "evaluate", "protocol": name}
                )
                continue
            settings = {"evaluation": {name: protocol.config.model_dump(mode="json")}}
            fingerprint = Fingerprint(
                settings, {"run": run.fingerprint, "version": protocol.VERSION, **protocol.inputs(run)}
            )
            job = Job(
                f"{run.recipe}/{name}",
                home / name,
                evaluations / SCRATCH / run.facts.dataset,
                fingerprint,
                options.overwrite,
            )
            if not job.done_before():
                _make(job, run, protocol)
            made.append(job.out / SCORES)
    return made


def _make(job: Job, run: Run, protocol: Protocol) -> None:
    job.start()
    with repeatable(0, torch.device(run.device)):
        protocol.evaluate(run).write(job.folder)
    run.check_there()
    job.finish({})
    logger.info("%s: done", job.name, extra={"stage": "evaluate", "recipe": run.recipe})


@click.option("--recipe", required=True, help="A finished run's.")
@RUNS
@EVALUATIONS
def _evaluate(params: Params, layout: Layout, options: RunOptions, recipe: str, runs: Path, evaluations: Path) -> None:
    """Evaluates a finished run."""
    run = Run.read(runs / layout.dataset / recipe, layout, devices.resolve(options.device))
    evaluate(run, choose(params).protocols, options, evaluations)


main = stage_command(_evaluate, into_features=False)

if __name__ == "__main__":
    main()
