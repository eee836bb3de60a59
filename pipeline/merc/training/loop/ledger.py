"""The terms of the loss in each step of an epoch, kept on the device until the epoch is over."""

from collections.abc import Sequence

import torch
from torch import Tensor

from merc.errors import PipelineError
from merc.training.data.batch import DialogueBatch


class LossNotFinite(PipelineError):
    """The loss became infinite or not a number; the message names the batch and each term."""


class Ledger:
    """Records every step's terms and reads them once, so that no step waits for a GPU.

    So a non-finite step is only found at the end of its epoch. That does no harm: the training stops, and the weights
    of earlier epochs have been copied before.

    Args:
        names: names of the terms. weights: weights of the terms in the objective.
    """

    def __init__(self, names: Sequence[str], weights: Sequence[float]) -> None:
        self._names, self._weights = list(names), list(weights)
        self._terms: list[Tensor] = []
        self._labelled: list[int] = []
        self._dialogues: list[tuple[str, ...]] = []

    def note(self, terms_L: Tensor, batch: DialogueBatch) -> None:
        """Takes a step's terms, [L] without gradient, on the device."""
        self._terms.append(terms_L)
        self._labelled.append(len(batch.labelled_positions))
        self._dialogues.append(batch.dialogue_ids)

    def close(self, when: str) -> dict[str, float]:
        """The epoch's means: ``train_loss``, the whole objective, and ``loss_<name>``, each term without its weight.

        Steps are weighted by their labelled utterances; if the whole epoch has none, each step counts once.

        Args:
            when: for the message, such as ``seed 0, epoch 3``.

        Raises:
            LossNotFinite: the message names the dialogues and terms of the first non-finite step.
        """
        terms_SL = torch.stack(self._terms).cpu().double()
        totals_S = terms_SL @ torch.tensor(self._weights, dtype=torch.float64)
        odd = (~totals_S.isfinite()).nonzero().flatten().tolist()
        if odd:
            each = ", ".join(
                f"{name} {value:g}" for name, value in zip(self._names, terms_SL[odd[0]].tolist(), strict=True)
            )
            raise LossNotFinite(
                f"{when}: the loss is not finite ({each}) in the batch of dialogues"
                f" {', '.join(self._dialogues[odd[0]])}"
            )
        counts_S = torch.tensor(self._labelled, dtype=torch.float64)
        shares_S = counts_S / counts_S.sum() if counts_S.any() else torch.full_like(counts_S, 1 / len(counts_S))
        means = {
            "train_loss": totals_S @ shares_S,
            **{f"loss_{name}": value for name, value in zip(self._names, shares_S @ terms_SL, strict=True)},
        }
        return {name: float(value) for name, value in means.items()}


def check_weights(model: torch.nn.Module, when: str) -> None:
    """Raises ``LossNotFinite`` if a weight is not finite, as after a last step with a non-finite gradient."""
    for name, weight in model.named_parameters():
        if not bool(weight.detach().isfinite().all()):
            raise LossNotFinite(
                f"{when}: the loss was finite but its gradient was not: weights of {name} are not finite"
            )
