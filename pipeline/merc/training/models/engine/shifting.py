"""The shift of MERC-KDC and TelME, in which helping modalities move the vector of the leading one.

Legend: N real utterances of the batch, H hidden units, S helping modalities, F = S · H, h heads, d = H / h.

    q = LN(x + A(x))     x: vectors of the helping modalities; A: attention
    g = ReLU(W [q; t])   t: vector of the leading modality
    v = g ⊙ W' q
    δ = min(η ‖t‖ / ‖v‖, 1)

δ v is added to t. Source: Yun, Lim, Lee and Song, TelME, NAACL 2024, and its code (yuntaeyang/TelME at f22fc9f); what
differs from that code is listed in :mod:`merc.training.models.telme`.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from merc.training.models.engine.common import Dropout

# Minimum length assumed for vectors, so that a zero shift is no division by zero and its gradient is finite.
SHORTEST = 1e-6

Attention = Literal["modalities", "concatenated"]
"""Attention over the helping modalities' vectors, see :class:`Shift`."""


class Shift(nn.Module):
    """δ v; exactly zero if all helping modalities are absent.

    Args:
        units: H.
        helping: S, at least 1.
        heads: h, which divides H; used by the attention over modalities.
        limit: η, maximum length of the shift as a share of ‖t‖.
        attention: ``modalities``: each helping modality attends to the present ones, and q of an absent one is zero.
            ``concatenated``: the helping modalities' vectors side by side, zero where absent, are one vector per
            utterance that attends only to itself, so that A is a product of two linear maps.
        bias: whether W' has a bias.
        dropout: dropout rate of q.
    """

    def __init__(
        self,
        units: int,
        helping: int,
        heads: int,
        limit: float,
        *,
        attention: Attention = "modalities",
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.limit = limit
        self.attention = attention
        width = units if attention == "modalities" else helping * units
        if attention == "modalities":
            self.query_key_value = nn.Linear(width, 3 * width)
        else:
            self.value = nn.Linear(width, width)
        self.attended = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear((helping + 1) * units, units)
        self.displace = nn.Linear(helping * units, units, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, leading_NH: Tensor, helping_NSH: Tensor, present_NS: Tensor) -> Tensor:
        """Returns [N, H]; the vector of an absent modality is not used.

        Args:
            leading_NH: t.
            helping_NSH: x.
            present_NS: bool, which helping modalities are present.
        """
        attend = self._over_modalities if self.attention == "modalities" else self._side_by_side
        queries_NF = self.dropout(attend(helping_NSH, present_NS))
        gate_NH = self.gate(torch.cat([queries_NF, leading_NH], dim=1)).relu()
        shift_NH = (gate_NH * self.displace(queries_NF)).masked_fill(~present_NS.any(dim=1, keepdim=True), 0.0)
        shifted_NH: Tensor = (self.limit * _length(leading_NH) / _length(shift_NH)).clamp(max=1.0) * shift_NH
        return shifted_NH

    def _over_modalities(self, helping_NSH: Tensor, present_NS: Tensor) -> Tensor:
        # A modality attends to itself even if it is absent, so that no row of the attention is empty.
        itself_SS = torch.eye(present_NS.shape[1], dtype=torch.bool, device=present_NS.device)
        keys_N1SS = (present_NS[:, None, :] | itself_SS)[:, None]
        parts_3NhSd = self.query_key_value(helping_NSH).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts_3NhSd.unbind(0)
        attended_NhSd = functional.scaled_dot_product_attention(query, key, value, attn_mask=keys_N1SS)
        normed_NSH: Tensor = self.norm(helping_NSH + self.attended(attended_NhSd.transpose(1, 2).flatten(2)))
        return normed_NSH.masked_fill(~present_NS[..., None], 0.0).flatten(1)

    def _side_by_side(self, helping_NSH: Tensor, present_NS: Tensor) -> Tensor:
        joined_NF = helping_NSH.masked_fill(~present_NS[..., None], 0.0).flatten(1)
        normed_NF: Tensor = self.norm(joined_NF + self.attended(self.value(joined_NF)))
        return normed_NF


def _length(vectors_NH: Tensor) -> Tensor:
    """[N, 1], at least :data:`SHORTEST`, in at least float32."""
    vectors_NH = vectors_NH.to(torch.promote_types(vectors_NH.dtype, torch.float32))
    return vectors_NH.square().sum(dim=1, keepdim=True).clamp(min=SHORTEST**2).sqrt()
