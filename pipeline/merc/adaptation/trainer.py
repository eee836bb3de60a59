"""The training loop: an encoder and a linear classifier on its vector, step by step; the epoch with the best dev score
is kept.

    utterances ─► the encoder's own batches, layer and pooling ─► vector [B, D] ─► dropout ─► linear ─► cross-entropy

Scores use the vectors from :meth:`~merc.encoders.engine.base.Encoder.encode`, that is, those of an extraction.

Legend: B utterances of a step or of a piece of it, N of a split, D features, C classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from merc.adaptation import probe
from merc.adaptation.batches import shuffled_batches
from merc.adaptation.config import Config
from merc.adaptation.examples import Examples
from merc.adaptation.lora import LowRank
from merc.adaptation.scoring import scores
from merc.compute.repeatable import repeatable
from merc.encoders.engine.batching import by_length
from merc.encoders.engine.trainable import TrainableEncoder
from merc.errors import BadSettings, PipelineError
from merc.log import logger, progress


@dataclass
class Adapted:
    """The result of a training; the encoder has the weights of the selected epoch.

    Attributes:
        head: the classifier, with the weights of that epoch.
        epoch: the selected one, from 1; the first in case of ties. 0 is the state before the training, if the
            classifier was fitted to it.
        dev: ``weighted_f1`` and ``accuracy`` at that epoch.
        test: the same for the test split, scored once, after the selection; empty if it has no labels.
        history: ``epoch``, ``train_loss``, ``dev_weighted_f1``, ``dev_accuracy`` of every epoch. The loss of epoch 0 is
            that of the fitted classifier.
    """

    head: nn.Linear
    epoch: int
    dev: dict[str, float]
    test: dict[str, float]
    history: list[dict[str, float | int]] = field(default_factory=list)


def adapt_encoder(
    encoder: TrainableEncoder, examples: Mapping[str, Examples], classes: int, config: Config, device: str
) -> Adapted:
    """Fine-tunes an encoder in place. Equal work gives equal numbers on a CPU with any number of cores.

    Args:
        encoder: loaded on ``device``.
        examples: ``train``, ``dev``, and ``test``, which decides nothing.
        classes: classes of the label set.
        config: the settings.
        device: resolved.

    Raises:
        BadSettings: if no train utterance has anything to encode, or weights that should be trained have no influence.
        PipelineError: if the loss is not finite.
    """
    with repeatable(config.seed, torch.device(device), config.threads):
        return _Training(encoder, examples, classes, config, device).run()


class _Training:
    def __init__(
        self, encoder: TrainableEncoder, examples: Mapping[str, Examples], classes: int, config: Config, device: str
    ) -> None:
        self.encoder, self.examples, self.config, self.device = encoder, examples, config, device
        self.items = encoder.training_items(examples["train"].utterances)
        if not len(self.items.utterances):
            raise BadSettings(
                f"none of the {len(examples['train'].utterances)} labelled train utterances has anything to encode"
            )
        self.labels_N = torch.from_numpy(examples["train"].labels[self.items.utterances]).to(device)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.model: nn.Module = encoder.model
        self.head = nn.Linear(encoder.dim, classes).to(device)
        # What dropout sets values to, instead of 0: the bias of a fitted classifier offsets the mean of the vectors,
        # which may be far from 0, so zeros would ruin its logits.
        self.centre_D: Tensor | None = None
        # Of the state before the training, if it counts as an epoch.
        self.loss_at_start = self._fit_head(classes) if config.head_start == "probe" else None
        if (frozen := encoder.frozen_part()) is not None:
            frozen.requires_grad_(False)
        self.low_rank = None if config.lora is None else LowRank(self.model, config.lora)
        self.trained = {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}
        self.optimizer = torch.optim.AdamW(self._groups(), fused=True)
        self.steps_per_epoch = len(self._batches(torch.Generator()))
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._learning_rate_factor)

    def _fit_head(self, classes: int) -> float:
        """Replaces the classifier's random weights by fitted ones; returns their mean loss over the train utterances
        that have something to encode.
        """
        self.model.eval()
        train, dev = self.examples["train"], self.examples["dev"]
        encoded = self.encoder.encode(train.utterances)
        found = probe.fit(encoded, train.labels, self.encoder.encode(dev.utterances), dev.labels, classes)
        logger.info("the classifier starts as a linear probe, fitted with C = %g", found.strength)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(found.weight))
            self.head.bias.copy_(torch.from_numpy(found.bias))
            vectors_ND = torch.from_numpy(encoded.embeddings[encoded.present]).to(self.device)
            self.centre_D = vectors_ND.mean(dim=0)
            labels_N = torch.from_numpy(train.labels[encoded.present]).to(self.device)
            return float(nn.functional.cross_entropy(self.head(vectors_ND), labels_N))

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters with their learning rate and decay; norms and biases have no decay."""
        config = self.config
        of_encoder = list(self.trained.values())
        groups = [(of_encoder, config.learning_rate), (list(self.head.parameters()), config.head_learning_rate)]
        return [
            {
                "params": [weight for weight in weights if (weight.ndim > 1) == decayed],
                "lr": rate,
                "weight_decay": config.weight_decay if decayed else 0.0,
            }
            for weights, rate in groups
            for decayed in (True, False)
        ]

    def _learning_rate_factor(self, step: int) -> float:
        """Linear increase over the warm-up, then linear decrease; never 0 in an actual step."""
        total = self.config.epochs * self.steps_per_epoch
        warm = min(round(self.config.warmup_share * total), total - 1)
        return (step + 1) / (warm + 1) if step < warm else (total - step) / (total - warm)

    def _batches(self, generator: torch.Generator) -> list[NDArray[np.int64]]:
        return shuffled_batches(self.items.lengths, self.config.batch_utterances, self.config.pool_batches, generator)

    def run(self) -> Adapted:
        best: dict[str, float | int] = {}
        kept: tuple[dict[str, Tensor], ...] = ()
        history: list[dict[str, float | int]] = []
        first = 1 if self.loss_at_start is None else 0
        with progress(self.config.epochs * self.steps_per_epoch, "adaptation", "step") as bar:
            for epoch in range(first, self.config.epochs + 1):
                loss = (
                    self.loss_at_start
                    if not epoch and self.loss_at_start is not None
                    else self._epoch(epoch, bar.update)
                )
                dev = self._scores(self.examples["dev"])
                row = {
                    "epoch": epoch,
                    "train_loss": loss,
                    "dev_weighted_f1": dev["weighted_f1"],
                    "dev_accuracy": dev["accuracy"],
                }
                history.append(row)
                logger.info(
                    "epoch %d: loss %.4f, dev weighted F1 %.4f",
                    epoch,
                    loss,
                    dev["weighted_f1"],
                    extra={"stage": "adaptation", **row},
                )
                if not best or row["dev_weighted_f1"] > best["dev_weighted_f1"]:
                    best = row
                    kept = tuple(
                        {name: weight.detach().clone() for name, weight in module.state_dict().items()}
                        for module in (self.model, self.head)
                    )
        for module, state in zip((self.model, self.head), kept, strict=True):
            module.load_state_dict(state)
        if self.low_rank is not None:
            self.low_rank.merge()
        test = self._scores(self.examples["test"]) if len(self.examples["test"].utterances) else {}
        return Adapted(self.head, int(best["epoch"]), self._scores(self.examples["dev"]), test, history)

    def _epoch(self, epoch: int, advance: Any) -> float:
        """Trains on every item once; returns the mean loss."""
        self.model.train()
        self.head.train()
        if (frozen := self.encoder.frozen_part()) is not None:
            frozen.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for batch in self._batches(self.generator):
            total += self._step(batch)
            advance()
        if epoch == 1:
            self._check_influence()
        mean = float(total) / len(self.items.utterances)
        if not np.isfinite(mean):
            raise PipelineError(
                f"adaptation, epoch {epoch}: the loss is not finite; a lower learning_rate or gradient_clip may help"
            )
        return mean

    def _step(self, batch: NDArray[np.int64]) -> Tensor:
        """One update of the weights with B items, in pieces that fit the encoder's budget; returns the sum of their
        losses.
        """
        config = self.config
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for piece in self._pieces(batch):
            vectors_BD = self.items.vectors(self._inputs(piece))
            logits_BC = self.head(self.dropped(vectors_BD))
            loss = nn.functional.cross_entropy(logits_BC, self.labels_N[piece], reduction="sum")
            torch.autograd.backward(loss / len(batch))
            total += loss.detach()
        if config.gradient_clip is not None:
            nn.utils.clip_grad_norm_([*self.trained.values(), *self.head.parameters()], config.gradient_clip)
        self.optimizer.step()
        self.scheduler.step()
        return total

    def dropped(self, vectors_BD: Tensor) -> Tensor:
        """Vectors with a share of their values dropped, as the classifier sees them in training."""
        if self.centre_D is None:
            return nn.functional.dropout(vectors_BD, self.config.head_dropout)
        return nn.functional.dropout(vectors_BD - self.centre_D, self.config.head_dropout) + self.centre_D

    def _pieces(self, batch: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        for piece in by_length(self.items.lengths[batch], self.encoder.budget.units, max_padding=1.0):
            yield batch[piece]

    def _inputs(self, piece: NDArray[np.int64]) -> dict[str, Any]:
        found = self.items.batch(piece)
        return {
            name: torch.from_numpy(value).to(self.device) if isinstance(value, np.ndarray) else value
            for name, value in found.items()
        }

    def _check_influence(self) -> None:
        """Looks for low-rank updates that no step reached: those of layers above the pooled one, or those bypassed by a
        model that reads the original weight directly.

        Raises BadSettings if there are no others.
        """
        if self.low_rank is None:
            return
        idle = [name for name, weight in self.trained.items() if weight not in self.optimizer.state]
        if len(idle) == len(self.trained):
            raise BadSettings(
                f"adaptation: none of the {len(idle)} low-rank weights, such as {idle[0]}, affects the vectors; name"
                " other lora.modules"
            )
        if idle:
            logger.warning(
                "%d of %d low-rank weights, such as %s, do not affect the vectors",
                len(idle),
                len(self.trained),
                idle[0],
            )

    @torch.inference_mode()
    def _scores(self, examples: Examples) -> dict[str, float]:
        """``weighted_f1`` and ``accuracy`` of a split; absent utterances count with their zero vectors."""
        self.model.eval()
        self.head.eval()
        vectors_ND = torch.from_numpy(self.encoder.encode(examples.utterances).embeddings).to(self.device)
        predicted_N = self.head(vectors_ND).argmax(dim=1).cpu().numpy()
        return scores(examples.labels, predicted_N, self.head.out_features)
