"""The training loop of one seed: step, score dev, keep the best epoch, stop early, score test once with the best weights.

Selection sees the dev split alone. The test split is scored after every epoch as well, for one figure that is named for
what it is: the best test epoch. Papers that select on test report that one; it is recorded beside ours and decides nothing.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.log import logger, progress
from pipeline.training.batch import DialogueBatch
from pipeline.training.collate import evaluation_batches, shuffled_batches
from pipeline.training.dataset import DialogueSplit
from pipeline.training.losses.base import MERCLoss, TrainingFacts
from pipeline.training.metrics.accuracy import accuracy
from pipeline.training.metrics.macro_f1 import macro_f1
from pipeline.training.metrics.weighted_f1 import weighted_f1
from pipeline.training.models.base import MERCModel
from pipeline.training.recipe import Plan

Labels = NDArray[np.int64]


class LossNotFinite(PipelineError):
    """The loss became infinite or not a number; the message names the batch and each term."""


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
        return {name: values_ND.shape[1] for name, values_ND in self.train.features.items()}

    @property
    def class_counts(self) -> Tensor:
        """[C] float32 on the CPU, labelled train utterances per class."""
        labels = self.train.labels[:-1].cpu()
        return torch.bincount(labels[labels >= 0], minlength=len(self.classes)).float()


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


@contextmanager
def repeatable(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, equal work gives equal numbers: seeded, deterministic algorithms, one CPU thread.

    One thread, because sums are cut differently for each number of them, and because the tensors are small: measured on two
    cores, a second thread gains nothing on an idle machine and makes an epoch 30 times slower when another process keeps a core
    busy. Everything is put back at the end.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it; read when CUDA starts
    threads, deterministic, warn_only = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.set_num_threads(threads)


def train_seed(plan: Plan, data: TrainingData, seed: int, device: torch.device) -> Trained:
    """Trains one seed of a recipe.

    Args:
        plan: the resolved recipe.
        data: on ``device``.
        seed: decides initial weights, dropout and the order of dialogues.
        device: where the model is trained.

    Raises:
        LossNotFinite: naming the dialogues of the batch.
    """
    with repeatable(seed, device):
        return _Training(plan, data, seed, device).run()


class _Training:
    def __init__(self, plan: Plan, data: TrainingData, seed: int, device: torch.device) -> None:
        self.plan, self.recipe, self.data, self.seed = plan, plan.recipe, data, seed
        self.model = plan.build(data.dims, len(data.classes)).to(device)
        facts = TrainingFacts(
            class_counts=data.class_counts,
            hidden_dim=self.model.hidden_dim,
            unimodal_dims=self.model.unimodal_dims,
            context_dim=self.model.context_dim,
            train=data.train,
        )
        self.losses: list[MERCLoss] = [term.kind(term.config, facts).to(device) for term in plan.losses]
        self.parameters = [*self.model.parameters(), *(weight for loss in self.losses for weight in loss.parameters())]
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.recipe.optimizer.name]
        self.optimizer = kind(self.parameters, lr=self.recipe.optimizer.learning_rate, weight_decay=self.recipe.optimizer.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._learning_rate_factor)
        dialogues = len(data.train.dialogue_ids)
        self.batch_dialogues = max(1, min(self.recipe.batch_dialogues, dialogues // self.recipe.min_steps_per_epoch))
        self.generator = torch.Generator().manual_seed(seed)
        self.labels = {split.name: split.labels[:-1].cpu().numpy() for split in (data.dev, data.test)}

    def _learning_rate_factor(self, epoch: int) -> float:
        done = epoch / self.recipe.epochs
        return {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[self.recipe.schedule]

    def run(self) -> Trained:
        history: list[dict[str, float | int]] = []
        best: dict[str, float | int] = {}
        weights: dict[str, Tensor] = {}
        with progress(self.recipe.epochs, f"seed {self.seed}", "epoch") as bar:
            for epoch in range(1, self.recipe.epochs + 1):
                row = self._epoch(epoch)
                history.append(row)
                if not best or row["dev_weighted_f1"] > best["dev_weighted_f1"]:
                    best, weights = row, {name: value.detach().clone() for name, value in self.model.state_dict().items()}
                bar.update()
                if epoch - best["epoch"] >= self.recipe.patience_epochs:
                    break
        self.model.load_state_dict(weights)
        return self._selected(int(best["epoch"]), history)

    def _epoch(self, epoch: int) -> dict[str, float | int]:
        learning_rate = self.optimizer.param_groups[0]["lr"]
        for loss in self.losses:
            loss.begin_epoch(epoch - 1, self.model, self.generator)
        self.model.train()
        summed, seen = 0.0, 0
        for batch in shuffled_batches(self.data.train, self.batch_dialogues, self.generator):
            labelled = int(batch.labelled.sum())
            summed += self._step(batch, epoch) * labelled
            seen += labelled
        self.scheduler.step()
        dev = scores(self.labels["dev"], predict(self.model, self.data.dev), len(self.data.classes))
        test = scores(self.labels["test"], predict(self.model, self.data.test), len(self.data.classes))
        return {
            "seed": self.seed,
            "epoch": epoch,
            "learning_rate": learning_rate,
            "train_loss": summed / seen,
            "dev_weighted_f1": dev["weighted_f1"],
            "dev_accuracy": dev["accuracy"],
            "test_weighted_f1_not_used": test["weighted_f1"],
        }

    def _step(self, batch: DialogueBatch, epoch: int) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        output = self.model(batch)
        terms = [loss(output, batch, epoch=epoch - 1, generator=self.generator) for loss in self.losses]
        total = torch.stack([plan.weight * term for plan, term in zip(self.plan.losses, terms, strict=True)]).sum()
        value = float(total.detach())
        if not math.isfinite(value):
            each = ", ".join(f"{plan.name} {float(term.detach())}" for plan, term in zip(self.plan.losses, terms, strict=True))
            raise LossNotFinite(f"seed {self.seed}, epoch {epoch}: the loss is not finite ({each}) in the batch of dialogues {', '.join(batch.dialogue_ids)}")
        torch.autograd.backward(total)
        if self.recipe.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.recipe.gradient_clip)
        self.optimizer.step()
        return value

    def _selected(self, epoch: int, history: list[dict[str, float | int]]) -> Trained:
        logits = {split.name: predict(self.model, split) for split in (self.data.dev, self.data.test)}
        found = {name: scores(self.labels[name], logits_NC, len(self.data.classes)) for name, logits_NC in logits.items()}
        best_test = max(history, key=lambda row: row["test_weighted_f1_not_used"])  # the earliest, of equal ones
        trained = Trained(
            seed=self.seed,
            model=self.model,
            epoch=epoch,
            dev=found["dev"],
            test=found["test"],
            probabilities={name: logits_NC.softmax(dim=1).numpy() for name, logits_NC in logits.items()},
            best_test={"epoch": best_test["epoch"], "weighted_f1": best_test["test_weighted_f1_not_used"]},
            history=history,
        )
        facts = {"recipe": self.plan.name, "seed": self.seed, "epoch": epoch, "epochs": len(history), "dev_weighted_f1": round(trained.dev["weighted_f1"], 4)}
        logger.info("seed %d: epoch %d of %d, dev weighted F1 %.4f", self.seed, epoch, len(history), trained.dev["weighted_f1"], extra=facts)
        return trained


@torch.inference_mode()
def predict(model: MERCModel, split: DialogueSplit) -> Tensor:
    """Logits of all utterances of a split, float32 [N, C] on the CPU, in the split's order."""
    model.eval()
    logits_NC = torch.empty(split.utterances, model.classes, device=split.labels.device)
    for batch in evaluation_batches(split):
        logits_NC[batch.utterance_index[batch.utterance_mask]] = model(batch).logits[batch.utterance_mask].float()
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
