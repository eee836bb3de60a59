"""Stage ``train``: shards → ``runs/<dataset>/<recipe>/``, seed after seed; a killed run continues with the next seed,
or phase of a seed.
"""

from pathlib import Path
from typing import Any

import click

from merc import lock
from merc.command_line import RUNS, stage_command
from merc.compute import device as devices
from merc.encoders.engine import adapted
from merc.job import Fingerprint, Job, RunOptions
from merc.layout import Layout
from merc.log import logger
from merc.params import Params
from merc.shards.format import reader
from merc.training.data.splits import check_shards, inputs, load_data
from merc.training.following.engine import base as following
from merc.training.loop import phases, results, seeds
from merc.training.loop.pretraining import PreparedPretraining
from merc.training.recipes.resolution import ResolvedRecipe, resolve

SCRATCH = ".scratch"


def train(resolved: ResolvedRecipe, layout: Layout, run: RunOptions, *, runs: Path) -> Path:
    """Trains all seeds of a recipe on the shards of a dataset.

    Args:
        resolved: the recipe.
        layout: paths of the dataset.
        run: device, overwrite, on a CPU the number of seeds trained at once (``workers``), one thread each, and what
            follows them.
        runs: the folder of all runs.

    Returns:
        ``runs/<dataset>/<recipe>``; its files are described in :mod:`merc.training.loop.results`.

    Raises:
        BadSettings: if a key, model, loss or modality is unknown, a follower is not installed, the shards lack a
            required modality, split or labels, or a phase of the recipe lacks something that an earlier one should have
            trained.
        RawDataMissing: if there are no shards.
        BadTable: if they are invalid.
        SettingsDiffer: if a run with other settings exists and ``run.overwrite`` is off.
        LossNotFinite: if the training diverges.
        OutputInUse: if another process is training the same, and ``run.wait`` is off.
    """
    following.check(run.follow)
    info = reader.info_of(layout)
    check_shards(resolved, info, layout)
    first = PreparedPretraining.of(resolved, layout, info["classes"], runs)
    made_of = inputs(resolved, layout) | ({} if first is None else {"pretraining": first.digest})
    fingerprint = Fingerprint(settings=resolved.settings(), inputs=made_of)
    home = runs / layout.dataset
    job = Job(resolved.name, home / resolved.name, home / SCRATCH, fingerprint, run.overwrite)
    with lock.held(job.out, wait=run.wait):
        if not job.done_before():
            _make(job, resolved, layout, run, runs, info)
    return job.out


def _make(
    job: Job, resolved: ResolvedRecipe, layout: Layout, run: RunOptions, runs: Path, info: dict[str, Any]
) -> None:
    """Trains what is not done, and moves the run into place."""
    device = devices.resolve(run.device) if run.executor == "local" else "cpu"  # a cluster chooses its own
    data, standardisation = load_data(resolved, info, layout)
    phases.check(resolved, data.train, data.classes)
    job.start()
    each = [
        seeds.OneSeed(resolved, layout, runs, job.folder, seed, device, job.fingerprint.digest, follow=run.follow)
        for seed in resolved.recipe.seeds
    ]
    for one in each:
        if results.is_done(job.folder, one.seed):
            logger.info("seed %d: already done", one.seed, extra={"stage": "train", "seed": one.seed, "cached": True})
    left = [one for one in each if not results.is_done(job.folder, one.seed)]
    if left:
        seeds.train_seeds(left, data, standardisation, run)
    encoders = {name: info["encoders"][name]["name"] for name in resolved.recipe.modalities}
    tag = adapted.tag({name: info["encoders"][name] for name in resolved.recipe.modalities})
    results.combine(
        job.folder,
        resolved,
        data,
        {"dataset": layout.dataset, "label_set": info["label_set"], "encoders": encoders, "tag": tag},
    )
    job.finish({})


@click.option("--recipe", required=True, help="One of `merc-train recipes`, also with additions: mmgcn+dclf.")
@RUNS
def _train(params: Params, layout: Layout, run: RunOptions, recipe: str, runs: Path) -> None:
    """Trains all seeds of a recipe and scores them."""
    train(resolve(params, recipe), layout, run, runs=runs)


main = stage_command(_train, into_features=False)

if __name__ == "__main__":
    main()
