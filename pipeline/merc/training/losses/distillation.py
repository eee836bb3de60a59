"""Knowledge distillation: weaker modalities learn from the output of a stronger one.

On scores, ``dist``: Huang et al., Knowledge Distillation from a Stronger Teacher, NeurIPS 2022, as TelME (Yun et al.,
NAACL 2024) uses it: the correlation of student and teacher in each row (over classes) and in each class (over rows).
``hinton``: Hinton et al., 2015, τ² KL(teacher ‖ student).
On representations: TelME's similarity of rows, KL(softmax_j(t_i · t_j / T) ‖ softmax_j(t_i · s_j / T)).
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from merc.errors import BadSettings, nearest
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.losses.engine.contrastive import counted_rows
from merc.training.losses.engine.kernel import at_least_float32, pair_logits, reduced
from merc.training.models.engine.base import MERCOutput
from merc.training.models.engine.common import real_rows

Kind = Literal["dist", "hinton"]

FUSED = "fused"
"""The teacher that is not a modality: the model's own prediction."""


class DistillationLoss(nn.Module):
    """Student scores against teacher scores; the teacher gets no gradient unless requested.

    Args:
        kind: ``dist``: τ² [(1 - mean over rows of ρ) + (1 - mean over classes of ρ)], ρ Pearson's correlation of the
            probabilities softened by τ, 0 if one of the two is constant; ``hinton``: τ² KL(teacher ‖ student), mean
            over rows.
        temperature: τ.
        detach_teacher: False: the teacher is also pulled towards the student.

    Raises:
        ValueError: if there is no such kind or the temperature is not above 0.

    Example:
        >>> logits = torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 1.0]])
        >>> DistillationLoss(kind="hinton")(logits, teacher=logits)
        tensor(0.)
    """

    def __init__(self, *, kind: Kind = "dist", temperature: float = 1.0, detach_teacher: bool = True) -> None:
        super().__init__()
        if kind not in ("dist", "hinton") or not temperature > 0:
            raise ValueError(
                f"the kind must be dist or hinton and the temperature above 0, not {kind!r} and {temperature}"
            )
        self.kind = kind
        self.temperature = temperature
        self.detach_teacher = detach_teacher

    def forward(self, student: Tensor, *, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            student: logits [N, C], or [B, T, C].
            teacher: the same.
            mask: bool [N] or [B, T], which rows count; None: all.

        Returns:
            A scalar; exactly 0 without a row.

        Raises:
            ValueError: if shapes do not fit.
        """
        if student.shape != teacher.shape:
            raise ValueError(
                f"student and teacher must have one shape, not {tuple(student.shape)} and {tuple(teacher.shape)}"
            )
        student_NC, _, counted_N = counted_rows(student, mask)
        teacher_NC, _, _ = counted_rows(teacher.detach() if self.detach_teacher else teacher, mask)
        square = self.temperature * self.temperature
        log_s_NC = (at_least_float32(student_NC) / self.temperature).log_softmax(dim=1)
        log_t_NC = (at_least_float32(teacher_NC) / self.temperature).log_softmax(dim=1)
        if self.kind == "hinton":
            divergence_N = (log_t_NC.exp() * (log_t_NC - log_s_NC)).sum(dim=1)
            return square * reduced(divergence_N.masked_fill(~counted_N, 0.0), counted_N, "mean")
        s_NC, t_NC = log_s_NC.exp(), log_t_NC.exp()
        rows = 1 - reduced(
            _correlation(s_NC, t_NC, torch.ones_like(s_NC), 1).masked_fill(~counted_N, 0.0), counted_N, "mean"
        )
        classes = 1 - _correlation(s_NC, t_NC, counted_N[:, None].expand_as(s_NC).to(s_NC.dtype), 0).mean()
        return square * (rows + classes).masked_fill(~counted_N.any(), 0.0)


def _correlation(a: Tensor, b: Tensor, weights: Tensor, dim: int) -> Tensor:
    """Pearson's correlation along a dimension over the entries with weight 1; 0 if one side is constant."""
    n = weights.sum(dim=dim, keepdim=True).clamp(min=1)
    a, b = ((x - (x * weights).sum(dim=dim, keepdim=True) / n) * weights for x in (a, b))
    lengths: Tensor = torch.linalg.vector_norm(a, dim=dim) * torch.linalg.vector_norm(b, dim=dim)
    return (a * b).sum(dim=dim) / (lengths + 1e-8)


class FeatureDistillationLoss(nn.Module):
    """Compares the similarities of the teacher's rows with the student's to those among the teacher's own; the teacher
    gets no gradient.

    Args:
        temperature: T, by which cosines are divided.

    Raises:
        ValueError: if the temperature is not above 0.
    """

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"the temperature must be above 0, not {temperature}")
        self.temperature = temperature

    def forward(self, student: Tensor, *, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            student: [N, D], or [B, T, D].
            teacher: the same.
            mask: bool [N] or [B, T], which rows count; None: all.

        Returns:
            A scalar, mean over rows; exactly 0 without a row.

        Raises:
            ValueError: if shapes do not fit.
        """
        if student.shape != teacher.shape:
            raise ValueError(
                f"student and teacher must have one shape, not {tuple(student.shape)} and {tuple(teacher.shape)}"
            )
        student_ND, _, counted_N = counted_rows(student, mask)
        teacher_ND, _, _ = counted_rows(teacher.detach(), mask)
        out_NN = ~(counted_N | ~counted_N[:, None])  # rows that do not count see all others, which keeps them finite
        log_t_NN, log_s_NN = (
            pair_logits(teacher_ND, other_ND, temperature=self.temperature)
            .masked_fill(out_NN, float("-inf"))
            .log_softmax(dim=1)
            for other_ND in (teacher_ND, student_ND)
        )
        divergence_N = (log_t_NN.exp() * (log_t_NN - log_s_NN).masked_fill(out_NN, 0.0)).sum(dim=1)
        return reduced(divergence_N.masked_fill(~counted_N, 0.0), counted_N, "mean")


class Distillation(MERCLoss):
    """Compares every other modality's own logits with the teacher's, which learns from the other terms or has been
    trained before; mean over students.

    The batch's utterances count, labelled or not, where the student's modality is present, and the teacher's if it is
    one. SDT (Ma et al., IEEE TMM 2024) sums the divergences of its three students, without τ²: ``hinton`` with
    ``teacher: fused`` and the weight 3 / τ².

    With the teacher ``fused``, a model of one modality is its own teacher: the divergence is 0.

    Raises:
        BadSettings: if the model does not have the teacher or any other modality, or if representations are compared
            and their widths differ.
    """

    class Config(Settings):
        """Settings of the distillation within a model."""

        teacher: str = "text"
        """Whose logits and representation the modalities follow: another modality, or ``fused``, the model's own
        prediction (the self-distillation of SDT).
        """
        kind: Kind = "dist"
        """``dist``: correlations of probabilities; ``hinton``: their Kullback-Leibler divergence."""
        temperature: float = Field(default=2.0, gt=0)
        """τ, which softens the probabilities of teacher and students."""
        feature_weight: float = Field(default=0.0, ge=0)
        """Weight of the loss on representations, which all need the same width then; 0: none."""
        feature_temperature: float = Field(default=1.0, gt=0)
        """T, by which the cosines of representations are divided."""
        legacy_teacher_gradient: bool = False
        """Whether scores also pull the teacher towards the students, as in SDT's code."""

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        dims = dict(facts.gives.unimodal)
        self.teacher = config.teacher
        self.students = [name for name in dims if name != config.teacher]
        if not self.students or config.teacher not in (*dims, FUSED):
            raise BadSettings(
                f"losses.distillation.teacher {config.teacher!r} needs to be one of at least two modalities, or"
                f" {FUSED}; {nearest(config.teacher, [*dims, FUSED])}"
            )
        if config.teacher == FUSED:
            dims[FUSED] = facts.gives.hidden
        if config.feature_weight and len(set(dims.values())) > 1:
            raise BadSettings(
                f"the representations differ in width, {dims}: losses.distillation.feature_weight must be 0"
            )
        self.feature_weight = config.feature_weight
        self.response = DistillationLoss(
            kind=config.kind, temperature=config.temperature, detach_teacher=not config.legacy_teacher_gradient
        )
        self.feature = FeatureDistillationLoss(temperature=config.feature_temperature)

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        own = output.unimodal_logits
        if not own and self.teacher == FUSED and len(self.students) == 1:
            own = {self.students[0]: output.logits}
        if not own:
            raise BadSettings("the distillation needs a model with logits of each modality")
        logits = {name: real_rows(logits_BTC, batch) for name, logits_BTC in {**own, FUSED: output.logits}.items()}
        vectors = {
            name: real_rows(values_BTD, batch) for name, values_BTD in {**output.unimodal, FUSED: output.hidden}.items()
        }
        taught_BT = batch.modality_mask.get(self.teacher, batch.utterance_mask)
        terms = []
        for name in self.students:
            both_N = real_rows(batch.modality_mask[name] & taught_BT, batch)
            term = self.response(logits[name], teacher=logits[self.teacher], mask=both_N)
            if self.feature_weight:
                term = term + self.feature_weight * self.feature(
                    vectors[name], teacher=vectors[self.teacher], mask=both_N
                )
            terms.append(term)
        return torch.stack(terms).mean()
