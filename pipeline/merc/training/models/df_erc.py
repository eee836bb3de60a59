"""DF-ERC: vectors disentangled on two levels, fused by the confidence of each modality, with more context where the
modalities disagree.

Legend: B dialogues, T utterances, M modalities, N = B · T, H hidden units, D = 2 H, A aligned units, F = 2 D, U context
units of a direction, V = 2 U, E = F + V, C classes; P and Q for the widths before and after a map.

    features ─ Linear ─ tanh ─► x_MBTH ─ MLP ─► z_MBTH ─ MLP ─► w_MBTH         z: what a modality's utterances have in common,
      absent: learned             │               └──────┬────────┘            w: what an utterance's modalities have in common
                                  └─────► X_MBTD = [ x ; 0.4 (z + w) ] ─┬─ Linear ─► unimodal logits of each modality
                                                                        ├─ Linear, sigmoid ─► κ_MBT, its confidence
                                                                        └─ MLP ─► a_MBTA ─► s_BT, mean cosine of a pair of modalities

    F_BTF = [ 0.9 Σ_m κ_m X_m / Σ_m κ_m ; Σ_m X_m ] ─ two layers of BiLSTM ─► h_BTV ;   logits = W [ F_i ; 0.8 (1 - s_i) (h_{i-1} + h_{i+1}) ]

Source: Li et al., Revisiting Disentanglement and Fusion on Modality and Context in Conversational Multimodal Emotion
Recognition, ACM MM 2023 (arXiv 2308.04502), and its code (WHULACC/DFERC at b013eb3). There the text encoder is trained
as well; here it is one encoder among others. The loss ``disentanglement`` trains z and w, ``true_class_probability``
the heads and κ, and ``prototype`` a. Unlike in that code:

- Labels are not used by the model, and padding enters neither the backward recurrence nor the context.
- An absent modality has a learned vector instead of W u, and is left out of the mean by confidence and of s. Without a
  pair of present modalities s is 0: nothing indicates that the utterance is unambiguous, so it gets its full context.
- The scores of the heads are those of their linear maps; the code passes them through a GELU, so that none falls below
  -0.17 (``gelu_logits``). The scores of the confidences do not pass a GELU there either.
- The loss ``disentanglement`` treats three modalities as three kinds, as in the paper's abstract; in the code's labels
  text and audio are one.
- Individual recurrent weights are dropped, drawn for each step (Merity et al., ICLR 2018), not whole columns.
"""  # noqa: E501

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import (
    Dropout,
    Projection,
    padded,
    real_rows,
)
from merc.training.models.engine.recurrent_context import RecurrentContext

# Keeps the shares finite if no modality is present, or all confidences vanish.
SMALLEST_CONFIDENCE = 1e-13
# Bound of uniform weights with the variance 2 / n of He et al., ICCV 2015, times the root of n.
HE_BOUND = 6**0.5


class DFERC(MERCModel):
    """Fusion by confidence, context by disagreement. ``unimodal`` are X, ``hidden`` is the input of the classifier,
    ``aligned`` are a.

    ``extras`` contains, by modality:

        of_modality     [B, T, H], z: what the modality's utterances have in common; read by the loss ``disentanglement``
        of_utterance    [B, T, H], w: what the utterance has in common with its other modalities; read by the same
        confidence      [B, T], κ, between 0 and 1: how probable the modality's own logits are expected to find the true class; read by the loss
                        ``true_class_probability``
    """  # noqa: E501

    VERSION = 2

    class Config(Settings):
        """Settings of DF-ERC."""

        hidden_units: int = Field(default=300, ge=1)
        """H, width of x, z and w."""
        aligned_units: int = Field(default=500, ge=1)
        """A, width of the vectors that are compared across modalities and with prototypes."""
        context_units: int = Field(default=600, ge=1)
        """U, width of each direction of the LSTM."""
        context_layers: int = Field(default=2, ge=1, le=256)
        """Layers of the LSTM."""
        disentangled_share: float = Field(default=0.4, ge=0)
        """Factor on z + w."""
        confident_share: float = Field(default=0.9, ge=0)
        """Factor on the mean weighted by confidence."""
        context_share: float = Field(default=0.8, ge=0)
        """Factor on the context around an utterance."""
        dropout: float = Field(default=0.2, ge=0, lt=1)
        """Dropout rate of x and of the input of every later map."""
        input_dropout: float = Field(default=0.3, ge=0, lt=1)
        """Dropout rate of the LSTM's input; the same features are dropped in the whole dialogue."""
        weight_dropout: float = Field(default=0.3, ge=0, lt=1)
        """Dropout rate of the LSTM's recurrent weights."""
        gelu_logits: bool = False
        """Whether the scores of the heads pass a GELU, as in the published code, so that none falls below -0.17."""

    causal = False

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        modalities, units, width, dropout = len(dims), config.hidden_units, 2 * config.hidden_units, config.dropout
        self.disentangled_share, self.confident_share, self.context_share = (
            config.disentangled_share,
            config.confident_share,
            config.context_share,
        )
        self.gelu_logits = config.gelu_logits
        self.gives = Gives(
            hidden=2 * width + 2 * config.context_units,
            unimodal=dict.fromkeys(dims, width),
            aligned=config.aligned_units,
            extras=frozenset({"of_modality", "of_utterance", "confidence"}),
        )
        self.projections = nn.ModuleDict({name: Projection(dim, units) for name, dim in dims.items()})
        self.dropout = Dropout(dropout)
        self.of_modality = _Maps(modalities, units, units, dropout)
        self.of_utterance = _Maps(modalities, units, units, dropout)
        self.align = _Maps(modalities, width, config.aligned_units, dropout)
        self.heads = _Maps(modalities, width, classes, dropout)
        self.confide = _Maps(modalities, width, 1, dropout)
        self.input_dropout = Dropout(config.input_dropout)
        self.context = RecurrentContext(
            nn.LSTM,
            2 * width,
            2 * config.context_units,
            config.context_layers,
            weight_dropout=config.weight_dropout,
        )
        self.classifier = nn.Linear(self.gives.hidden, classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        present_MBT = torch.stack([batch.modality_mask[name] for name in self.modalities])
        projected = [
            self.projections[name](batch.features[name], batch.modality_mask[name]) for name in self.modalities
        ]
        own_MBTH = self.dropout(torch.stack(projected).tanh())
        of_modality_MBTH = functional.gelu(self.of_modality(own_MBTH))
        of_utterance_MBTH = functional.gelu(self.of_utterance(of_modality_MBTH))
        unimodal_MBTD = torch.cat([own_MBTH, self.disentangled_share * (of_modality_MBTH + of_utterance_MBTH)], dim=-1)
        aligned_MBTA = functional.gelu(self.align(unimodal_MBTD))
        logits_MBTC, confidence_MBT1 = (
            _scores(self.heads, unimodal_MBTD),
            _scores(self.confide, unimodal_MBTD).sigmoid(),
        )
        if self.gelu_logits:
            logits_MBTC = functional.gelu(logits_MBTC)
        fused_BTF = self._fused(unimodal_MBTD, confidence_MBT1.masked_fill(~present_MBT[..., None], 0.0))
        around_BTV = beside(self._context(fused_BTF, batch), batch.utterance_mask)
        doubt_BT1 = 1 - agreement(aligned_MBTA, present_MBT)[..., None]
        hidden_BTE = torch.cat([fused_BTF, self.context_share * doubt_BT1 * around_BTV], dim=-1)
        unimodal = self._named(unimodal_MBTD)
        return MERCOutput(
            logits=self.classifier(hidden_BTE),
            hidden=hidden_BTE,
            unimodal=unimodal,
            unimodal_logits=self._named(logits_MBTC),
            pooled={
                name: masked_mean(unimodal_BTD, batch.modality_mask[name]) for name, unimodal_BTD in unimodal.items()
            },
            aligned=self._named(aligned_MBTA),
            extras={
                "of_modality": self._named(of_modality_MBTH),
                "of_utterance": self._named(of_utterance_MBTH),
                "confidence": self._named(confidence_MBT1.squeeze(-1)),
            },
        )

    def _fused(self, unimodal_MBTD: Tensor, confidence_MBT1: Tensor) -> Tensor:
        """[B, T, F]; absent modalities have confidence 0."""
        shares_MBT1 = confidence_MBT1 / (confidence_MBT1.sum(dim=0) + SMALLEST_CONFIDENCE)
        return torch.cat(
            [self.confident_share * (shares_MBT1 * unimodal_MBTD).sum(dim=0), unimodal_MBTD.sum(dim=0)], dim=-1
        )

    def _context(self, fused_BTF: Tensor, batch: DialogueBatch) -> Tensor:
        """[B, T, V]; zeros at padding. In training some input features are dropped from a whole dialogue."""
        if self.training:
            fused_BTF = fused_BTF * self.input_dropout.factors(fused_BTF[:, :1])
        return padded(self.context(real_rows(fused_BTF, batch), batch), batch)

    def _named(self, values_M: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.modalities, values_M.unbind(0), strict=True))


def beside(states_BTV: Tensor, mask_BT: Tensor) -> Tensor:
    """The sum of the states before and after each utterance, with zeros beyond the ends of a dialogue.

    Example:
        >>> beside(torch.tensor([[[1.0], [2.0], [4.0], [9.0]]]), torch.tensor([[True, True, True, False]]))[0, :3, 0]
        tensor([2., 5., 2.])
    """
    states_BTV = states_BTV.masked_fill(~mask_BT[..., None], 0.0)
    return functional.pad(states_BTV[:, :-1], (0, 0, 1, 0)) + functional.pad(states_BTV[:, 1:], (0, 0, 0, 1))


@torch.no_grad()
def agreement(aligned_MBTA: Tensor, present_MBT: Tensor) -> Tensor:
    """Mean cosine over the pairs of present modalities, [B, T], without gradient; 0 if there is no pair.

    Example:
        >>> agreement(torch.tensor([[[[3.0, 0.0]]], [[[1.0, 0.0]]], [[[0.0, 2.0]]]]), torch.tensor([[[True]], [[True]], [[True]]]))
        tensor([[0.3333]])
    """  # noqa: E501
    unit_MBTA = (
        functional.normalize(aligned_MBTA.to(torch.promote_types(aligned_MBTA.dtype, torch.float32)), dim=-1)
        * present_MBT[..., None]
    )
    number_BT = present_MBT.sum(dim=0)
    # The square of a sum of vectors contains each pair twice and each vector with itself once.
    pairs_BT = (unit_MBTA.sum(dim=0).square().sum(dim=-1) - unit_MBTA.square().sum(dim=(0, -1))) / 2
    return pairs_BT / (number_BT * (number_BT - 1) / 2).clamp(min=1)


def _scores(maps: "_Maps", unimodal_MBTD: Tensor) -> Tensor:
    """Converted to at least float32."""
    scores_MBTC: Tensor = maps(unimodal_MBTD)
    return scores_MBTC.to(torch.promote_types(scores_MBTC.dtype, torch.float32))


class _Maps(nn.Module):
    """Dropout and a linear map per modality; [M, B, T, P] to [M, B, T, Q] in one product."""

    def __init__(self, modalities: int, units_in: int, units_out: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        bound = units_in**-0.5
        # He's weights, as published: with those of nn.Linear, smaller by a factor of √6, all vectors would start within
        # the margin of the loss ``prototype``.
        self.weights_MPQ = nn.Parameter(
            torch.empty(modalities, units_in, units_out).uniform_(-HE_BOUND * bound, HE_BOUND * bound)
        )
        self.bias_M1Q = nn.Parameter(torch.empty(modalities, 1, units_out).uniform_(-bound, bound))

    def forward(self, values_MBTP: Tensor) -> Tensor:
        modalities, dialogues, steps, _ = values_MBTP.shape
        mapped_MNQ = torch.baddbmm(self.bias_M1Q, self.dropout(values_MBTP).flatten(1, 2), self.weights_MPQ)
        return mapped_MNQ.view(modalities, dialogues, steps, -1)
