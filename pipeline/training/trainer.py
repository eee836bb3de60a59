"""The training loop of one seed: step, score dev, keep the best epoch, stop early, score test once with the best weights.

Selection sees the dev split alone. The test split is scored after every epoch as well, for one figure that is named for
what it is: the best test epoch. Papers that select on test report that one; it is recorded beside ours and decides nothing.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.extraction.repeatable import repeatable
from pipeline.log import progress
from pipeline.training.batch import DialogueBatch
from pipeline.training.collate import evaluation_batches, neighbour_batches, shuffled_batches
from pipeline.training.dataset import DialogueSplit
from pipeline.training.ledger import Ledger, check_weights
from pipeline.training.losses.base import MERCLoss, TrainingFacts
from pipeline.training.metrics.accuracy import accuracy
from pipeline.training.metrics.macro_f1 import macro_f1
from pipeline.training.metrics.weighted_f1 import weighted_f1
from pipeline.training.models.base import MERCModel
from pipeline.training.precision import Precision
from pipeline.training.recipe import Plan

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingData:
    """The three splits, standardised and on the device of the training."""

    train: DialogueSplit
    dev: DialogueSplit
    test: DialogueSplit
    classes: tuple[str, ...]

    def to(self, device: torch.device) -> "TrainingData":
        """The data with all tensors on ``device``."""
        return TrainingData(train=self.train.to(device), dev=self.dev.to(device), test=self.test.to(device), classes=self.classes)

    @property
    def dims(self) -> dict[str, int]:
        return self.train.dims

    @property
    def class_counts(self) -> Tensor:
        """[C] float32 on the CPU, labelled train utterances per class."""
        return self.train.class_counts(len(self.classes))


@dataclass
class Trained:
    """What one seed gives.

    Attributes:
        seed: the seed.
        model: with the weights of the selected epoch.
        epoch: the selected one, from 1.
        dev, test: ``weighted_f1``, ``accuracy``, ``macro_f1`` at that epoch.
        probabilities: split → float32 [N, C], in the split's order.
        best_test: epoch and weighted F1 of the best test epoch; for comparison only, it decided nothing.
        history: one row per epoch.
    """

    seed: int
    model: MERCModel
    epoch: int
    dev: dict[str, float]
    test: dict[str, float]
    probabilities: dict[str, NDArray[np.float32]]
    best_test: dict[str, float | int]
    history: list[dict[str, float | int]] = field(default_factory=list)


def train_seed(plan: Plan, data: TrainingData, seed: int, device: torch.device, start: Mapping[str, Tensor] | None = None, line: int = 0) -> Trained:
    """Trains one seed of a recipe.

    Args:
        plan: the resolved recipe.
        data: on ``device``.
        seed: decides initial weights, dropout and the order of dialogues.
        device: where the model is trained.
        start: initial weights by name, in place of the model's own (:mod:`pipeline.training.pretraining`).
        line: of the progress bar.

    Raises:
        LossNotFinite: naming the dialogues of the batch.
    """
    with repeatable(seed, device):
        return _Selection(plan, data, seed, device, start).run(line)


def pretrain_seed(plan: Plan, train: DialogueSplit, classes: int, seed: int, device: torch.device, line: int = 0) -> MERCModel:
    """Trains for the recipe's number of epochs on one split, looks at no other, and gives the model with the last weights.

    Args:
        plan: the resolved recipe of the pre-training.
        train: on ``device``.
        classes: of its label set.
        seed: as of :func:`train_seed`.
        device: where the model is trained.
        line: of the progress bar.

    Raises:
        LossNotFinite: naming the dialogues of the batch.
    """
    with repeatable(seed, device), progress(plan.recipe.epochs, f"pre-training, seed {seed}", "epoch", line) as bar:
        training = _Training(plan, train, classes, seed, device)
        for epoch in range(1, plan.recipe.epochs + 1):
            bar.set_postfix(loss=f"{training.epoch(epoch)['train_loss']:.4f}")
            bar.update()
        check_weights(training.model, f"pre-training {plan.name}, seed {seed}, last epoch")
        return training.model


class _Training:
    """Model, losses and optimiser of one seed, which train epoch after epoch on one split."""

    def __init__(self, plan: Plan, train: DialogueSplit, classes: int, seed: int, device: torch.device, start: Mapping[str, Tensor] | None = None) -> None:
        self.plan, self.recipe, self.train, self.seed = plan, plan.recipe, train, seed
        self.model = plan.build(train.dims, classes).to(device)
        if start:
            self.model.load_state_dict({**self.model.state_dict(), **start})
        facts = TrainingFacts(
            class_counts=train.class_counts(classes),
            hidden_dim=self.model.hidden_dim,
            unimodal_dims=self.model.unimodal_dims,
            context_dim=self.model.context_dim,
            train=train,
        )
        self.losses: list[MERCLoss] = [term.kind(term.config, facts).to(device) for term in plan.losses]
        self.weights_L = torch.tensor([term.weight for term in plan.losses], device=device)
        self.parameters = [*self.model.parameters(), *(weight for loss in self.losses for weight in loss.parameters())]
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.recipe.optimizer.name]
        rate, decay = self.recipe.optimizer.learning_rate, self.recipe.optimizer.weight_decay
        self.optimizer = kind(self.parameters, lr=rate, weight_decay=decay, fused=True)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._learning_rate_factor)
        self.precision = Precision(self.recipe.precision, device)
        self.batch_dialogues = max(1, min(self.recipe.batch_dialogues, len(train.dialogue_ids) // self.recipe.min_steps_per_epoch))
        self.generator = torch.Generator().manual_seed(seed)

    def _learning_rate_factor(self, epoch: int) -> float:
        done = epoch / self.recipe.epochs
        return {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[self.recipe.schedule]

    def _batches(self) -> Iterator[DialogueBatch]:
        wanted = self.recipe.neighbours
        if wanted is None or not wanted.per_dialogue:
            return shuffled_batches(self.train, self.batch_dialogues, self.generator)
        return neighbour_batches(self.train, self.batch_dialogues, wanted.per_dialogue, self.generator)

    def epoch(self, epoch: int) -> dict[str, float | int]:
        """Trains on every dialogue once; ``epoch`` counts from 1. Gives the learning rate and the means of the losses."""
        learning_rate = self.optimizer.param_groups[0]["lr"]
        for loss in self.losses:
            loss.begin_epoch(epoch - 1, self.model, self.generator)
        self.model.train()
        ledger = Ledger([term.name for term in self.plan.losses], [term.weight for term in self.plan.losses])
        for batch in self._batches():
            ledger.note(self.step(batch, epoch), batch)
        self.scheduler.step()
        return {"seed": self.seed, "epoch": epoch, "learning_rate": learning_rate, **ledger.close(f"seed {self.seed}, epoch {epoch}")}

    def step(self, batch: DialogueBatch, epoch: int) -> Tensor:
        """One update of the weights; gives the terms of the loss, [L] on the device. Nothing in it waits for a GPU."""
        self.optimizer.zero_grad(set_to_none=True)
        output = self.precision.forward(self.model, batch)
        terms_L = torch.stack([loss(output, batch, epoch=epoch - 1, generator=self.generator) for loss in self.losses])
        self.precision.step((self.weights_L * terms_L).sum(), self.optimizer, self.parameters, self.recipe.gradient_clip)
        return terms_L.detach()


class _Selection:
    """Scores dev after every epoch, keeps the weights of the epoch to be selected, and scores test with them."""

    def __init__(self, plan: Plan, data: TrainingData, seed: int, device: torch.device, start: Mapping[str, Tensor] | None) -> None:
        self.plan, self.recipe, self.data, self.seed = plan, plan.recipe, data, seed
        self.training = _Training(plan, data.train, len(data.classes), seed, device, start)
        self.model = self.training.model
        self.labels = {split.name: split.labels_cpu[:-1].numpy() for split in (data.dev, data.test)}

    def run(self, line: int) -> Trained:
        """Trains, and shows progress on a line of the terminal."""
        history: list[dict[str, float | int]] = []
        best: dict[str, float | int] = {}
        weights: dict[str, Tensor] = {}
        with progress(self.recipe.epochs, f"seed {self.seed}", "epoch", line) as bar:
            for epoch in range(1, self.recipe.epochs + 1):
                row = self._scored(self.training.epoch(epoch))
                history.append(row)
                if not best or self.recipe.selection == "last" or row["dev_weighted_f1"] > best["dev_weighted_f1"]:
                    best, weights = row, {name: value.detach().clone() for name, value in self.model.state_dict().items()}
                bar.set_postfix({name: f"{value:.4f}" for name, value in row.items() if name.startswith(("loss_", "dev_weighted"))})
                bar.update()
                if epoch - best["epoch"] >= self.recipe.patience_epochs:
                    break
        self.model.load_state_dict(weights)
        check_weights(self.model, f"seed {self.seed}, epoch {best['epoch']}")
        return self._selected(int(best["epoch"]), history)

    def _scored(self, row: dict[str, float | int]) -> dict[str, float | int]:
        dev = scores(self.labels["dev"], predict(self.model, self.data.dev), len(self.data.classes))
        test = scores(self.labels["test"], predict(self.model, self.data.test), len(self.data.classes))
        return {**row, "dev_weighted_f1": dev["weighted_f1"], "dev_accuracy": dev["accuracy"], "test_weighted_f1_not_used": test["weighted_f1"]}

    def _selected(self, epoch: int, history: list[dict[str, float | int]]) -> Trained:
        logits = {split.name: predict(self.model, split) for split in (self.data.dev, self.data.test)}
        found = {name: scores(self.labels[name], logits_NC, len(self.data.classes)) for name, logits_NC in logits.items()}
        best_test = max(history, key=lambda row: row["test_weighted_f1_not_used"])  # the earliest, of equal ones
        return Trained(
            seed=self.seed,
            model=self.model,
            epoch=epoch,
            dev=found["dev"],
            test=found["test"],
            probabilities={name: logits_NC.softmax(dim=1).numpy() for name, logits_NC in logits.items()},
            best_test={"epoch": best_test["epoch"], "weighted_f1": best_test["test_weighted_f1_not_used"]},
            history=history,
        )


@torch.inference_mode()
def predict(model: MERCModel, split: DialogueSplit) -> Tensor:
    """Logits of all utterances of a split, float32 [N, C] on the CPU, in the split's order."""
    model.eval()
    logits_NC = torch.empty(split.utterances, model.classes, device=split.labels.device)
    for batch in evaluation_batches(split):
        real_N = batch.real_positions
        logits_NC[batch.utterance_index.flatten()[real_N]] = model(batch).logits.flatten(0, 1)[real_N].float()
    return logits_NC.cpu()


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
    return {"weighted_f1": weighted_f1(true, guess, classes), "accuracy": accuracy(true, guess), "macro_f1": macro_f1(true, guess, classes)}
