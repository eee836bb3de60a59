"""Stage ``train``: shards → ``runs/<dataset>/<recipe>/``, seed after seed; a run that was killed goes on with the next seed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import torch

from pipeline.command_line import stage_command
from pipeline.corpora.dialogue import SPLITS
from pipeline.errors import BadSettings
from pipeline.extraction import device as devices
from pipeline.layout import Layout
from pipeline.log import logger
from pipeline.params import Params
from pipeline.parts import Fingerprint, RunOptions, StageWork, finished_fingerprint
from pipeline.shards import reader
from pipeline.training import checkpoint, results
from pipeline.training.dataset import Standardisation, check_modalities, read_split
from pipeline.training.recipe import Plan, resolve
from pipeline.training.trainer import TrainingData, train_seed

SCRATCH = ".scratch"


def train(params: Params, layout: Layout, run: RunOptions, *, recipe: str, runs: Path) -> Path:
    """Trains all seeds of a recipe on the shards of a dataset.

    Args:
        params: settings; the blocks ``recipes``, ``additions``, ``models``, ``frameworks``, ``losses``.
        layout: where the shards are.
        run: device and overwrite. A training takes one CPU thread or one GPU, whatever ``workers`` says.
        recipe: its name, such as ``mmgcn+dclf`` (:mod:`pipeline.training.composition`).
        runs: the folder of all runs.

    Returns:
        ``runs/<dataset>/<recipe>``; its files are described in :mod:`pipeline.training.results`.

    Raises:
        BadSettings: if a key, model, loss or modality is unknown, or the shards lack a modality, a split or labels that are needed.
        BadTable: if there are no shards, or not as they should be.
        SettingsDiffer: if there is a run with other settings and ``run.overwrite`` is off.
        LossNotFinite: if the training diverges.
    """
    plan = resolve(params, recipe)
    info = reader.info(layout.shards)
    _check_shards(plan, info, layout)
    fingerprint = Fingerprint(settings=plan.settings(), inputs={"shards": finished_fingerprint(layout.shards, "meta/info.json")})
    home = runs / layout.dataset
    work = StageWork(plan.name, home / plan.name, home / SCRATCH, fingerprint, run.overwrite)
    if work.cached():
        logger.info("train %s: done before", plan.name, extra={"stage": "train", "recipe": plan.name, "cached": True})
        return work.out
    device = torch.device(devices.resolve(run.device))
    data, standardisation = load_data(plan, info, layout)
    work.start()
    header = _header(plan, info, data, layout)
    data = data.to(device)
    for seed in plan.recipe.seeds:
        if results.is_done(work.folder, seed):
            logger.info("seed %d: done before", seed, extra={"stage": "train", "seed": seed, "cached": True})
            continue
        trained = train_seed(plan, data, seed, device)
        checkpoint.save(results.weights(work.folder, seed), trained.model, standardisation, header.model_copy(update={"seed": seed}))
        results.write_seed(work.folder, trained, data)
    results.combine(work.folder, plan, data, {"dataset": layout.dataset, "label_set": info["label_set"], "encoders": header.encoders})
    work.finish({})
    return work.out


def load_data(plan: Plan, info: Mapping[str, Any], layout: Layout) -> tuple[TrainingData, Standardisation]:
    """Reads the splits and standardises their features by the train split's statistics.

    Raises:
        BadSettings: if the train split has fewer than two classes, or dev or test no labelled utterance.
        BadTable: see :func:`pipeline.training.dataset.read_split`.
    """
    recipe, classes = plan.recipe, tuple(info["classes"])
    standardisation = Standardisation.from_stats(reader.stats(layout.shards), recipe.modalities, recipe.feature_limit_std)
    splits = {name: standardisation.apply(read_split(layout.shards, name, recipe.modalities, len(classes))) for name in SPLITS}
    data = TrainingData(**splits, classes=classes)
    counts = {name: int(count) for name, count in zip(classes, data.class_counts.tolist(), strict=True) if count}
    if len(counts) < 2:
        raise BadSettings(f"{layout.dataset}: nothing to learn: the train split's labels are {counts or 'none'}, and {info['label_set']} has {classes}")
    for split in (data.dev, data.test):
        if not split.labelled.any():
            raise BadSettings(f"{layout.dataset}: no utterance of the {split.name} split has a label of {info['label_set']}, so nothing can be scored on it")
    return data, standardisation


def _check_shards(plan: Plan, info: Mapping[str, Any], layout: Layout) -> None:
    check_modalities(plan.recipe.modalities, info, layout.shards)
    there = reader.splits(layout.shards)
    missing = [split for split in SPLITS if split not in there]
    if missing == ["dev"]:
        raise BadSettings(
            f"{layout.dataset}: the shards have no dev split, and the epoch is chosen on dev, never on test; "
            "for IEMOCAP set corpora.<name>.validation to val12 or random20"
        )
    if missing:
        raise BadSettings(f"{layout.dataset}: the shards have no {', '.join(missing)} split; there: {', '.join(there) or 'none'}; make them without --split")


def _header(plan: Plan, info: Mapping[str, Any], data: TrainingData, layout: Layout) -> checkpoint.Header:
    return checkpoint.Header(
        model=plan.recipe.model,
        model_settings=plan.model_config.model_dump(mode="json"),
        framework=plan.recipe.framework,
        framework_settings={} if plan.framework is None else plan.framework.config.model_dump(mode="json"),
        dims=data.dims,
        classes=data.classes,
        label_set=info["label_set"],
        dataset=layout.dataset,
        recipe={"name": plan.name, **plan.recipe.model_dump(mode="json")},
        seed=plan.recipe.seeds[0],
        encoders={name: info["encoders"][name]["name"] for name in plan.recipe.modalities},
        feature_limit_std=plan.recipe.feature_limit_std,
    )


@click.option("--recipe", required=True, help="A block under recipes in params.yaml, or such with additions: mmgcn+dclf.")
@click.option("--runs", type=click.Path(path_type=Path), default="runs", show_default=True, help="Folder of all runs.")
def _train(params: Params, layout: Layout, run: RunOptions, recipe: str, runs: Path) -> None:
    """Trains all seeds of a recipe and scores them."""
    train(params, layout, run, recipe=recipe, runs=runs)


main = stage_command(_train)

if __name__ == "__main__":
    main()
