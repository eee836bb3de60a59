"""InfoNCE: a vector of one view must be recognised among all vectors of the other view.

van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018, eq. 4; symmetric and with cosines
as in Radford et al., CLIP, ICML 2021. Here the views are two modalities of the same utterance.
"""

from itertools import combinations
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from merc.errors import BadSettings
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.losses.engine.adapters import common_space
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.losses.engine.contrastive import ContrastiveLoss
from merc.training.losses.engine.kernel import Reduction, Similarity
from merc.training.models.engine.base import MERCOutput
from merc.training.models.engine.common import real_rows


class InfoNCELoss(ContrastiveLoss):
    """-ln softmax_j(s(a_i, b_j) / τ)_i, the mean of both directions.

    Args:
        temperature: τ.
        symmetric: False: only a → b.
        similarity: ``cosine`` or ``dot``.
        reduction: ``mean`` over rows, ``sum`` or ``none``.
        debug: raise an error if a vector is not finite.

    Example:
        >>> views = torch.eye(2), torch.zeros(2, 2)
        >>> InfoNCELoss()(views=views)
        tensor(0.6931)
    """

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        symmetric: bool = True,
        similarity: Similarity = "cosine",
        reduction: Reduction = "mean",
        debug: bool = False,
    ) -> None:
        super().__init__(temperature=temperature, form="out", similarity=similarity, reduction=reduction, debug=debug)
        self.symmetric = symmetric

    def forward(self, *, views: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            views: a and b, [N, D] or [B, T, D] each; equal positions belong together.
            mask: bool [N] or [B, T], whether both views are present; None: everywhere.

        Returns:
            A scalar; [N], or [B · T], for the reduction ``none``; a single row costs exactly 0.

        Raises:
            ValueError: if shapes do not fit.
        """
        a, b = views
        if a.shape != b.shape:
            raise ValueError(f"the views must have one shape, not {tuple(a.shape)} and {tuple(b.shape)}")
        a_ND, _, counted_N = self.rows(a, mask)
        b_ND, _, _ = self.rows(b, mask)
        logits_NN, pos_NN, cand_NN = self.pairs(a_ND, b_ND, counted_N)
        there = self.reduce(logits_NN, pos_NN, cand_NN)
        return (there + self.reduce(logits_NN.T, pos_NN, cand_NN)) / 2 if self.symmetric else there

    def pairs(self, a_ND: Tensor, b_ND: Tensor, counted_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of a → b, positives and candidates, [N, N] each; both masks are symmetric."""
        return self.logits(a_ND, b_ND), torch.diag(counted_N), counted_N[:, None] & counted_N


class InfoNCE(MERCLoss):
    """:class:`InfoNCELoss` between the modalities' own representations of the batch's utterances, labelled or not; mean
    over all pairs of modalities.

    An utterance counts in a pair if both modalities are present.

    Raises:
        BadSettings: if there is only one modality, or the widths differ and there is no projection.
    """

    class Config(Settings):
        """Settings of InfoNCE between modalities."""

        temperature: float = Field(default=0.1, gt=0)
        """τ of the softmax over the other modality's vectors."""
        projection_units: int = Field(default=128, ge=0)
        """Width of the space into which every modality is projected; 0: none, if all modalities have the same width."""

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        dims = dict(facts.gives.unimodal)
        if len(dims) < 2:
            raise BadSettings(
                f"info_nce compares modalities, but the model has only {', '.join(dims) or 'none'}; leave it out of"
                " the recipe"
            )
        self.project = common_space(dims, config.projection_units, "info_nce")
        self.loss = InfoNCELoss(temperature=config.temperature)

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        views = {name: project(real_rows(output.unimodal[name], batch)) for name, project in self.project.items()}
        present = {name: real_rows(batch.modality_mask[name], batch) for name in views}
        return torch.stack(
            [self.loss(views=(views[a], views[b]), mask=present[a] & present[b]) for a, b in combinations(views, 2)]
        ).mean()
