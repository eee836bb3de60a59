"""Distillation compared with numpy, torch's own divergence and tabulated numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merc.errors import BadSettings
from merc.training.losses.distillation import Distillation, DistillationLoss, FeatureDistillationLoss
from merc.training.losses.engine.base import TrainingFacts
from merc.training.models.engine.base import Gives

STUDENT = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.5, -0.5]], dtype=torch.float64)
TEACHER = torch.tensor([[2.0, 0.0, -2.0], [-1.0, 1.0, 0.0]], dtype=torch.float64)
Z = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-0.8, 0.6]], dtype=torch.float64)


def response(student, teacher, **settings):
    return DistillationLoss(**settings)(student, teacher=teacher)


@pytest.mark.parametrize(
    ("kind", "temperature", "expected"),
    [("dist", 1.0, 0.37698893), ("dist", 4.0, 7.44610780), ("hinton", 1.0, 0.19496956), ("hinton", 4.0, 0.35721081)],
)
def test_the_tabulated_numbers(kind, temperature, expected):
    assert response(STUDENT, TEACHER, kind=kind, temperature=temperature).item() == pytest.approx(expected, abs=1e-6)
    # τ² and the mean correlation's distance from 1 lose a digit in float32.
    assert response(STUDENT.float(), TEACHER.float(), kind=kind, temperature=temperature).item() == pytest.approx(
        expected, abs=1e-4
    )


def test_the_tabulated_number_of_representations():
    assert FeatureDistillationLoss()(Z[:3], teacher=Z[1:]).item() == pytest.approx(0.07345530, abs=1e-6)
    assert FeatureDistillationLoss()(Z[:3].float(), teacher=Z[1:].float()).item() == pytest.approx(0.07345530, abs=1e-5)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_dist_is_numpys_correlation_of_rows_and_classes(seed):
    student, teacher = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3
    s, t = ((x / 2).softmax(dim=1).numpy() for x in (student, teacher))
    rows = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(s, t, strict=True)])
    classes = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(s.T, t.T, strict=True)])
    assert response(student, teacher, temperature=2.0).item() == pytest.approx(
        4 * (2 - rows - classes), abs=1e-4
    )  # the 1e-8 that keeps it finite


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_hinton_is_torchs_divergence(seed):
    student, teacher = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = 9 * torch.nn.functional.kl_div(
        (student / 3).log_softmax(1), (teacher / 3).softmax(1), reduction="batchmean"
    )
    torch.testing.assert_close(response(student, teacher, kind="hinton", temperature=3.0), expected)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_likeness_of_rows_is_torchs_divergence(seed):
    student, teacher = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    s, t = torch.nn.functional.normalize(student), torch.nn.functional.normalize(teacher)
    expected = torch.nn.functional.kl_div(
        (t @ s.T / 0.5).log_softmax(1), (t @ t.T / 0.5).softmax(1), reduction="batchmean"
    )
    torch.testing.assert_close(FeatureDistillationLoss(temperature=0.5)(student, teacher=teacher), expected)


LOSSES = {
    "dist": DistillationLoss(temperature=2.0),
    "hinton": DistillationLoss(kind="hinton", temperature=2.0),
    "feature": FeatureDistillationLoss(),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))


@every_loss
def test_rows_that_do_not_count_change_nothing_whatever_is_in_them(loss):
    student, teacher = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mask = torch.tensor([True, True, False, True, True, False])
    expected = loss(student[mask], teacher=teacher[mask])
    student[~mask] = teacher[~mask] = float("nan")
    student.requires_grad_()
    value = loss(student.view(2, 3, 3), teacher=teacher.view(2, 3, 3), mask=mask.view(2, 3))
    value.backward()
    torch.testing.assert_close(value.detach(), expected)
    assert torch.isfinite(student.grad).all()
    assert not student.grad[~mask].any()


@every_loss
@pytest.mark.parametrize("rows", [0, 2])
def test_without_a_row_it_costs_exactly_nothing(loss, rows):
    student = torch.randn(rows, 3, requires_grad=True)
    value = loss(student, teacher=torch.randn(rows, 3), mask=torch.zeros(rows, dtype=torch.bool))
    value.backward()
    assert value.item() == 0.0
    assert not student.grad.any()


@every_loss
def test_the_teacher_gets_no_gradient_and_a_student_that_is_the_teacher_costs_nothing(loss):
    teacher = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    student = teacher.detach().clone().requires_grad_()
    value = loss(student, teacher=teacher)
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-5)
    assert teacher.grad is None


@every_loss
def test_gradients_agree_with_finite_differences(loss):
    student, teacher = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher=teacher), student.requires_grad_())


@every_loss
def test_equal_rows_have_finite_gradients(loss):
    student = torch.ones(3, 3, requires_grad=True)
    loss(student, teacher=torch.ones(3, 3)).backward()
    assert torch.isfinite(student.grad).all()


def test_what_cannot_be_is_refused(facts):
    with pytest.raises(ValueError, match=r"'soft' and 1\.0"):
        DistillationLoss(kind="soft")
    with pytest.raises(ValueError, match="above 0"):
        FeatureDistillationLoss(temperature=0.0)
    for loss in LOSSES.values():
        with pytest.raises(ValueError, match=r"\(2, 3\) and \(1, 3\)"):
            loss(STUDENT, teacher=TEACHER[:1])
    with pytest.raises(
        BadSettings, match="'txt' needs to be one of at least two modalities, or fused; did you mean 'text'"
    ):
        build(facts, teacher="txt")
    with pytest.raises(BadSettings, match="did you mean 'fused'"):
        build(facts, teacher="fussed")
    with pytest.raises(BadSettings, match="at least two"):
        build(TrainingFacts(class_counts=facts.class_counts, gives=Gives(hidden=4, unimodal={"text": 4})))
    with pytest.raises(BadSettings, match="at least two"):
        build(TrainingFacts(class_counts=facts.class_counts, gives=Gives(hidden=4, unimodal={})), teacher="fused")
    with pytest.raises(BadSettings, match=r"'fused': 6.*feature_weight must be 0"):
        build(
            TrainingFacts(class_counts=facts.class_counts, gives=Gives(hidden=6, unimodal={"text": 4})),
            teacher="fused",
            feature_weight=1.0,
        )
    with pytest.raises(BadSettings, match="feature_weight must be 0"):
        build(facts, feature_weight=1.0)


def build(facts, **changes):
    return Distillation(Distillation.Config(**changes), facts)


def test_the_term_is_the_mean_over_students_where_both_modalities_are_present(make_batch, make_output, facts):
    batch = make_batch([5, 3, 6], pad_to=8)
    output = make_output(batch)
    terms = []
    for name in ("audio", "visual"):
        both = batch.modality_mask[name] & batch.modality_mask["text"]
        terms.append(
            response(output.unimodal_logits[name][both], output.unimodal_logits["text"][both], temperature=2.0)
        )
    torch.testing.assert_close(build(facts)(output, batch), sum(terms) / 2)
    output.unimodal_logits.clear()
    with pytest.raises(BadSettings, match="logits of each modality"):
        build(facts)(output, batch)


def test_representations_of_one_width_are_compared_too(make_batch, make_output, facts):
    batch = make_batch([5, 3, 6], pad_to=8)
    output = make_output(batch)
    for name in output.unimodal:
        output.unimodal[name] = torch.randn(*batch.labels.shape, 4)
    same = TrainingFacts(
        class_counts=facts.class_counts, gives=Gives(hidden=6, unimodal=dict.fromkeys(output.unimodal, 4))
    )
    feature = []
    for name in ("audio", "visual"):
        both = batch.modality_mask[name] & batch.modality_mask["text"]
        feature.append(FeatureDistillationLoss()(output.unimodal[name][both], teacher=output.unimodal["text"][both]))
    torch.testing.assert_close(
        build(same, feature_weight=0.5)(output, batch), build(same)(output, batch) + 0.5 * sum(feature) / 2
    )


@pytest.mark.parametrize("temperature", [1.0, 8.0])
def test_with_the_fused_teacher_it_is_the_self_distillation_of_sdt(make_batch, make_output, facts, temperature):
    """Ma et al., IEEE TMM 2024: the divergences of the three students from the whole model are summed over the
    utterances of the batch.
    """
    batch = make_batch([5, 3, 6], pad_to=8)
    batch = replace(batch, modality_mask=dict.fromkeys(batch.modality_mask, batch.utterance_mask))
    output = make_output(batch)
    teacher_N = (output.logits[batch.utterance_mask].double() / temperature).softmax(dim=1)
    expected = sum(
        torch.nn.functional.kl_div(
            (logits[batch.utterance_mask].double() / temperature).log_softmax(dim=1), teacher_N, reduction="batchmean"
        )
        for logits in output.unimodal_logits.values()
    )
    term = build(facts, teacher="fused", kind="hinton", temperature=temperature)
    torch.testing.assert_close(3 / temperature**2 * term(output, batch), expected.float())


@pytest.mark.parametrize("attached", [True, False])
def test_the_fused_teacher_is_drawn_to_its_students_only_on_request(make_batch, make_output, facts, attached):
    batch = make_batch([5, 3])
    output = make_output(batch)
    build(facts, teacher="fused", kind="hinton", legacy_teacher_gradient=attached)(output, batch).backward()
    assert (output.logits.grad is not None and bool(output.logits.grad.any())) is attached
    assert all(logits.grad.any() for logits in output.unimodal_logits.values())


def test_the_fused_teacher_teaches_only_where_a_modality_is_present(make_batch, make_output, facts):
    batch = make_batch([5, 3], pad_to=7)
    output = make_output(batch)
    build(facts, teacher="fused")(output, batch).backward()
    for name, logits in output.unimodal_logits.items():
        assert not logits.grad[~batch.modality_mask[name]].any()


def test_a_model_of_one_modality_is_its_own_teacher(make_batch, make_output, facts):
    batch = make_batch([4, 2], modalities=("text",))
    output = make_output(batch)
    output.unimodal_logits.clear()
    term = build(replace(facts, gives=replace(facts.gives, unimodal={"text": 4})), teacher="fused", kind="hinton")(
        output, batch
    )
    term.backward()
    assert term.item() == 0.0
    with pytest.raises(BadSettings, match="logits of each modality"):
        build(facts, teacher="fused")(output, batch)
