"""The data of a training: the shards' splits, standardised, and the inputs of its fingerprint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from merc import files
from merc.errors import BadSettings
from merc.job import finished_fingerprint
from merc.layout import Layout
from merc.records.dialogue import SPLITS
from merc.shards.format import reader
from merc.training.data import neighbours
from merc.training.data.curriculum import Lessons
from merc.training.data.dataset import DialogueSplit, Standardisation, check_modalities, concatenated, read_split
from merc.training.data.sequences import read_sequences
from merc.training.recipes.resolution import ResolvedRecipe


@dataclass(frozen=True)
class TrainingData:
    """The three splits, standardised and on the device of the training."""

    train: DialogueSplit
    dev: DialogueSplit
    test: DialogueSplit
    classes: tuple[str, ...]

    def to(self, device: torch.device) -> "TrainingData":
        """The data with all tensors on ``device``."""
        return TrainingData(
            train=self.train.to(device), dev=self.dev.to(device), test=self.test.to(device), classes=self.classes
        )

    @property
    def dims(self) -> dict[str, int]:
        return self.train.dims

    @property
    def class_counts(self) -> Tensor:
        """[C] float32 on the CPU, labelled train utterances per class."""
        return self.train.class_counts(len(self.classes))


def inputs(resolved: ResolvedRecipe, layout: Layout) -> dict[str, Any]:
    """Hashes of what a training reads: the shards and, if the recipe uses neighbours, the index of trajectories; and
    the versions of what is trained.
    """
    read: dict[str, Any] = {"shards": finished_fingerprint(layout.shards, "meta/info.json")}
    if resolved.recipe.neighbours is not None:
        read["neighbours"] = {path.name: files.sha256(path) for path in neighbours.tables(layout.shards)}
    versions = resolved.versions()
    return read | ({"versions": versions} if versions else {})


def check_shards(
    resolved: ResolvedRecipe, info: Mapping[str, Any], layout: Layout, splits: Sequence[str] = SPLITS
) -> None:
    """Raises ``BadSettings`` if the shards lack a modality or a split that is needed."""
    check_modalities(resolved.recipe.modalities, info, layout.shards)
    there = reader.splits(layout.shards)
    missing = [split for split in splits if split not in there]
    if missing == ["dev"]:
        raise BadSettings(
            f"{layout.dataset}: the shards have no dev split, and the epoch is selected on dev, never on test; for"
            " IEMOCAP set corpora.<name>.validation to val12 or random20"
        )
    if missing:
        raise BadSettings(
            f"{layout.dataset}: the shards have no {', '.join(missing)} split; there: {', '.join(there) or 'none'};"
            " make them without --split"
        )


def load_data(
    resolved: ResolvedRecipe, info: Mapping[str, Any], layout: Layout
) -> tuple[TrainingData, Standardisation]:
    """Reads the splits and standardises their features by the train split's statistics.

    Raises:
        BadSettings: if the train split has fewer than two classes, or dev or test no labelled utterance, or there is no
            curriculum for the train split.
        BadTable: see :func:`merc.training.data.dataset.read_split`,
            :func:`merc.training.data.neighbours.with_neighbours` and
            :func:`merc.training.data.sequences.read_sequences`.
    """
    classes = tuple(info["classes"])
    standardisation = _standardisation(resolved, layout)
    longest = resolved.model.longest_sequence(resolved.model_config)
    splits = {
        name: standardisation.apply_(read_split(layout.shards, name, resolved.recipe.modalities, len(classes)))
        for name in SPLITS
    }
    splits = {name: with_sequences(split, layout.shards, info, longest) for name, split in splits.items()}
    splits["train"] = _with_neighbours(resolved, splits["train"], layout)
    if resolved.recipe.curriculum is not None:
        Lessons.of(splits["train"], resolved.recipe.curriculum, classes)  # raise errors now, not in the first seed
    data = TrainingData(**splits, classes=classes)
    counts = {name: int(count) for name, count in zip(classes, data.class_counts.tolist(), strict=True) if count}
    if len(counts) < 2:
        raise BadSettings(
            f"{layout.dataset}: nothing to learn: the train split's labels are {counts or 'none'}, and"
            f" {info['label_set']} has {classes}"
        )
    for split in (data.dev, data.test):
        if not split.labelled.any():
            raise BadSettings(
                f"{layout.dataset}: no utterance of the {split.name} split has a label of {info['label_set']}, so it"
                " cannot be scored"
            )
    return data, standardisation


def load_for_pretraining(
    resolved: ResolvedRecipe, info: Mapping[str, Any], layout: Layout, splits: Sequence[str]
) -> tuple[DialogueSplit, Standardisation]:
    """Reads several splits as one, standardised by the train split's statistics.

    Raises:
        BadTable: as :func:`load_data`.
    """
    standardisation = _standardisation(resolved, layout)
    read = [read_split(layout.shards, name, resolved.recipe.modalities, len(info["classes"])) for name in splits]
    joined = with_sequences(
        standardisation.apply_(concatenated(read)),
        layout.shards,
        info,
        resolved.model.longest_sequence(resolved.model_config),
    )
    return _with_neighbours(resolved, joined, layout), standardisation


def with_sequences(split: DialogueSplit, shards: Path, info: Mapping[str, Any], longest: int | None) -> DialogueSplit:
    """A split on the CPU with the sequences of all its modalities, of at most ``longest`` entries; None: unchanged."""
    if longest is None:
        return split
    return replace(
        split,
        sequences={
            name: read_sequences(shards, info, name, longest, split.utterance_ids, there)
            for name, there in split.present.items()
        },
    )


def _standardisation(resolved: ResolvedRecipe, layout: Layout) -> Standardisation:
    recipe = resolved.recipe
    return Standardisation.from_stats(
        reader.stats(layout.shards), recipe.modalities, recipe.feature_limit_std, recipe.speaker_normalisation
    )


def _with_neighbours(resolved: ResolvedRecipe, split: DialogueSplit, layout: Layout) -> DialogueSplit:
    wanted = resolved.recipe.neighbours
    return split if wanted is None else neighbours.with_neighbours(split, layout.shards, wanted.similarity)
