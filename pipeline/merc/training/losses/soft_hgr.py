"""Soft-HGR: correlates the features of two modalities of an utterance, one by one, without making the features copies
of one another.

    L(f, g) = -( E[f(X)ᵀ g(Y)] - ½ tr(cov f(X) · cov g(Y)) ),   E f = E g = 0

Its minimum over D features is -½ Σ_k σ_k², where σ_k are the D largest correlations that features of X and of Y can
have (the first is the Hirschfeld-Gebelein-Rényi maximal correlation): never below -½ D, and 0 where X and Y are
unrelated. The second inner product replaces HGR's whitening.

Source: Wang et al., An Efficient Approach to Informative Feature Extraction from Multimodal Data, AAAI 2019 (arXiv
1811.08979), which sums over all pairs of modalities; here the mean is taken. Means and covariances are those of the
batch, with denominator n - 1, over the n utterances in which both modalities are present.

MultiEMO (Shi and Huang, ACL 2023) trains with it. In its code (TaoShi1998/MultiEMO) features are not centred; the
covariances are those of utterances over the features instead of those of features over the utterances, which penalises
what the first term rewards; and the loss is divided by the number of utterances a second time. A loss weight from that
code must therefore be divided by the number of utterances in its batch.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.losses.engine.adapters import common_space
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.losses.engine.contrastive import counted_rows
from merc.training.losses.engine.kernel import at_least_float32
from merc.training.models.engine.base import MERCOutput
from merc.training.models.engine.common import real_rows


class SoftHGRLoss(nn.Module):
    """The mean of L over pairs of modalities; a pair with fewer than two common utterances costs 0.

    Example:
        >>> f_ND = torch.tensor([[1.0], [0.0], [-1.0]])
        >>> SoftHGRLoss()({"text": f_ND, "audio": f_ND + 5.0})
        tensor(-0.5000)
    """

    def forward(self, features: Mapping[str, Tensor], *, mask: Mapping[str, Tensor] | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            features: modality → [N, D], or [B, T, D], one shape for all; equal positions are the same utterance.
            mask: modality → bool [N] or [B, T], whether it is present; None: everywhere.

        Returns:
            A scalar, in float32 or float64; exactly 0 if there is no pair.

        Raises:
            ValueError: if there is no modality or shapes do not fit.
        """
        shapes = {name: tuple(values.shape) for name, values in features.items()}
        if len(set(shapes.values())) != 1:
            raise ValueError(f"the modalities must have one shape, not {shapes}")
        rows = [counted_rows(values, None if mask is None else mask[name]) for name, values in features.items()]
        with torch.autocast(rows[0][0].device.type, enabled=False):
            f_MND = at_least_float32(torch.stack([f_ND for f_ND, _, _ in rows]))
            pairs = combinations(zip(f_MND, [counted_N for _, _, counted_N in rows], strict=True), 2)
            terms = [_of_pair(f_ND, g_ND, f_there_N & g_there_N) for (f_ND, f_there_N), (g_ND, g_there_N) in pairs]
            return torch.stack(terms).mean() if terms else f_MND.sum() * 0.0


def _of_pair(f_ND: Tensor, g_ND: Tensor, both_N: Tensor) -> Tensor:
    """L over the utterances with both modalities."""
    count = both_N.sum()
    freedom = (count - 1).clamp(min=1)
    f_ND, g_ND = (_centred(values_ND, both_N, count) for values_ND in (f_ND, g_ND))
    of_f_DD, of_g_DD = (values_ND.T @ values_ND / freedom for values_ND in (f_ND, g_ND))
    return (of_f_DD * of_g_DD).sum() / 2 - (f_ND * g_ND).sum() / freedom


def _centred(values_ND: Tensor, counted_N: Tensor, count: Tensor) -> Tensor:
    """The rows that count minus their mean; zeros for the others."""
    out_N1 = ~counted_N[:, None]
    mean_D = values_ND.masked_fill(out_N1, 0.0).sum(dim=0) / count.clamp(min=1)
    return (values_ND - mean_D).masked_fill(out_N1, 0.0)


class SoftHGR(MERCLoss):
    """:class:`SoftHGRLoss` over the batch's utterances, labelled or not: on :attr:`MERCOutput.aligned`, or on
    :attr:`MERCOutput.unimodal` if the model has none.

    With one modality there is no pair, and the term is 0.

    Raises:
        BadSettings: if the modalities' widths differ and there is no projection.
    """

    class Config(Settings):
        """Settings of Soft-HGR between modalities."""

        projection_units: int = Field(default=128, ge=0)
        """D, width of the space into which f and g map, one for each modality; 0: no maps, if all widths are the
        same.
        """

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        self.of_aligned = facts.gives.aligned is not None
        dims = {
            name: dim if facts.gives.aligned is None else facts.gives.aligned
            for name, dim in facts.gives.unimodal.items()
        }
        self.project = common_space(dims, config.projection_units, "soft_hgr")
        self.loss = SoftHGRLoss()

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        given = output.aligned if self.of_aligned else output.unimodal
        features = {name: project(real_rows(given[name], batch)) for name, project in self.project.items()}
        value: Tensor = self.loss(
            features, mask={name: real_rows(batch.modality_mask[name], batch) for name in features}
        )
        return value
