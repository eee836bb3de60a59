"""The seeds of a run: in sequence, or several at once in separate processes, with the same bytes either way."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from merc import files, timing
from merc.compute import pool
from merc.compute.executors.base import Advance, Executor, Listed, Needs, Opened, Parts, Share, choose
from merc.interrupts import stoppable
from merc.job import RunOptions
from merc.layout import Layout
from merc.log import logger, progress
from merc.shards.format import reader
from merc.training.data.dataset import Standardisation
from merc.training.data.splits import TrainingData, load_data
from merc.training.following.engine.base import Followed, following
from merc.training.loop import checkpoint, results
from merc.training.loop.pretraining import PreparedPretraining
from merc.training.loop.trainer import train_seed
from merc.training.recipes.resolution import ResolvedRecipe

# Utterances times epochs, over all seeds, from which processes save more than the four seconds that each takes to
# import torch; measured on one core, where an epoch of the recurrent baseline on MELD's text (9,989 utterances) took
# 1.2 s.
_WORTH_PROCESSES = 200_000
# Memory of torch, the vectors of a corpus like MELD, and a dialogue model.
_SEED_BYTES = 2_000_000_000


@dataclass(frozen=True)
class OneSeed:
    """One seed of a run.

    Attributes:
        resolved: the recipe.
        layout: layout of the dataset.
        runs: the folder of all runs, which contains the pre-trainings.
        folder: folder of the run's unfinished work. seed: its number. device: device of the training. fingerprint:
            fingerprint of the run. line: line of its progress bar.
        follow: programs that show it during the training (:mod:`merc.training.following`).
    """

    resolved: ResolvedRecipe
    layout: Layout
    runs: Path
    folder: Path
    seed: int
    device: str
    fingerprint: str
    line: int = 0
    follow: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"seed {self.seed} of {self.resolved.name} on {self.layout.dataset}"


def train_seeds(
    seeds: Sequence[OneSeed], data: TrainingData, standardisation: Standardisation, run: RunOptions
) -> None:
    """Trains each seed and writes its model, predictions and scores.

    On a CPU a seed uses one thread, so as many are trained at once as there are workers, if there is enough to do. On a
    GPU they run in sequence; on a cluster each takes a core or a GPU. A finished seed is on the disk, whatever happens
    to the others.

    Args:
        seeds: seeds of one run, at least one.
        data: data of all of them, on the CPU; further processes read it themselves.
        standardisation: standardisation of its features.
        run: workers, executor.

    Raises:
        LossNotFinite: from any seed; others in progress are stopped.
        PipelineError: if a process died.
    """
    if run.executor != "local":
        _train_on(choose(run), seeds)
        return
    workers = run.workers
    work = len(seeds) * seeds[0].resolved.epochs * data.train.utterances
    if torch.device(seeds[0].device).type != "cpu" or min(workers, len(seeds)) == 1 or work < _WORTH_PROCESSES:
        data = data.to(torch.device(seeds[0].device))
        for one in seeds:
            _report(_train(one, data, standardisation), one)
        return
    seeds = [replace(one, line=line) for line, one in enumerate(seeds, start=1)]
    with (
        stoppable(),
        closing(pool.in_order(_train_alone, seeds, workers)) as done,
        progress(len(seeds), seeds[0].resolved.name, "seed") as bar,
    ):
        for one, found in zip(seeds, done, strict=True):
            _report(found, one)
            bar.update()


def _train_on(executor: Executor, seeds: Sequence[OneSeed]) -> None:
    with (
        progress(len(seeds), seeds[0].resolved.name, "seed") as bar,
        closing(executor.map(Seeds(seeds), Listed(range(len(seeds))), bar.update)) as done,
    ):
        for index, found in done:
            _report(found, seeds[index])


@dataclass(frozen=True)
class Seeds:
    """The seeds of a run, each a part; see :class:`merc.compute.executors.base.Work`."""

    seeds: Sequence[OneSeed]

    @property
    def name(self) -> str:
        return self.seeds[0].resolved.name

    @property
    def home(self) -> Path:
        return self.seeds[0].runs / self.seeds[0].layout.dataset

    @property
    def needs(self) -> Needs:
        return Needs(accelerated=True, cores="one", memory_bytes=_SEED_BYTES, parts_at_once=1)

    def is_done(self, index: int) -> bool:
        return results.is_done(self.seeds[index].folder, self.seeds[index].seed)

    def check(self) -> None:
        reader.info(self.seeds[0].layout.shards)

    def open(self, share: Share) -> Opened[dict[str, Any]]:
        data, standardisation = load_data(
            self.seeds[0].resolved, reader.info(self.seeds[0].layout.shards), self.seeds[0].layout
        )
        return partial(self._make, share.device, data.to(torch.device(share.device)), standardisation)

    def _make(
        self, device: str, data: TrainingData, standardisation: Standardisation, parts: Parts, advance: Advance
    ) -> Generator[tuple[int, dict[str, Any]], None, None]:
        while (index := parts.take(wait=True)) is not None:
            found = _train(replace(self.seeds[index], device=device), data, standardisation)
            advance(1)
            yield index, found


def _train_alone(one: OneSeed) -> dict[str, Any]:
    """The task of a worker process."""
    return _train(one, *load_data(one.resolved, reader.info(one.layout.shards), one.layout))


def _train(one: OneSeed, data: TrainingData, standardisation: Standardisation) -> dict[str, Any]:
    """Trains a seed and writes it; returns the log messages, since a worker has no log."""
    info, device = reader.info(one.layout.shards), torch.device(one.device)
    first = PreparedPretraining.of(one.resolved, one.layout, data.classes, one.runs)
    tensors, facts = None, {}
    if first is not None:
        start = first.start(one.resolved, data.dims, len(data.classes), one.seed, device, one.line)
        tensors, facts = start.tensors, {"pretraining": first.facts(start)}
    with following(one.follow, one.runs, Followed(one.layout.dataset, one.resolved.name, one.seed)) as tell:
        trained = train_seed(
            one.resolved, data, one.seed, device, tensors, one.line, results.finished_phases(one.folder, one.seed), tell
        )
    header = checkpoint.header(one.resolved, info, data.dims, one.layout.dataset, one.seed)
    checkpoint.save(results.weights(one.folder, one.seed), trained.model, standardisation, header)
    results.write_seed(one.folder, trained, data, facts)
    _write_times(one, trained.watch, device)
    last = trained.history[-1].get("phase")  # None if the recipe names no phases
    epochs = sum(row.get("phase") == last for row in trained.history)
    return {"epoch": trained.epoch, "epochs": epochs, "dev_weighted_f1": round(trained.dev["weighted_f1"], 4), **facts}


def _write_times(one: OneSeed, watch: timing.Stopwatch, device: torch.device) -> None:
    name = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    times = watch.times(one.fingerprint, name, torch.get_num_threads())
    if times is not None:
        files.write_json(timing.path_of(one.runs, one.layout.dataset, one.resolved.name, one.seed), times.model_dump())


def _report(found: dict[str, Any], one: OneSeed) -> None:
    first = found.get("pretraining")
    begun = (
        ""
        if first is None
        else f"; started with {len(first['transferred'])} tensors of {first['recipe']} on {first['dataset']}"
    )
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
