"""Inter-dialogue contrastive learning (IDCL): dialogues that are similar in one modality become similar in the others.

Lee, Kim and Choi, ICASSP 2026, eq. 4 (neighbours) and eq. 5 (loss), as in their published code. If the code and the
equations differ, or the code is wrong, this is computed here:

- A dialogue's own pair is neither a positive nor in the denominator (as in the code; eq. 5 has it in the denominator:
  ``include_self``).
- The mean over dialogues, not the sum.
- The logarithms of sums are exact. The code adds 1e-8 after subtracting a maximum that includes the own pair, which
  hides all other pairs at small temperatures (its value at τ = 0.1 is off by 0.5 %, its gradient at τ = 0.02 is zero).
- Dialogues are pooled over real utterances; the code averages over padding too.
- With K ≥ B - 1 neighbours in a batch of B every other dialogue is a positive, and the loss is 0 whatever the model
  does. K is therefore limited to half of the others (``k_cap``).
"""

from collections.abc import Mapping
from itertools import permutations
from statistics import fmean
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.stats import spearmanr
from torch import Tensor

from merc.compute import masked
from merc.errors import BadSettings
from merc.log import logger
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.losses.engine.contrastive import ContrastiveLoss
from merc.training.losses.engine.kernel import Reduction, Similarity, at_least_float32, off_diagonal
from merc.training.models.engine.base import MERCModel, MERCOutput

_OBSERVED_DIALOGUES = 256  # enough for the correlation, which is computed every epoch


def masked_mean(features_BTD: Tensor, mask_BT: Tensor, position_codes_TD: Tensor | None = None) -> Tensor:
    """Each dialogue's mean over some of its utterances.

    Args:
        features_BTD: [B, T, D].
        mask_BT: bool [B, T], the utterances to use.
        position_codes_TD: [T, D], what a model has added to the features for their positions, which is subtracted
            again. The mean of such codes reveals a dialogue's length, and dialogues of equal length would count as
            similar.

    Returns:
        [B, D], float32 or float64; zero if there is no utterance.

    Example:
        >>> masked_mean(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]]), torch.tensor([[True, True, False]]))
        tensor([[0.5000, 0.5000]])
    """
    if position_codes_TD is not None:
        features_BTD = features_BTD - position_codes_TD
    return masked.masked_mean(at_least_float32(features_BTD), mask_BT)


class InterDialogueLoss(ContrastiveLoss):
    """LSE over the other dialogues - LSE over the neighbours, of similarities in one modality, the neighbours found in
    another without gradient.

    Called with two modalities, ``loss(audio, text)``, like the authors' code: neighbours in the first, the loss in the
    second. Called as ``loss(pooled=…)``, it is the mean over all ordered pairs of modalities: two give both directions,
    three give six. A single modality finds its own neighbours, and pulls the nearest closer. Neighbours from elsewhere
    (an index of emotion trajectories) apply to all modalities; the mean is then over modalities.

    Args:
        k: K, neighbours of a dialogue, nearest first; ties are broken by the order in the batch.
        temperature: τ.
        k_cap: limit K to half of the other dialogues of the batch, ⌊(B - 1) / 2⌋, where B excludes dialogues without
            the modality.
        include_self: include the own pair in the denominator.
        strict: raise ``ValueError`` for a batch of fewer than two dialogues.
        similarity: ``cosine`` or ``dot``.
        reduction: ``mean`` over dialogues with a neighbour, ``sum`` or ``none``.
        debug: raise an error if a vector is not finite.

    Attributes:
        warned: whether it was already logged that the loss is 0.

    Raises:
        ValueError: if K or the temperature is not above 0.

    Example:
        >>> loss = InterDialogueLoss(k=1, temperature=1.0)
        >>> audio = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, -0.8]])
        >>> text = torch.tensor([[0.0, 1.0], [0.6, 0.8], [1.0, 0.0], [0.8, -0.6]])
        >>> loss(pooled={"audio": audio, "text": text})
        tensor(1.0774)
        >>> loss(audio, text)
        tensor(1.0736)
    """

    def __init__(
        self,
        *,
        k: int = 15,
        temperature: float = 0.1,
        k_cap: bool = True,
        include_self: bool = False,
        strict: bool = False,
        similarity: Similarity = "cosine",
        reduction: Reduction = "mean",
        debug: bool = False,
    ) -> None:
        super().__init__(
            temperature=temperature, form="in_sum", similarity=similarity, reduction=reduction, debug=debug
        )
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        self.k = k
        self.k_cap = k_cap
        self.include_self = include_self
        self.strict = strict
        self.warned = False

    def forward(
        self,
        anchor: Tensor | None = None,
        other: Tensor | None = None,
        *,
        pooled: Mapping[str, Tensor] | None = None,
        mask: Mapping[str, Tensor] | Tensor | None = None,
        neighbours: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch of dialogues: in one direction, of ``anchor`` and ``other``, or in all, of ``pooled``.

        Args:
            anchor: [B, D] or [B, T, D], as below: the modality in which neighbours are searched.
            other: the same for the modality whose vectors are pulled together; its D may differ.
            pooled: modality → [B, D_m], one vector per dialogue; or [B, T, D_m], to be averaged over the utterances of
                ``mask``.
            mask: modality → bool [B], which dialogues have the modality; or bool [B, T], which utterances. One tensor:
                of all modalities. None: all.
            neighbours: bool [B, B], row i marks the neighbours of dialogue i, instead of the nearest by features.

        Returns:
            A scalar, or [B] for the reduction ``none``; never negative. Exactly 0, with one warning, if the batch is
            too small.

        Raises:
            ValueError: if shapes do not fit, there is no modality, only one of ``anchor`` and ``other`` is given, or
                these with ``pooled`` or ``neighbours``, or ``strict`` and the batch has fewer than two dialogues.
        """
        if anchor is not None or other is not None:
            if anchor is None or other is None or pooled is not None or neighbours is not None:
                raise ValueError("expected two tensors, anchor and other, or else pooled")
            pooled = {"anchor": anchor, "other": other}
        if not pooled:
            raise ValueError("there is no modality")
        vectors, present = {}, {}
        for name, values in pooled.items():
            vectors[name], present[name] = self._dialogues(values, mask[name] if isinstance(mask, Mapping) else mask)
        dialogues = {len(values_BD) for values_BD in vectors.values()}
        if len(dialogues) > 1 or (neighbours is not None and neighbours.shape != (max(dialogues),) * 2):
            shapes = {name: tuple(values.shape) for name, values in pooled.items()}
            raise ValueError(
                f"the modalities have {shapes}, the neighbours"
                f" {None if neighbours is None else tuple(neighbours.shape)}"
            )
        self._check_size(dialogues.pop(), given=neighbours is not None)
        if anchor is not None:
            sides = [("other", self.nearest(vectors["anchor"], present["anchor"]))]
        elif neighbours is not None:
            sides = [(name, neighbours) for name in vectors]
        else:
            nearest = {name: self.nearest(values_BD, present[name]) for name, values_BD in vectors.items()}
            sides = [(other, nearest[name]) for name, other in permutations(vectors, 2)] or [
                (name, nearest[name]) for name in vectors
            ]
        terms, valid = [], []
        for name, neighbours_BB in sides:
            terms.append(self.reduce(*self.pairs(vectors[name], present[name], neighbours_BB)))
            valid.append(self.valid)
        self.valid = torch.stack(valid).any(dim=0)
        return torch.stack(terms).mean(dim=0)

    def pairs(self, values_BD: Tensor, present_B: Tensor, neighbours_BB: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, positives and candidates in one modality, [B, B] each."""
        both_BB = present_B[:, None] & present_B
        others_BB = both_BB & off_diagonal(len(present_B), present_B.device)
        return self.logits(values_BD, values_BD), neighbours_BB & others_BB, both_BB if self.include_self else others_BB

    @torch.no_grad()
    def nearest(self, values_BD: Tensor, present_B: Tensor) -> Tensor:
        """bool [B, B]: the K nearest of each dialogue that has the modality (eq. 4), without gradient."""
        size = len(present_B)
        others_BB = present_B[:, None] & present_B & off_diagonal(size, present_B.device)
        order_BB = (
            self.logits(values_BD, values_BD)
            .masked_fill(~others_BB, float("-inf"))
            .argsort(dim=1, descending=True, stable=True)
        )
        rank_B = torch.arange(size, device=present_B.device)
        kept_B = rank_B < self.k
        if self.k_cap:
            kept_B = kept_B & (rank_B < (present_B.sum() - 1) // 2)
        return torch.zeros_like(others_BB).scatter(1, order_BB, kept_B.expand(size, size)) & others_BB

    def _dialogues(self, values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Vectors [B, D] and bool [B], which dialogues count; pools where values are [B, T, D]."""
        if values.ndim == 3:
            mask_BT = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device) if mask is None else mask
            if mask_BT.shape != values.shape[:2]:
                raise ValueError(
                    f"the mask must be {tuple(values.shape[:2])} for vectors of {tuple(values.shape)}, not"
                    f" {tuple(mask_BT.shape)}"
                )
            values, mask = masked_mean(values, mask_BT), mask_BT.any(dim=1)
        values_BD, _, present_B = self.rows(values, mask)
        return values_BD, present_B

    def _check_size(self, size: int, given: bool) -> None:
        """Raises or warns if a batch of ``size`` dialogues cannot have a loss other than 0."""
        if self.strict and size < 2:
            raise ValueError(f"a batch of {size} dialogues has no pair of dialogues")
        k = min(self.k, (size - 1) // 2) if self.k_cap else self.k
        inert = size < 2 or (not given and (k < 1 or (k >= size - 1 and not self.include_self)))
        if inert and not self.warned:
            self.warned = True
            logger.warning(
                "the inter-dialogue loss of a batch of %d dialogues with %d neighbours each%s is 0: too few dialogues."
                " This is logged once.",
                size,
                self.k,
                ", cut to half of the others," if self.k_cap else "",
            )


class InterDialogue(MERCLoss):
    """:class:`InterDialogueLoss` on :attr:`MERCOutput.pooled`, or on the mean of :attr:`MERCOutput.unimodal` if the
    model does not pool.

    Models that add position codes should pool without them (see :func:`masked_mean`). Dialogues in which a modality
    is never present are left out there.

    ``length_correlation`` shows whether pooling makes dialogues similar because they are equally long, which makes the
    loss easy without teaching anything: Spearman's correlation, over pairs of dialogues in an epoch's first batch, of
    their similarity with minus the difference of their lengths, the mean over modalities; 0 is harmless, 1 is a
    shortcut.
    """

    class Config(Settings):
        """Settings of IDCL."""

        neighbours_from: Literal["features", "trajectory"] = "features"
        """``features``: the nearest dialogues of the batch; ``trajectory``: those of the recipe's index of emotion
        trajectories that are in the batch, for batches in which neighbours meet."""
        k: int = Field(default=15, ge=1)
        """K, neighbours of a dialogue."""
        temperature: float = Field(default=0.1, gt=0)
        """τ, by which the cosines of two dialogues are divided."""
        k_cap: bool = True
        """Cut K to half of the other dialogues of the batch."""
        include_self: bool = False
        """Put a dialogue's own pair into the denominator, as in eq. 5, but not in the published code."""
        strict: bool = False
        """Raise an error for a batch of fewer than two dialogues."""

    needs_pooled = True
    observes = ("length_correlation",)
    acted: Tensor

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        self.k = config.k
        self.by_trajectory = config.neighbours_from == "trajectory"
        self.loss = InterDialogueLoss(
            k=config.k,
            temperature=config.temperature,
            k_cap=config.k_cap,
            include_self=config.include_self,
            strict=config.strict,
        )
        self.register_buffer("acted", torch.ones((), dtype=torch.bool), persistent=False)
        self._first: tuple[dict[str, Tensor], dict[str, Tensor], Tensor] | None = None

    def begin_epoch(self, epoch: int, model: MERCModel, generator: torch.Generator) -> None:
        """Warns once if no dialogue met a neighbour in the whole previous epoch. Checked here, since checking means
        waiting for the GPU.
        """
        if epoch and not self.loss.warned and not bool(self.acted):
            self.loss.warned = True
            logger.warning(
                "the inter-dialogue loss was 0 for a whole epoch: no batch held a dialogue with its neighbour. This is"
                " logged once."
            )
        self.acted.zero_()
        self._first = None

    def observed(self) -> dict[str, float | None]:
        if self._first is None:
            return {}
        pooled, present, lengths_B = self._first
        found = [
            _length_correlation(values_BD[present[name]], lengths_B[present[name]])
            for name, values_BD in pooled.items()
        ]
        known = [value for value in found if value is not None]
        return {"length_correlation": fmean(known) if known else None}

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        there = batch.modality_mask
        pooled = output.pooled or {
            name: masked_mean(values_BTD, there[name] & batch.utterance_mask)
            for name, values_BTD in output.unimodal.items()
        }
        present = {name: (there[name] & batch.utterance_mask).any(dim=1) for name in pooled}
        value: Tensor = self.loss(
            pooled=pooled, mask=present, neighbours=self._by_trajectory(batch) if self.by_trajectory else None
        )
        self.acted.logical_or_(self.loss.valid.any())
        if self._first is None:
            shown = slice(0, _OBSERVED_DIALOGUES)
            vectors = {name: values_BD[shown].detach() for name, values_BD in pooled.items()}
            self._first = vectors, {name: there_B[shown] for name, there_B in present.items()}, batch.lengths[shown]
        return value

    def _by_trajectory(self, batch: DialogueBatch) -> Tensor:
        """bool [B, B]: which dialogues of the batch are among a dialogue's K nearest of the whole split."""
        if batch.neighbours is None:
            raise BadSettings(
                "losses.inter_dialogue.neighbours_from is trajectory, but the recipe names no similarity of"
                " trajectories"
            )
        return (batch.neighbours[:, : self.k, None] == batch.dialogue_index).any(dim=1)


def _length_correlation(pooled_BD: Tensor, lengths_B: Tensor) -> float | None:
    """Correlation of the pairs' cosines with minus the difference of their lengths; None if all pairs are equal in one
    of the two, or there is no pair.
    """
    unit_BD = torch.nn.functional.normalize(at_least_float32(pooled_BD), dim=1)
    first, second = torch.triu_indices(len(unit_BD), len(unit_BD), offset=1, device=unit_BD.device)
    apart = (lengths_B[first] - lengths_B[second]).abs()
    cosines, nearness = (unit_BD @ unit_BD.T)[first, second].cpu().numpy(), -apart.cpu().numpy()
    if len(cosines) < 2 or np.ptp(cosines) == 0 or np.ptp(nearness) == 0:
        return None
    return float(spearmanr(cosines, nearness).statistic)
