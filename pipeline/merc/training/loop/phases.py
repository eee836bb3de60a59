"""Training a model branch by branch: a teacher, then students that follow it, then their fusion.

    recipes.<name>.phases      teacher: {trains: [text], losses: {…}}
                               students: {trains: [audio, visual], losses: {…}}
                               fusion: {trains: [fusion]}

A branch is that of a modality (:meth:`merc.training.models.engine.base.MERCModel.branch`) or the fusion, which is the
rest of the model. In a phase the losses see a branch as if it were a model: ``logits`` and ``hidden`` are the
modality's own, and of the other modalities only those trained in an earlier phase are visible. So any loss can be
applied to any branch, and one that needs something not trained yet, such as a distillation without its teacher, is an
error before anything is trained. The epoch is selected by the mean over the phase's branches of their weighted F1 on
dev; its weights are restored and frozen, in eval mode, in all later phases that do not train them again.

A recipe without phases has a single one, in which every weight is trained, and losses and scores use the output of the
whole model.

Each named phase has its own random state, so that its result is the same whether its predecessors are trained or read
from the disk.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from merc import files
from merc.compute.repeatable import repeatable
from merc.errors import BadSettings
from merc.training.data.batch import DialogueBatch
from merc.training.data.dataset import DialogueSplit
from merc.training.frameworks.base import Framework
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.models.engine.base import FUSION, MERCModel, MERCOutput
from merc.training.recipes.resolution import ResolvedPhase, ResolvedRecipe

_KEY = "phases"


class BranchView(Framework):
    """A model, trained and scored on one of its branches.

    Args:
        model: the whole model.
        named: a modality with a branch, whose own logits and representation replace the model's; or ``fusion``: those
            of the model.
        known: the modalities that ``unimodal``, ``unimodal_logits`` and ``pooled`` may contain.
    """

    def __init__(self, model: MERCModel, named: str, known: Sequence[str]) -> None:
        super().__init__(model.config, model)
        self.named = named
        self.known = tuple(known)
        self.gives = replace(model.gives, unimodal=self._known(model.gives.unimodal))
        if named != FUSION:
            self.gives = replace(self.gives, hidden=model.gives.unimodal[named], context=None)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        return self.of(self.model(batch))

    def of(self, output: MERCOutput) -> MERCOutput:
        """The branch's view of the model's output."""
        unimodal, unimodal_logits, pooled = (
            self._known(by_modality) for by_modality in (output.unimodal, output.unimodal_logits, output.pooled)
        )
        known = replace(output, unimodal=unimodal, unimodal_logits=unimodal_logits, pooled=pooled)
        if self.named == FUSION:
            return known
        own_logits, own = output.unimodal_logits[self.named], output.unimodal[self.named]
        return replace(known, logits=own_logits, hidden=own, bare=None, context=None)

    def _known(self, by_modality: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in by_modality.items() if name in self.known}


def views(model: MERCModel, phase: ResolvedPhase) -> list[BranchView]:
    """A phase's branches. Each sees itself and what was trained before; the fusion also what is trained with it."""
    return [
        BranchView(model, branch, (*phase.before, *(phase.trains if branch == FUSION else (branch,))))
        for branch in phase.scored
    ]


def losses_of(phase: ResolvedPhase, view: MERCModel, train: DialogueSplit, classes: Sequence[str]) -> list[MERCLoss]:
    """The phase's losses for the outputs of a model or a branch; the losses' own weights are initialised now."""
    facts = TrainingFacts(class_counts=train.class_counts(len(classes)), gives=view.gives, classes=classes, train=train)
    return [term.kind(term.config, facts) for term in phase.losses]


def check(resolved: ResolvedRecipe, train: DialogueSplit, classes: Sequence[str]) -> None:
    """Raises ``BadSettings`` if a named phase does not fit the model or what was trained before it; nothing is
    trained.
    """
    if resolved.recipe.phases is None:
        return
    with torch.random.fork_rng(devices=[]):
        model = resolved.build(train.dims, len(classes))
        for phase in resolved.phases:
            where = f"recipes.{resolved.name}.phases.{phase.name}"
            for branch in phase.trains:
                if branch != FUSION and not model.branch(branch):
                    raise BadSettings(
                        f"{where}: {resolved.recipe.model} names no weights that belong only to {branch}, so it cannot"
                        " be trained in phases"
                    )
            for view in views(model, phase):
                try:
                    losses_of(phase, view, train, classes)
                except BadSettings as error:
                    trained = f"{', '.join(phase.before)} trained before" if phase.before else "nothing trained before"
                    raise BadSettings(f"{where}: {view.named}, with {trained}: {error}") from error


def enter_training(model: MERCModel, branches: Sequence[str]) -> None:
    """Training mode and gradients for some branches, eval mode and no gradients for all others."""
    model.train(FUSION in branches).requires_grad_(FUSION in branches)
    for name in model.modalities:
        for module in model.branch(name):
            module.train(name in branches).requires_grad_(name in branches)


def seed_of(seed: int, phase: ResolvedPhase) -> int:
    """The seed of a phase's random numbers."""
    return int(np.random.SeedSequence((seed, phase.number)).generate_state(1)[0]) if phase.name else seed


@contextmanager
def randomness(seed: int, phase: ResolvedPhase, device: torch.device) -> Iterator[None]:
    """The random numbers of a phase: its own if it has a name, else those of the seed, continuing after the initial
    weights.
    """
    if phase.name:
        with repeatable(seed_of(seed, phase), device):
            yield
    else:
        yield


@dataclass
class Finished:
    """The results of a seed's finished phases, in addition to the weights.

    Attributes:
        selected: one for each phase: its ``phase``, ``epoch`` and ``dev_weighted_f1``, and how many ``epochs`` it ran.
        history: rows of all their epochs.
    """

    selected: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    def write(self, path: Path, model: MERCModel) -> None:
        """Stores weights and history, completely or not at all."""
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
        with files.replacing(path) as temporary:
            temporary.write_bytes(
                serialize(tensors, metadata={_KEY: json.dumps({"selected": self.selected, "history": self.history})})
            )

    @classmethod
    def read(cls, path: Path | None, model: MERCModel) -> "Finished":
        """The stored results, with the weights loaded into ``model``; empty if there is no such file."""
        if path is None or not path.is_file():
            return cls()
        with safe_open(path, framework="pt") as file:
            kept = cls(**json.loads(file.metadata()[_KEY]))
            weights: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping, has only keys()
        model.load_state_dict(weights)
        return kept
