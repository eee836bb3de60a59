"""Parts shared by several models. Legend: B dialogues, T utterances, N real utterances of the batch, D features in,
H features out, M modalities.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from merc.training.data.batch import DialogueBatch

# MELD's train split has a dialogue with 9 speakers, the maximum of both corpora; a tenth would share the first one's
# slot.
SPEAKER_SLOTS = 9
# Epsilon of the layer norms in the published code of SDT and IDCL; torch's default is ten times as large.
NORM_EPSILON = 1e-6


class Projection(nn.Module):
    """A linear map of a modality's vectors; a learned vector replaces absent ones.

    Args:
        dim: D.
        units: H.
        bias: whether the linear map has a bias.
        identity: no map; H is D.
    """

    def __init__(self, dim: int, units: int, bias: bool = True, identity: bool = False) -> None:
        super().__init__()
        self.linear = nn.Identity() if identity else nn.Linear(dim, units, bias=bias)
        self.absent_H = nn.Parameter(torch.zeros(units))

    def forward(self, features: Tensor, present: Tensor) -> Tensor:
        """From [..., D] and bool [...] to [..., H]."""
        return torch.where(present[..., None], self.linear(features), self.absent_H)


class LinearMaps(nn.Module):
    """A linear map for each of several inputs, [maps, N, in] to [maps, N, out], in one product; initialised like
    torch's.

    Args:
        maps: number of maps.
        inputs: in.
        outputs: out.
        bias: whether the maps have biases.
    """

    def __init__(self, maps: int, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(maps, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(maps, 1, outputs).uniform_(-bound, bound)) if bias else None

    def forward(self, values: Tensor) -> Tensor:
        return torch.bmm(values, self.weight) if self.bias is None else torch.baddbmm(self.bias, values, self.weight)


class Dropout(nn.Dropout):
    """torch's dropout, in half the time on a CPU, where uniform numbers and a comparison are cheaper than Bernoulli
    numbers.
    """

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or not self.p or values.device.type != "cpu":
            return super().forward(values)
        return values * self.factors(values)

    def factors(self, values: Tensor) -> Tensor:
        """0 for dropped values, 1 / (1 - p) for kept ones, in the shape of ``values``."""
        # Always in float32: bfloat16 has only 256 uniform numbers.
        return torch.rand(values.shape, device=values.device).ge_(self.p).to(values.dtype).div_(1 - self.p)


class BatchNorm(nn.BatchNorm1d):
    """torch's batch norm over rows. A single row has no variance: even in training it is normalised by the running
    statistics, which it does not change.
    """

    def forward(self, rows_NF: Tensor) -> Tensor:
        if len(rows_NF) > 1:
            return super().forward(rows_NF)
        return functional.batch_norm(rows_NF, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def real_rows(values_BTX: Tensor, batch: DialogueBatch) -> Tensor:
    """The real utterances of a padded tensor, in order: [N, ...]. MELD's dialogues fill two fifths of their batches, so
    utterance-wise operations run on these.
    """
    return values_BTX.flatten(0, 1).index_select(0, batch.real_positions)


def padded(rows_MNH: Tensor, batch: DialogueBatch) -> Tensor:
    """Real utterances [..., N, H] scattered to their places, zeros elsewhere: [..., B, T, H]."""
    dialogues, steps = batch.utterance_mask.shape
    zeros = rows_MNH.new_zeros(*rows_MNH.shape[:-2], dialogues * steps, rows_MNH.shape[-1])
    return zeros.index_copy_(-2, batch.real_positions, rows_MNH).view(*rows_MNH.shape[:-2], dialogues, steps, -1)


def present_shares(batch: DialogueBatch, modalities: Sequence[str]) -> Tensor:
    """[B, T, M], sums to 1: equal shares for the present modalities; for all if none is present, since there is still
    the context.
    """
    present_BTM = torch.stack([batch.modality_mask[name] for name in modalities], dim=-1)
    counted_BTM = (present_BTM | ~present_BTM.any(dim=-1, keepdim=True)).float()
    return counted_BTM / counted_BTM.sum(dim=-1, keepdim=True)


def check_heads(name: str, units: int, heads: int) -> None:
    """Raises ``ValueError`` unless the number of heads of an attention divides its width.

    Args:
        name: name of the width in the settings.
        units: the width.
        heads: number of heads.
    """
    if units % heads:
        raise ValueError(f"{name} is {units}, no multiple of heads, {heads}")


def position_codes(steps: int, units: int, device: torch.device) -> Tensor:
    """Sinusoidal codes of positions 0, 1, … for any number of steps, [T, H] (Vaswani et al., NeurIPS 2017, section
    3.5).
    """
    even = torch.arange(0, units, 2, device=device)
    angles_TE = torch.arange(steps, device=device)[:, None] * torch.exp(even * (-math.log(10_000.0) / units))
    return torch.stack([angles_TE.sin(), angles_TE.cos()], dim=-1).flatten(1)[:, :units]
