"""The seeds of a run: one after another, or several at once in processes of their own, with the same bytes either way."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from merc.compute import pool
from merc.layout import Layout
from merc.log import logger, progress
from merc.shards.format import reader
from merc.training.data.dataset import Standardisation
from merc.training.data.splits import TrainingData, load_data
from merc.training.loop import checkpoint, results
from merc.training.loop.pretraining import FirstStage
from merc.training.loop.trainer import train_seed
from merc.training.recipes.resolution import ResolvedRecipe

# Utterances times epochs, of all seeds together, from which on processes gain more than the four seconds that each takes to import torch,
# measured on one core, where an epoch of the recurrent baseline on MELD's text (9,989 utterances) took 1.2.
_WORTH_PROCESSES = 200_000


@dataclass(frozen=True)
class Job:
    """One seed of a run.

    Attributes:
        resolved: the recipe.
        layout: whose shards.
        runs: the folder of all runs, where pre-trainings lie.
        folder: of the run's unfinished work.
        seed: which one.
        device: where it is trained.
        line: of its progress bar.
    """

    resolved: ResolvedRecipe
    layout: Layout
    runs: Path
    folder: Path
    seed: int
    device: str
    line: int = 0

    def __str__(self) -> str:
        return f"seed {self.seed} of {self.resolved.name} on {self.layout.dataset}"


def train_seeds(jobs: Sequence[Job], data: TrainingData, standardisation: Standardisation, workers: int) -> None:
    """Trains each job's seed and writes its model, predictions and scores.

    On a CPU one seed takes one thread, so that as many are trained at once as there are workers, where there is enough to do. On a GPU they
    go one after another. A seed that is done is on the disk, whatever becomes of the others.

    Args:
        jobs: of one run, at least one.
        data: of all of them, on the CPU; processes read it by themselves.
        standardisation: of its features.
        workers: processes at most.

    Raises:
        LossNotFinite: from whichever seed; the others that are under way are ended.
        PipelineError: if a process died.
    """
    work = len(jobs) * jobs[0].resolved.epochs * data.train.utterances
    if torch.device(jobs[0].device).type != "cpu" or min(workers, len(jobs)) == 1 or work < _WORTH_PROCESSES:
        data = data.to(torch.device(jobs[0].device))
        for job in jobs:
            _report(_train(job, data, standardisation), job)
        return
    jobs = [replace(job, line=line) for line, job in enumerate(jobs, start=1)]
    with pool.stoppable(), closing(pool.in_order(_train_alone, jobs, workers)) as done, progress(len(jobs), jobs[0].resolved.name, "seed") as bar:
        for job, found in zip(jobs, done, strict=True):
            _report(found, job)
            bar.update()


def _train_alone(job: Job) -> dict[str, Any]:
    """What a worker process does."""
    return _train(job, *load_data(job.resolved, reader.info(job.layout.shards), job.layout))


def _train(job: Job, data: TrainingData, standardisation: Standardisation) -> dict[str, Any]:
    """Trains a seed and writes it; gives what is to be told, since a worker has no log."""
    info, device = reader.info(job.layout.shards), torch.device(job.device)
    first = FirstStage.of(job.resolved, job.layout, data.classes, job.runs)
    tensors, facts = None, {}
    if first is not None:
        start = first.start(job.resolved, data.dims, len(data.classes), job.seed, device, job.line)
        tensors, facts = start.tensors, {"pretraining": first.facts(start)}
    trained = train_seed(job.resolved, data, job.seed, device, tensors, job.line, results.finished_phases(job.folder, job.seed))
    header = checkpoint.header(job.resolved, info, data.dims, job.layout.dataset, job.seed)
    checkpoint.save(results.weights(job.folder, job.seed), trained.model, standardisation, header)
    results.write_seed(job.folder, trained, data, facts)
    last = trained.history[-1].get("phase")  # None if the recipe names no phases
    epochs = sum(row.get("phase") == last for row in trained.history)
    return {"epoch": trained.epoch, "epochs": epochs, "dev_weighted_f1": round(trained.dev["weighted_f1"], 4), **facts}


def _report(found: dict[str, Any], job: Job) -> None:
    first = found.get("pretraining")
    begun = "" if first is None else f"; began with {len(first['transferred'])} tensors of {first['recipe']} on {first['dataset']}"
    own = f", not with {', '.join(first['not_transferred'])}" if first is not None and first["not_transferred"] else ""
    logger.info(
        "seed %d: epoch %d of %d, dev weighted F1 %.4f%s%s",
        job.seed,
        found["epoch"],
        found["epochs"],
        found["dev_weighted_f1"],
        begun,
        own,
        extra={"recipe": job.resolved.name, "seed": job.seed, **found},
    )
