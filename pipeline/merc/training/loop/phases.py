"""Training a model part by part: a teacher, then students that follow it, then what fuses them.

    recipes.<name>.stages      - {name: teacher, trains: [text], losses: […]}
                               - {name: students, trains: [audio, visual], losses: […]}
                               - {name: fusion, trains: [fusion]}

A part is a modality's branch (:meth:`merc.training.models.engine.base.MERCModel.branch`) or the fusion, all the rest. In a stage the losses see a part as if it
were a model: ``logits`` and ``hidden`` are the modality's own, and of the other modalities there are those that an earlier stage trained. So any loss can be
put on any part, and one that needs what is not trained yet, as a distillation without its teacher, is an error before anything is trained. The epoch is
selected by the mean over the stage's parts of their weighted F1 on dev; its weights are restored and stay as they are, in eval mode, in all later stages that
do not train them again.

Each stage begins with random numbers of its own, so that one whose predecessors are read from the disk gives what it would have given after them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from merc import files
from merc.errors import BadSettings
from merc.training.data.batch import DialogueBatch
from merc.training.data.dataset import DialogueSplit
from merc.training.frameworks.base import Framework
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.models.engine.base import FUSION, MERCModel, MERCOutput
from merc.training.recipes.composition import RECIPES
from merc.training.recipes.resolution import Plan, StagePlan

_KEY = "stages"


class PartView(Framework):
    """A model as it is trained and scored in one of its parts.

    Args:
        model: the whole of it.
        part: a modality with a branch, whose own logits and representation stand in the places of the model's; or ``fusion``: the model's.
        known: the modalities that ``unimodal``, ``unimodal_logits`` and ``pooled`` may speak of.
    """

    def __init__(self, model: MERCModel, part: str, known: Sequence[str]) -> None:
        super().__init__(model.config, model)
        self.part = part
        self.known = tuple(known)
        self.unimodal_dims = self._known(model.unimodal_dims)
        if part != FUSION:
            self.hidden_dim = model.unimodal_dims[part]
            self.context_dim = None

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        return self.of(self.model(batch))

    def of(self, output: MERCOutput) -> MERCOutput:
        """What the part makes of what the model makes."""
        unimodal, unimodal_logits, pooled = (self._known(by_modality) for by_modality in (output.unimodal, output.unimodal_logits, output.pooled))
        known = replace(output, unimodal=unimodal, unimodal_logits=unimodal_logits, pooled=pooled)
        if self.part == FUSION:
            return known
        return replace(known, logits=output.unimodal_logits[self.part], hidden=output.unimodal[self.part], context=None, aux={})

    def _known(self, by_modality: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in by_modality.items() if name in self.known}


def whole(model: MERCModel) -> list[PartView]:
    """The one view of a model that is trained at once."""
    return [PartView(model, FUSION, model.modalities)]


def views(model: MERCModel, stage: StagePlan) -> list[PartView]:
    """A stage's parts. Each sees itself and what was trained before; the fusion what is trained with it as well."""
    return [PartView(model, part, (*stage.before, *(stage.trains if part == FUSION else (part,)))) for part in stage.trains]


def losses_of(plan: Plan, view: MERCModel, train: DialogueSplit, classes: Sequence[str]) -> list[MERCLoss]:
    """The plan's losses for what a model, or a part of it, gives; weights of their own are drawn now."""
    facts = TrainingFacts(
        class_counts=train.class_counts(len(classes)),
        hidden_dim=view.hidden_dim,
        unimodal_dims=view.unimodal_dims,
        context_dim=view.context_dim,
        aligned_dim=view.aligned_dim,
        disentangles=view.disentangles,
        classes=classes,
        train=train,
    )
    return [term.kind(term.config, facts) for term in plan.losses]


def check(plan: Plan, train: DialogueSplit, classes: Sequence[str]) -> None:
    """Raises ``BadSettings`` if a stage does not fit the model or what was trained before it; nothing is trained."""
    if not plan.stages:
        return
    with torch.random.fork_rng(devices=[]):
        model = plan.build(train.dims, len(classes))
        for stage in plan.stages:
            where = f"{RECIPES}.{plan.name}.stages.{stage.name}"
            for part in stage.trains:
                if part != FUSION and not model.branch(part):
                    raise BadSettings(f"{where}: {plan.recipe.model} names no weights that are those of {part} alone, so it cannot be trained in stages")
            for view in views(model, stage):
                try:
                    losses_of(stage.plan, view, train, classes)
                except BadSettings as error:
                    trained = f"{', '.join(stage.before)} trained before" if stage.before else "nothing trained before"
                    raise BadSettings(f"{where}: {view.part}, with {trained}: {error}") from error


def enter_training(model: MERCModel, parts: Sequence[str]) -> None:
    """Training mode and gradients for some parts, eval mode and no gradients for all others."""
    model.train(FUSION in parts).requires_grad_(FUSION in parts)
    for name in model.modalities:
        for module in model.branch(name):
            module.train(name in parts).requires_grad_(name in parts)


def seed_of(seed: int, stage: StagePlan) -> int:
    """What a stage of a seed draws its random numbers with."""
    return int(np.random.SeedSequence((seed, stage.number)).generate_state(1)[0])


@dataclass
class Finished:
    """What the finished stages of a seed gave, beside the weights.

    Attributes:
        selected: one for each stage: its ``stage``, ``epoch`` and ``dev_weighted_f1``, and how many ``epochs`` it ran.
        history: rows of all their epochs.
    """

    selected: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    def write(self, path: Path, model: MERCModel) -> None:
        """Keeps weights and history, whole or not at all."""
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
        with files.replacing(path) as temporary:
            temporary.write_bytes(serialize(tensors, metadata={_KEY: json.dumps({"selected": self.selected, "history": self.history})}))

    @classmethod
    def read(cls, path: Path | None, model: MERCModel) -> "Finished":
        """What was kept, with the weights put into ``model``; nothing, if there is no such file."""
        if path is None or not path.is_file():
            return cls()
        with safe_open(path, framework="pt") as file:
            kept = cls(**json.loads(file.metadata()[_KEY]))
            weights: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping, has only keys()
        model.load_state_dict(weights)
        return kept
