"""Mixed precision: the model computes in 16 bits, the losses and the weights stay in float32."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import MERCModel, MERCOutput

PrecisionName = Literal["float32", "bfloat16", "float16"]
_HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """Forward and backward in the precision of a recipe. Scores are always computed in float32, as by anyone who loads
    the weights later.

    With float16, gradients are scaled so that small ones do not vanish; a step with overflowing gradients is skipped,
    and the scale halved.

    Args:
        name: ``float32`` or, for products of matrices, ``bfloat16`` or ``float16``. The CPU supports them as well,
            though rarely with a benefit.
        device: device of the training.
    """

    def __init__(self, name: PrecisionName, device: torch.device) -> None:
        self._half = _HALVES.get(name)
        self._device = device.type
        self._scaler = GradScaler(device.type, enabled=name == "float16")

    def forward(self, model: MERCModel, batch: DialogueBatch) -> MERCOutput:
        """The model's output for a batch, in float32."""
        if self._half is None:
            output: MERCOutput = model(batch)
            return output
        with torch.autocast(self._device, dtype=self._half):
            output = model(batch)
        return _in_float32(output)

    def step(
        self,
        loss: Tensor,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        longest_gradient: float | None,
    ) -> None:
        """Backward, gradient clipping, and the optimiser's step; with a fused optimiser, nothing waits for a GPU."""
        torch.autograd.backward(self._scaler.scale(loss))
        if longest_gradient is not None:
            self._scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, longest_gradient)
        self._scaler.step(optimizer)
        self._scaler.update()


def _in_float32(output: MERCOutput) -> MERCOutput:
    def each(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.float() for name, tensor in tensors.items()}

    return replace(
        output,
        logits=output.logits.float(),
        hidden=output.hidden.float(),
        bare=None if output.bare is None else output.bare.float(),
        unimodal=each(output.unimodal),
        unimodal_logits=each(output.unimodal_logits),
        context=None if output.context is None else output.context.float(),
        pooled=each(output.pooled),
        aligned=each(output.aligned),
        extras={name: each(tensors) for name, tensors in output.extras.items()},
    )
