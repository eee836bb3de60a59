"""DCLF's context-aware contrastive loss: an utterance should be nearer to its own history than to another one with the
same emotions.

Paper: Xie et al., Dual Contrastive Learning Framework for emotion recognition in conversations, COLING 2025, eqs 6 to
10. Legend: B dialogues, T utterances, d width of ``hidden``, N anchors, W window, V negatives, D features.

    g_p = W_g [c_i ; h_{i-p}] + b_g,  p = 1 … W            c_i: contextual extract of what came before utterance i
    L   = - log( mean_p e^{cos(h_i, g_p)/τ} / Σ_n e^{cos(h_i, g_n)/τ} )

The g_n are the same map of utterances of another dialogue whose emotions copy those of the window. What the paper
leaves open:

- Which they are: see :mod:`merc.training.data.sampler`. They are redrawn for each epoch, from only the seed and the
  epoch, and their h comes from a bank of detached representations, since a batch rarely holds a dialogue that fits.
- As printed, the denominator has only the negatives (``denominator: neg``, the addition ``printed``), so that the loss
  may be negative, down to ln V - 2/τ, and never stops pulling a pair. ``all``, the default, adds the positives, as in
  the supervised contrastive loss that the paper cites.
- h: the model's output ``bare`` if its ``hidden`` has passed a dropout and a ReLU (:attr:`MERCOutput.compared`).
- The paper sums over utterances; here the loss is the mean over those that have a history and a negative, since
  otherwise its weight would depend on the batch.
- c_i: the model's output ``context``, or else attention pooling over only h_1 … h_{i-1}. Its weights belong to this
  loss.
"""

import math
from typing import Any, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from merc.params import Settings
from merc.training.data.bank import UtteranceBank
from merc.training.data.batch import DialogueBatch
from merc.training.data.sampler import EmotionWindowSampler
from merc.training.losses.engine.adapters import labelled_rows, projection
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.losses.engine.contrastive import ContrastiveLoss
from merc.training.losses.engine.kernel import SMALLEST_NORM, Candidates, Reduction, at_least_float32, normalised
from merc.training.models.engine.base import MERCModel, MERCOutput


class ContextAwareLoss(ContrastiveLoss):
    """The loss on vectors that are already g; it has no weights.

    Args:
        temperature: τ.
        denominator: ``all``: positives as well; ``neg``: only negatives, as printed.
        reduction: ``mean`` over anchors with a positive and a negative, ``sum``, or ``none``.
        debug: see :class:`merc.training.losses.engine.contrastive.ContrastiveLoss`.

    Raises:
        ValueError: if the temperature is not above 0, or the denominator is not one of these.

    Example:
        >>> loss = ContextAwareLoss(temperature=0.5, denominator="neg")
        >>> loss(torch.tensor([[1.0, 0.0]]), pos=torch.tensor([[[0.8, 0.6], [0.0, 1.0]]]), neg=torch.tensor([[[-1.0, 0.0], [0.6, -0.8]]]))
        tensor(0.1492)
    """  # noqa: E501

    def __init__(
        self, *, temperature: float, denominator: Candidates = "all", reduction: Reduction = "mean", debug: bool = False
    ) -> None:
        super().__init__(temperature=temperature, form="in_mean", reduction=reduction, debug=debug)
        if denominator not in get_args(Candidates):
            raise ValueError(f"no denominator named {denominator!r}; valid: all, neg")
        self.denominator = denominator

    def forward(
        self, z: Tensor, *, pos: Tensor, neg: Tensor, pos_mask: Tensor | None = None, neg_mask: Tensor | None = None
    ) -> Tensor:
        """The loss of a batch.

        Args:
            z: [N, D] anchors.
            pos: [N, W, D] positives of each.
            neg: [N, V, D] negatives of each.
            pos_mask: bool [N, W], True = exists; None: all.
            neg_mask: bool [N, V], the same.

        Returns:
            A scalar, or [N] for the reduction ``none``.

        Raises:
            ValueError: if shapes do not fit.
        """
        z_ND, _, _ = self.rows(z, None)
        pos_mask_NW = torch.ones_like(pos[..., 0], dtype=torch.bool) if pos_mask is None else pos_mask
        neg_mask_NV = torch.ones_like(neg[..., 0], dtype=torch.bool) if neg_mask is None else neg_mask
        g_NMD = torch.cat([pos, neg], dim=1)
        g_RD, _, _ = self.rows(g_NMD, torch.cat([pos_mask_NW, neg_mask_NV], dim=1))
        cosine_NM = _cosines(z_ND, g_RD.view(g_NMD.shape))
        pos_NM = torch.cat([pos_mask_NW, torch.zeros_like(neg_mask_NV)], dim=1)
        neg_NM = torch.cat([torch.zeros_like(pos_mask_NW), neg_mask_NV], dim=1)
        cand_NM = neg_NM if self.denominator == "neg" else (pos_NM | neg_NM) & neg_NM.any(dim=1, keepdim=True)
        return self.reduce(cosine_NM / self.temperature, pos_NM, cand_NM)


class ContextAware(MERCLoss):
    """The loss over the labelled utterances of a batch, with the map g, the bank and the negatives.

    Unlabelled utterances are not anchors, but are in windows like any other. :meth:`begin_epoch` must have been
    called.

    Raises:
        ValueError: if ``facts`` have no train split.
    """

    class Config(Settings):
        """Settings of the context-aware loss."""

        window: int = Field(default=4, ge=1)
        """W, maximum number of utterances of the history that are positives; the paper has 4 for MELD and 10 for
        IEMOCAP.
        """
        temperature: float = Field(default=0.07, gt=0)
        """τ, by which the cosines of an utterance and g are divided."""
        denominator: Candidates = "all"
        """Denominator: ``all``, positives and negatives; ``neg``, only negatives, as the paper prints it.
        """
        contextual_extract: bool = True
        """Use c_i; without it, g_p = W'_g h_{i-p} + b_g, the paper's ablation "w/o CE"."""
        exclude_same_scenario: bool = True
        """No negatives from dialogues of the same scenario: in IEMOCAP, another pair of actors who play the same
        script.
        """
        projection_units: int = Field(default=0, ge=0)
        """Width of a projection of h before the loss; 0: none, as in the paper."""
        match_speakers: bool = False
        """Only negatives in which the speakers take turns as in the anchor's own window."""

    VERSION = 2
    negatives: Tensor | None

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        if facts.train is None:
            raise ValueError("the context-aware loss needs the train split, whose dialogues its negatives come from")
        self.train_split = facts.train
        self.window = config.window
        self.loss = ContextAwareLoss(temperature=config.temperature, denominator=config.denominator)
        self.sampler = EmotionWindowSampler(
            facts.train,
            config.window,
            exclude_same_scenario=config.exclude_same_scenario,
            match_speakers=config.match_speakers,
        )
        self.bank = UtteranceBank(facts.train.utterances, facts.gives.hidden)
        self.register_buffer("negatives", None, persistent=False)  # long [N of the split, W]
        # W_g in two halves: one product for h_{i-p}, one for c_i, added.
        dim = config.projection_units or facts.gives.hidden
        self.project = projection(facts.gives.hidden, config.projection_units)
        self.of_utterance = nn.Linear(dim, dim)
        self.extract: nn.Module | None = None
        self.of_context: nn.Module | None = None
        if config.contextual_extract:
            if facts.gives.context is None:
                self.extract = HistoryPooling(dim)
            self.of_context = nn.Linear(facts.gives.context or dim, dim, bias=False)

    def begin_epoch(self, epoch: int, model: MERCModel, generator: torch.Generator) -> None:
        """Draws the negatives of this epoch, and fills the bank before the first one."""
        if not self.bank.filled:
            self.bank.fill(model, self.train_split)
        # A separate generator, so that neither the order of batches depends on this loss nor the negatives on other
        # draws.
        own = torch.Generator().manual_seed((generator.initial_seed() * 1_000_003 + epoch) % 2**63)
        self.negatives = self.sampler.draw(own).to(self.bank.rows.device)

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        if self.negatives is None:
            raise ValueError("begin_epoch was not called, so there are no negatives")
        if self.training:
            self.bank.write(output.compared, batch)
        # A model's output at padding is meaningless and may be NaN, which a weight of 0 would not remove.
        hidden_BTd = self.project(output.compared.float().masked_fill(~batch.utterance_mask[..., None], 0.0))
        h_Nd = labelled_rows(hidden_BTd, batch)
        # Places of the window in the flattened batch, and of the negatives in the split.
        anchors_N = batch.labelled_positions
        back_W = torch.arange(1, self.window + 1, device=anchors_N.device)
        pos_mask_NW = anchors_N[:, None] % hidden_BTd.shape[1] >= back_W
        before_NW = (anchors_N[:, None] - back_W).clamp(min=0)
        rows_NW = self.negatives.index_select(0, labelled_rows(batch.utterance_index, batch))
        context_N1d = self._context(output, hidden_BTd, batch)
        pos_NWd = (
            self.of_utterance(hidden_BTd)
            .flatten(0, 1)
            .index_select(0, before_NW.flatten())
            .unflatten(0, before_NW.shape)
            + context_N1d
        )
        neg_NWd = self._of_bank(rows_NW) + context_N1d
        value: Tensor = self.loss(h_Nd, pos=pos_NWd, neg=neg_NWd, pos_mask=pos_mask_NW, neg_mask=rows_NW >= 0)
        return value

    def _of_bank(self, rows_NW: Tensor) -> Tensor:
        """The half of g that comes from rows of the bank, [N, W, d]. Each is in many windows: with more windows than
        rows all rows are mapped, once.
        """
        if rows_NW.numel() < len(self.bank.rows):
            mapped_NWd: Tensor = self.of_utterance(self.project(self.bank.read(rows_NW)))
            return mapped_NWd
        mapped_Rd: Tensor = self.of_utterance(self.project(self.bank.rows.clone()))
        return mapped_Rd.index_select(0, rows_NW.clamp(min=0).flatten()).view(*rows_NW.shape, -1)

    def _context(self, output: MERCOutput, hidden_BTd: Tensor, batch: DialogueBatch) -> Tensor | float:
        """The half of g that comes from c_i, [N, 1, d]; 0 without extract."""
        if self.of_context is None:
            return 0.0
        if self.extract is not None:
            context_BTd = self.extract(hidden_BTd)
        elif output.context is not None:
            context_BTd = output.context.float()
        else:
            raise ValueError("the model declares a context, but its output has none")
        mapped_N1d: Tensor = self.of_context(labelled_rows(context_BTd, batch))[:, None]
        return mapped_N1d


def _cosines(z_ND: Tensor, g_NMD: Tensor) -> Tensor:
    """Cosines of each anchor with each of its own vectors, [N, M], like those of :func:`normalised`, which would copy
    all of g; never in half precision.
    """
    with torch.autocast(z_ND.device.type, enabled=False):
        g_NMD = at_least_float32(g_NMD)
        norm_NM: Tensor = torch.linalg.vector_norm(g_NMD, dim=-1)
        is_zero = norm_NM < SMALLEST_NORM
        along_NM = (g_NMD @ normalised(z_ND)[..., None]).squeeze(-1)
        return along_NM.masked_fill(is_zero, 0.0) / norm_NM.masked_fill(is_zero, 1.0)


class HistoryPooling(nn.Module):
    """Attention pooling over the earlier utterances: c_i = Σ_{j<i} softmax_j((Q h_i)·(K h_j) / √d) V h_j; zero for the
    first utterance.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))

    def forward(self, hidden_BTd: Tensor) -> Tensor:
        """[B, T, d]. Padding needs no mask: it never comes before a real utterance."""
        steps, dim = hidden_BTd.shape[1:]
        earlier_TT = torch.ones(steps, steps, dtype=torch.bool, device=hidden_BTd.device).tril(diagonal=-1)
        scores_BTT = self.query(hidden_BTd) @ self.key(hidden_BTd).transpose(1, 2) / math.sqrt(dim)
        # The lowest finite number, not -inf: the first row has no j, and its softmax would be NaN before it is set to
        # 0.
        weights_BTT = (
            scores_BTT.masked_fill(~earlier_TT, torch.finfo(scores_BTT.dtype).min)
            .softmax(dim=-1)
            .masked_fill(~earlier_TT, 0.0)
        )
        pooled_BTd: Tensor = weights_BTT @ self.value(hidden_BTd)
        return pooled_BTd
