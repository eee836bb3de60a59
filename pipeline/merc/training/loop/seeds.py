"""The seeds of a run: one after another, or several at once in processes of their own, with the same bytes either way."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from merc.compute import pool
from merc.interrupts import stoppable
from merc.layout import Layout
from merc.log import logger, progress
from merc.shards.format import reader
from merc.training.data.dataset import Standardisation
from merc.training.data.splits import TrainingData, load_data
from merc.training.loop import checkpoint, results
from merc.training.loop.pretraining import PreparedPretraining
from merc.training.loop.trainer import train_seed
from merc.training.recipes.resolution import ResolvedRecipe

# Utterances times epochs, of all seeds together, from which on processes gain more than the four seconds that each takes to import torch,
# measured on one core, where an epoch of the recurrent baseline on MELD's text (9,989 utterances) took 1.2.
_WORTH_PROCESSES = 200_000


@dataclass(frozen=True)
class OneSeed:
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


def train_seeds(seeds: Sequence[OneSeed], data: TrainingData, standardisation: Standardisation, workers: int) -> None:
    """Trains each seed and writes its model, predictions and scores.

    On a CPU one seed takes one thread, so that as many are trained at once as there are workers, where there is enough to do. On a GPU they
    go one after another. A seed that is done is on the disk, whatever becomes of the others.

    Args:
        seeds: of one run, at least one.
        data: of all of them, on the CPU; processes read it by themselves.
        standardisation: of its features.
        workers: processes at most.

    Raises:
        LossNotFinite: from whichever seed; the others that are under way are ended.
        PipelineError: if a process died.
    """
    work = len(seeds) * seeds[0].resolved.epochs * data.train.utterances
    if torch.device(seeds[0].device).type != "cpu" or min(workers, len(seeds)) == 1 or work < _WORTH_PROCESSES:
        data = data.to(torch.device(seeds[0].device))
        for one in seeds:
            _report(_train(one, data, standardisation), one)
        return
    seeds = [replace(one, line=line) for line, one in enumerate(seeds, start=1)]
    with stoppable(), closing(pool.in_order(_train_alone, seeds, workers)) as done, progress(len(seeds), seeds[0].resolved.name, "seed") as bar:
        for one, found in zip(seeds, done, strict=True):
            _report(found, one)
            bar.update()


def _train_alone(one: OneSeed) -> dict[str, Any]:
    """What a worker process does."""
    return _train(one, *load_data(one.resolved, reader.info(one.layout.shards), one.layout))


def _train(one: OneSeed, data: TrainingData, standardisation: Standardisation) -> dict[str, Any]:
    """Trains a seed and writes it; gives what is to be told, since a worker has no log."""
    info, device = reader.info(one.layout.shards), torch.device(one.device)
    first = PreparedPretraining.of(one.resolved, one.layout, data.classes, one.runs)
    tensors, facts = None, {}
    if first is not None:
        start = first.start(one.resolved, data.dims, len(data.classes), one.seed, device, one.line)
        tensors, facts = start.tensors, {"pretraining": first.facts(start)}
    trained = train_seed(one.resolved, data, one.seed, device, tensors, one.line, results.finished_phases(one.folder, one.seed))
    header = checkpoint.header(one.resolved, info, data.dims, one.layout.dataset, one.seed)
    checkpoint.save(results.weights(one.folder, one.seed), trained.model, standardisation, header)
    results.write_seed(one.folder, trained, data, facts)
    last = trained.history[-1].get("phase")  # None if the recipe names no phases
    epochs = sum(row.get("phase") == last for row in trained.history)
    return {"epoch": trained.epoch, "epochs": epochs, "dev_weighted_f1": round(trained.dev["weighted_f1"], 4), **facts}


def _report(found: dict[str, Any], one: OneSeed) -> None:
    first = found.get("pretraining")
    begun = "" if first is None else f"; began with {len(first['transferred'])} tensors of {first['recipe']} on {first['dataset']}"
    own = f", not with {', '.join(first['not_transferred'])}" if first is not None and first["not_transferred"] else ""
    logger.info(
        "seed %d: epoch %d of %d, dev weighted F1 %.4f%s%s",
        one.seed,
        found["epoch"],
        found["epochs"],
        found["dev_weighted_f1"],
        begun,
        own,
        extra={"recipe": one.resolved.name, "seed": one.seed, **found},
    )
