"""The training loop of one seed: step, score dev, keep the best epoch, stop early, score test once with the best
weights.

A recipe with phases goes through the loop once for each (:mod:`merc.training.loop.phases`).
Selection uses only the dev split. The test split is scored after every epoch as well, for one number labelled as what
it is: the best test epoch. Papers that select on test report that one; it is recorded next to ours and decides nothing.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import dropout

from merc.compute.memory import keep_freed_blocks
from merc.compute.repeatable import repeatable
from merc.log import progress
from merc.timing import Stopwatch
from merc.training.data.batch import DialogueBatch
from merc.training.data.collate import evaluation_batches, neighbour_batches, shuffled_batches
from merc.training.data.curriculum import Lessons
from merc.training.data.dataset import DialogueSplit
from merc.training.data.splits import TrainingData
from merc.training.loop.ledger import Ledger, check_weights
from merc.training.loop.phases import Finished, enter_training, losses_of, randomness, seed_of, views
from merc.training.loop.precision import Precision
from merc.training.metrics.accuracy import accuracy
from merc.training.metrics.macro_f1 import macro_f1
from merc.training.metrics.weighted_f1 import weighted_f1
from merc.training.models.engine.base import MERCModel, MERCOutput
from merc.training.recipes.resolution import ResolvedPhase, ResolvedRecipe

Labels = NDArray[np.int64]
Row = dict[str, Any]
"""An epoch: seed, phase if the recipe names phases, epoch, learning rate, losses, scores."""


@dataclass
class Trained:
    """The result of one seed.

    Attributes:
        seed: the seed.
        model: with the weights of the selected epoch.
        epoch: the selected one, from 1; of the last phase.
        dev, test: ``weighted_f1``, ``accuracy``, ``macro_f1`` at that epoch.
        probabilities: split → float32 [N, C], in the split's order.
        best_test: epoch and weighted F1 of the best test epoch, of the last phase; for comparison only, it decided
            nothing.
        history: one row per epoch.
        phases: the selected epoch of each phase; empty if the recipe names none.
        watch: times of the epochs trained now, without those of kept phases.
    """

    seed: int
    model: MERCModel
    epoch: int
    dev: dict[str, float]
    test: dict[str, float]
    probabilities: dict[str, NDArray[np.float32]]
    best_test: dict[str, float | int]
    history: list[Row] = field(default_factory=list)
    phases: list[Row] = field(default_factory=list)
    watch: Stopwatch = field(default_factory=Stopwatch)


def train_seed(
    resolved: ResolvedRecipe,
    data: TrainingData,
    seed: int,
    device: torch.device,
    start: Mapping[str, Tensor] | None = None,
    line: int = 0,
    kept: Path | None = None,
    tell: Callable[[Row], None] = lambda row: None,
) -> Trained:
    """Trains one seed of a recipe.

    Args:
        resolved: the resolved recipe.
        data: data on ``device``. seed: determines initial weights, dropout and the order of dialogues. device: device
            of the training.
        start: initial weights by name, instead of the model's own (:mod:`merc.training.loop.pretraining`).
        line: of the progress bar.
        kept: where finished phases are kept until the seed is done; existing ones are not retrained.
        tell: called with every new row of the history (:mod:`merc.training.following`), starting with those of kept
            phases.

    Raises:
        LossNotFinite: the message names the dialogues of the batch.
    """
    keep_freed_blocks()
    with repeatable(seed, device):
        model = _built(resolved, data.train, len(data.classes), device, start)
        done, watch = Finished.read(kept, model), Stopwatch()
        for row in done.history:
            tell(row)
        for phase in resolved.phases[len(done.selected) :]:
            with randomness(seed, phase, device):
                best, history = _Selection(_Training(phase, model, data.train, data.classes, seed, device), data).run(
                    line, tell, watch
                )
            done.selected.append(best)
            done.history += history
            if kept is not None and len(resolved.phases) > 1:
                done.write(kept, model)
        model.requires_grad_(True)
        last = [row for row in done.history if row.get("phase", "") == resolved.phases[-1].name]
        selected = done.selected if resolved.recipe.phases is not None else []
        return replace(
            _trained(model, data, done.selected[-1], last), history=done.history, phases=selected, watch=watch
        )


def pretrain_seed(
    resolved: ResolvedRecipe,
    train: DialogueSplit,
    classes: Sequence[str],
    seed: int,
    device: torch.device,
    line: int = 0,
) -> tuple[MERCModel, list[Row]]:
    """Trains for the recipe's number of epochs on one split, using no other; returns the model with the last weights,
    and a row for every epoch.

    Args:
        resolved: the resolved recipe of the pre-training.
        train: the split, on ``device``.
        classes: their names, in the order of the labels.
        seed: as for :func:`train_seed`. device: device of the training.
        line: of the progress bar.

    Raises:
        LossNotFinite: the message names the dialogues of the batch.
    """
    epochs = resolved.recipe.epochs
    keep_freed_blocks()
    with repeatable(seed, device), progress(epochs, f"pre-training, seed {seed}", "epoch", line) as bar:
        model = _built(resolved, train, len(classes), device)
        training = _Training(resolved.phases[0], model, train, classes, seed, device)
        history = []
        for epoch in range(1, epochs + 1):
            history.append(training.epoch(epoch))
            bar.set_postfix(loss=f"{history[-1]['train_loss']:.4f}")
            bar.update()
        check_weights(model, f"pre-training {resolved.name}, seed {seed}, last epoch")
        return model, history


def _built(
    resolved: ResolvedRecipe,
    train: DialogueSplit,
    classes: int,
    device: torch.device,
    start: Mapping[str, Tensor] | None = None,
) -> MERCModel:
    model = resolved.build(train.dims, classes).to(device)
    if start:
        model.load_state_dict({**model.state_dict(), **start})
    return model


class _Training:
    """Losses and optimiser of one phase of a seed, which train a model epoch after epoch on one split."""

    def __init__(
        self,
        phase: ResolvedPhase,
        model: MERCModel,
        train: DialogueSplit,
        classes: Sequence[str],
        seed: int,
        device: torch.device,
    ) -> None:
        self.phase, self.recipe, self.model, self.train, self.seed = phase, phase.recipe, model, train, seed
        self.views = views(model, phase)
        enter_training(model, phase.trains)
        self.losses = [[loss.to(device) for loss in losses_of(phase, view, train, classes)] for view in self.views]
        every_loss = [loss for losses in self.losses for loss in losses]
        self.model.pool(any(loss.needs_pooled for loss in every_loss))
        self.weights_L = torch.tensor([term.weight for term in phase.losses], device=device)
        self.parameters = [
            weight for module in (self.model, *every_loss) for weight in module.parameters() if weight.requires_grad
        ]
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.recipe.optimizer.name]
        wanted = self.recipe.optimizer
        self.optimizer = kind(
            self.parameters,
            lr=wanted.learning_rate,
            weight_decay=wanted.weight_decay,
            betas=wanted.betas,
            eps=wanted.epsilon,
            fused=True,
        )
        self.precision = Precision(self.recipe.precision, device)
        self.batch_dialogues = max(
            1, min(self.recipe.batch_dialogues, len(train.dialogue_ids) // self.recipe.min_steps_per_epoch)
        )
        self.epochs_done = self.steps_done = 0
        self.generator = torch.Generator().manual_seed(seed_of(seed, phase))
        curriculum = self.recipe.curriculum
        self.lessons = None if curriculum is None else Lessons.of(train, curriculum, classes)

    @property
    def name(self) -> str:
        """Description for messages and the progress bar."""
        return ", ".join([f"seed {self.seed}", *self.phase.columns.values()])

    @property
    def whole_from(self) -> int:
        """The first epoch that trains on every dialogue."""
        return 1 if self.lessons is None else self.lessons.buckets

    def _learning_rate(self) -> float:
        """Learning rate of the next step."""
        done = self.epochs_done / self.recipe.epochs
        scheduled = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[
            self.recipe.schedule
        ]
        warm = min(1.0, (self.steps_done + 1) / max(1, self.recipe.warmup_steps))
        return self.recipe.optimizer.learning_rate * scheduled * warm

    def _batches(self, epoch: int) -> Iterator[DialogueBatch]:
        if self.lessons is not None:
            return shuffled_batches(self.train, self.batch_dialogues, self.generator, self.lessons.places(epoch))
        wanted = self.recipe.neighbours
        if wanted is None or not wanted.per_dialogue:
            return shuffled_batches(self.train, self.batch_dialogues, self.generator)
        return neighbour_batches(self.train, self.batch_dialogues, wanted.per_dialogue, self.generator)

    def epoch(self, epoch: int) -> Row:
        """Trains on every dialogue once, or on those that a curriculum has so far; ``epoch`` counts from 1.

        Returns the first learning rate and the means of the losses.
        """
        learning_rate = self._learning_rate()
        for view, losses in zip(self.views, self.losses, strict=True):
            for loss in losses:
                loss.begin_epoch(epoch - 1, view, self.generator)
        enter_training(self.model, self.phase.trains)
        ledger = Ledger([term.name for term in self.phase.losses], [term.weight for term in self.phase.losses])
        for batch in self._batches(epoch):
            ledger.note(self.step(batch, epoch), batch)
        self.epochs_done += 1
        return {
            "seed": self.seed,
            **self.phase.columns,
            "epoch": epoch,
            "learning_rate": learning_rate,
            **ledger.close(f"{self.name}, epoch {epoch}"),
            **self._observed(),
        }

    def _observed(self) -> Row:
        """What the losses observed in the epoch, averaged over the branches in training."""
        seen: dict[str, list[float]] = {}
        for losses in self.losses:
            for term, loss in zip(self.phase.losses, losses, strict=True):
                for name, value in loss.observed().items():
                    seen.setdefault(f"{term.name}_{name}", []).extend([] if value is None else [value])
        return {name: fmean(values) if values else None for name, values in seen.items()}

    def _with_values_dropped(self, batch: DialogueBatch) -> DialogueBatch:
        shares = {
            name: share for name, share in self.recipe.feature_dropout.items() if share and name in batch.features
        }
        if not shares:
            return batch
        return replace(
            batch,
            features={
                **batch.features,
                **{name: dropout(batch.features[name], share) for name, share in shares.items()},
            },
        )

    def step(self, batch: DialogueBatch, epoch: int) -> Tensor:
        """One update of the weights; returns the terms of the loss, summed over the branches in training, [L] on the
        device. Nothing in it waits for a GPU.
        """
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.param_groups[0]["lr"] = self._learning_rate()
        output = self.precision.forward(self.model, self._with_values_dropped(batch))
        given = zip((view.of(output) for view in self.views), self.losses, strict=True)
        state = {"epoch": epoch - 1, "generator": self.generator}
        terms_L = torch.stack(
            [torch.stack([loss(of_branch, batch, **state) for loss in losses]) for of_branch, losses in given]
        ).sum(dim=0)
        self.precision.step(
            (self.weights_L * terms_L).sum(), self.optimizer, self.parameters, self.recipe.gradient_clip
        )
        self.steps_done += 1
        return terms_L.detach()


class _Selection:
    """Scores dev after every epoch, and keeps the weights of the epoch to be selected."""

    def __init__(self, training: _Training, data: TrainingData) -> None:
        self.training, self.model, self.recipe, self.data = training, training.model, training.recipe, data

    def run(self, line: int, tell: Callable[[Row], None], watch: Stopwatch) -> tuple[Row, list[Row]]:
        """Trains with a progress line on the terminal, reporting and timing each epoch; returns the selected epoch,
        whose weights the model has afterwards, and all rows.
        """
        history: list[Row] = []
        best: Row = {}
        weights: dict[str, Tensor] = {}
        with progress(self.recipe.epochs, self.training.name, "epoch", line) as bar:
            for epoch in range(1, self.recipe.epochs + 1):
                with watch.lap():
                    row = self._with_scores(self.training.epoch(epoch))
                history.append(row)
                tell(row)
                if not best or self.recipe.selection == "last" or row["dev_weighted_f1"] > best["dev_weighted_f1"]:
                    best, weights = (
                        row,
                        {name: value.detach().clone() for name, value in self.model.state_dict().items()},
                    )
                bar.set_postfix(
                    {name: f"{value:.4f}" for name, value in row.items() if name.startswith(("loss_", "dev_weighted"))}
                )
                bar.update()
                if epoch - max(best["epoch"], self.training.whole_from) >= self.recipe.patience_epochs:
                    break
        self.model.load_state_dict(weights)
        check_weights(self.model, f"{self.training.name}, epoch {best['epoch']}")
        return best, history

    def _with_scores(self, row: Row) -> Row:
        dev, test = self._scores(self.data.dev), self._scores(self.data.test)
        return {
            **row,
            "dev_weighted_f1": dev["weighted_f1"],
            "dev_accuracy": dev["accuracy"],
            "test_weighted_f1_not_used": test["weighted_f1"],
        }

    def _scores(self, split: DialogueSplit) -> dict[str, float]:
        """The mean over the branches in training; without phases there is only one."""
        each = [_scored(split, predict(view, split)) for view in self.training.views]
        return {name: fmean(one[name] for one in each) for name in each[0]}


def _trained(model: MERCModel, data: TrainingData, best: Row, history: list[Row]) -> Trained:
    """The scores of a model with the weights of the selected epoch."""
    logits = {split.name: predict(model, split) for split in (data.dev, data.test)}
    best_test = max(history, key=lambda row: row["test_weighted_f1_not_used"])  # the earliest in case of ties
    return Trained(
        seed=best["seed"],
        model=model,
        epoch=best["epoch"],
        dev=_scored(data.dev, logits["dev"]),
        test=_scored(data.test, logits["test"]),
        probabilities={name: logits_NC.softmax(dim=1).numpy() for name, logits_NC in logits.items()},
        best_test={"epoch": best_test["epoch"], "weighted_f1": best_test["test_weighted_f1_not_used"]},
        history=history,
    )


def _scored(split: DialogueSplit, logits_NC: Tensor) -> dict[str, float]:
    return scores(split.labels_cpu[:-1].numpy(), logits_NC, logits_NC.shape[1])


def predict(model: MERCModel, split: DialogueSplit) -> Tensor:
    """Logits of all utterances of a split, float32 [N, C] on the CPU, in the split's order."""
    return outputs(model, split, lambda output: {"logits": output.logits})["logits"]


@torch.inference_mode()
def outputs(
    model: MERCModel, split: DialogueSplit, of: Callable[[MERCOutput], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """A model's output for all utterances of a split, without dropout.

    Args:
        model: put into eval mode.
        split: N utterances.
        of: selects tensors of a batch's output: name → [B, T, d].

    Returns:
        name → float32 [N, d] on the CPU, in the split's order.
    """
    model.eval()
    found: dict[str, Tensor] = {}
    for batch in evaluation_batches(split):
        real_N = batch.real_positions
        rows_N = batch.utterance_index.flatten()[real_N]
        for name, values_BTD in of(model(batch)).items():
            if name not in found:
                found[name] = torch.empty(split.utterances, values_BTD.shape[2], device=split.labels.device)
            found[name][rows_N] = values_BTD.flatten(0, 1)[real_N].float()
    return {name: values_ND.cpu() for name, values_ND in found.items()}


def scores(labels: Labels, logits_NC: Tensor, classes: int) -> dict[str, float]:
    """``weighted_f1``, ``accuracy`` and ``macro_f1`` over the labelled utterances of a whole split.

    Args:
        labels: [N], -1 = unlabelled.
        logits_NC: scores of all N utterances.
        classes: number of classes.
    """
    labelled = labels >= 0
    predicted: Any = logits_NC.argmax(dim=1).numpy()
    true, guess = labels[labelled], predicted[labelled]
    return {
        "weighted_f1": weighted_f1(true, guess, classes),
        "accuracy": accuracy(true, guess),
        "macro_f1": macro_f1(true, guess, classes),
    }
