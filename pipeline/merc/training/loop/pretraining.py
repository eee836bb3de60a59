"""A pre-training and the training after it: weights learned on one corpus are the start of the training on another.

    features/meld/shards ──► pre-training ──► runs/meld/.pretraining/<recipe>-<hash>/seed-0.safetensors
                                                    │  (and seed-0.csv, its epochs)
                                                    │  every tensor of equal name and shape, heads left out
    features/iemocap/shards ──────────────────────► training ──► runs/iemocap/<recipe>/seed-0/

Each seed of the second training starts where the same seed of the first ended, so that the spread over seeds covers
both. A finished pre-training is stored under the hash of everything that determined it, and reused by every recipe that
requests the same; a killed one restarts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from merc import files
from merc.errors import BadSettings
from merc.layout import Layout
from merc.shards.format import reader
from merc.training.data import splits
from merc.training.frameworks.base import Framework
from merc.training.loop import checkpoint
from merc.training.loop.trainer import pretrain_seed
from merc.training.models.engine.base import MERCModel
from merc.training.recipes.resolution import ResolvedPretraining, ResolvedRecipe

FOLDER = ".pretraining"


@dataclass(frozen=True)
class PreparedPretraining:
    """A pre-training that has been checked.

    Attributes:
        wanted: the recipe's key ``pretraining``, looked up.
        layout: layout of its dataset. info: info of its shards. digest: hash of its settings and inputs. folder: folder
            of its models, one per seed.
    """

    wanted: ResolvedPretraining
    layout: Layout
    info: Mapping[str, Any]
    digest: str
    folder: Path

    @classmethod
    def of(
        cls, resolved: ResolvedRecipe, layout: Layout, classes: Sequence[str], runs: Path
    ) -> "PreparedPretraining | None":
        """The pre-training of a recipe; None if it has none.

        Args:
            resolved: the recipe.
            layout: layout of the second training's dataset; that of the first is next to it.
            classes: classes of the second training's label set.
            runs: the folder of all runs.

        Raises:
            BadSettings: if the shards lack something, held-out dialogues of the second training's corpus would be seen,
                or a head would be transferred between different label sets.
            BadTable: if there are no shards.
        """
        wanted = resolved.pretraining
        if wanted is None:
            return None
        held_out = [split for split in wanted.settings.splits if split != "train"]
        if held_out and wanted.settings.dataset == layout.dataset:
            raise BadSettings(
                f"recipes.{resolved.name}.pretraining: trained on {', '.join(held_out)} of {layout.dataset}, the model"
                " could not be scored on it"
            )
        layout = replace(layout, dataset=wanted.settings.dataset)
        info = reader.info_of(layout)
        splits.check_shards(wanted.resolved, info, layout, wanted.settings.splits)
        if wanted.settings.transfer_head and list(info["classes"]) != list(classes):
            raise BadSettings(
                f"recipes.{resolved.name}.pretraining.transfer_head: the label sets of the two trainings differ,"
                f" {list(info['classes'])} and {list(classes)}; a head trained for one has no meaning for the other"
            )
        digest = files.digest(
            {
                "settings": wanted.decides(),
                "splits": wanted.settings.splits,
                "inputs": splits.inputs(wanted.resolved, layout),
            }
        )
        return cls(
            wanted, layout, info, digest, runs / layout.dataset / FOLDER / f"{wanted.resolved.name}-{digest[:16]}"
        )

    def model(self, seed: int, device: torch.device, line: int = 0) -> MERCModel:
        """The pre-trained model of a seed, on the CPU; trained now if it is missing, with a progress line on the
        terminal.

        Raises:
            LossNotFinite: as :func:`merc.training.loop.trainer.pretrain_seed`.
        """
        path = self.folder / f"seed-{seed}.safetensors"
        if not path.is_file():
            resolved, info = self.wanted.resolved, self.info
            train, standardisation = splits.load_for_pretraining(
                resolved, info, self.layout, self.wanted.settings.splits
            )
            model, history = pretrain_seed(resolved, train.to(device), info["classes"], seed, device, line)
            files.write_csv(path.with_suffix(".csv"), resolved.epoch_columns, history)
            checkpoint.save(
                path, model, standardisation, checkpoint.header(resolved, info, train.dims, self.layout.dataset, seed)
            )
        return checkpoint.load(path).model

    def start(
        self,
        resolved: ResolvedRecipe,
        dims: Mapping[str, int],
        classes: int,
        seed: int,
        device: torch.device,
        line: int = 0,
    ) -> "Start":
        """The initial weights of a seed of the second training.

        Args:
            resolved: recipe of the second training.
            dims: modality → length of its vectors in it.
            classes: number of classes in it.
            seed: seed of both. device: device of the first training. line: line of the progress bar. Raises:
                BadSettings: if no tensor fits.
        """
        with torch.random.fork_rng(devices=[]):
            heads = set() if self.wanted.settings.transfer_head else head_names(resolved, dims, classes)
            target = resolved.build(dims, classes)
        start = fitting(self.model(seed, device, line), target, heads)
        if not start.tensors:
            raise BadSettings(
                f"{resolved.name}: of the pre-training {self.wanted.resolved.name} on {self.layout.dataset} no tensor"
                " matches by name and shape"
            )
        return start

    def facts(self, start: "Start") -> dict[str, Any]:
        """For the results of the second training."""
        return {
            "dataset": self.layout.dataset,
            "recipe": self.wanted.resolved.name,
            "splits": list(self.wanted.settings.splits),
            "fingerprint": self.digest,
            "transferred": sorted(start.tensors),
            "not_transferred": start.left,
        }


@dataclass(frozen=True)
class Start:
    """Initial weights.

    Attributes:
        tensors: transferred tensors, by their names in the second training's model.
        left: names of the tensors that keep their initial values in the second training's model.
    """

    tensors: dict[str, Tensor]
    left: list[str]


def head_names(resolved: ResolvedRecipe, dims: Mapping[str, int], classes: int) -> set[str]:
    """The tensors of a recipe's model whose shape depends on the number of classes, and so on the labels."""
    shapes, wider = (
        {name: value.shape for name, value in resolved.build(dims, count).state_dict().items()}
        for count in (classes, classes + 1)
    )
    return {name for name, shape in shapes.items() if wider[name] != shape}


def fitting(source: MERCModel, target: MERCModel, heads: set[str]) -> Start:
    """The tensors of ``source`` that ``target`` has under the same name and with the same shape, without ``heads``.

    If only one of the two is wrapped by a framework, or each by a different one, the models inside are compared.
    """
    prefix = ""
    if type(source) is not type(target):
        source = source.model if isinstance(source, Framework) else source
        prefix = "model." if isinstance(target, Framework) else ""
    there = {f"{prefix}{name}": value for name, value in source.state_dict().items()}
    wanted = target.state_dict()
    tensors = {
        name: value
        for name, value in there.items()
        if name in wanted and name not in heads and wanted[name].shape == value.shape
    }
    return Start(tensors, [name for name in wanted if name not in tensors])
