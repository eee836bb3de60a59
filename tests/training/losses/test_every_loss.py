"""What holds for every term that a recipe may name, with the settings of params.yaml."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from merc import plugins
from merc.params import Params
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.models.engine.base import MERCModel

PARAMS = Params.load(Path(__file__).resolve().parents[3] / "params.yaml")
TERMS = [
    "cross_entropy",
    "disentanglement",
    "distillation",
    "focal",
    "focal_contrastive",
    "info_nce",
    "inter_dialogue",
    "label_guided",
    "modality_contribution",
    "prototype",
    "soft_hgr",
    "spcl",
    "supcon",
    "true_class_probability",
]
# What gives a term that looks at more than most models offer.
GIVEN_BY = {"prototype": "df_erc", "true_class_probability": "df_erc"}
every_term = pytest.mark.parametrize("name", TERMS)


@pytest.fixture
def build(facts):
    def make(name, **changes):
        torch.manual_seed(0)
        kind = plugins.load("merc.training.losses", name, MERCLoss)
        return kind(PARAMS.fill(f"losses.{name}", kind.Config, **changes), facts)

    return make


@pytest.fixture
def batch(make_batch):
    return make_batch([5, 3, 6, 1, 4, 2], pad_to=8)


def leaves(output):
    by_modality = (output.unimodal, output.unimodal_logits, output.aligned, output.confidence)
    return [output.logits, output.hidden, *(values for part in by_modality for values in part.values())]


def each(output, change):
    """The output with its tensors changed."""
    parts = ("unimodal", "unimodal_logits", "aligned", "confidence")
    changed = {part: {key: change(values) for key, values in getattr(output, part).items()} for part in parts}
    return replace(output, logits=change(output.logits), hidden=change(output.hidden), **changed)


@every_term
def test_a_step_waits_for_no_gpu(name, build, batch, make_output, no_waiting):
    term, output = build(name), make_output(batch)
    with no_waiting(batch):
        for _ in range(2):
            term(output, batch, epoch=0, generator=torch.Generator()).backward()


@every_term
def test_padding_changes_nothing_whatever_the_model_says_there(name, build, batch, make_batch, make_output):
    bare = make_batch([5, 3, 6, 1, 4, 2])
    expected = build(name)(make_output(bare), bare)
    output = make_output(batch)
    with torch.no_grad():
        for values in leaves(output):
            values[~batch.utterance_mask] = float("nan")
    value = build(name)(output, batch)
    value.backward()
    torch.testing.assert_close(value, expected)
    touched = [values.grad for values in leaves(output) if values.grad is not None]
    assert touched
    for gradient in touched:
        assert torch.isfinite(gradient).all()
        assert not gradient[~batch.utterance_mask].any()


@every_term
def test_a_batch_in_which_it_cannot_act_costs_exactly_nothing_and_backward_runs(name, build, make_batch, make_output):
    batch = make_batch([1])
    batch = replace(batch, labels=torch.full_like(batch.labels, -1))
    output = make_output(batch)
    value = build(name)(output, batch)
    value.backward()
    assert value.shape == ()
    assert value.item() == 0.0
    assert not any(values.grad.any() for values in leaves(output) if values.grad is not None)


@every_term
def test_the_order_of_dialogues_changes_nothing(name, build, batch, make_output):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    output = make_output(batch)
    turned_batch = replace(
        batch,
        **{key: getattr(batch, key)[order] for key in ("utterance_mask", "speakers", "labels", "lengths", "dialogue_index", "utterance_index")},
        features={key: values[order] for key, values in batch.features.items()},
        modality_mask={key: values[order] for key, values in batch.modality_mask.items()},
        dialogue_ids=tuple(batch.dialogue_ids[index] for index in order),
    )
    turned = each(output, lambda values: values[order])
    torch.testing.assert_close(build(name)(turned, turned_batch), build(name)(output, batch))


@every_term
def test_it_is_a_float32_scalar_also_where_the_model_computes_in_half_precision(name, build, batch, make_output):
    output = make_output(batch)
    halves = each(output, torch.Tensor.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = build(name)(halves, batch)
    assert value.dtype == torch.float32
    assert value.shape == ()
    torch.testing.assert_close(value, build(name)(output, batch), rtol=0.1, atol=0.1)


@every_term
def test_it_trains_a_model_that_comes_with_the_pipeline(name, batch):
    torch.manual_seed(0)
    dims = {modality: values.shape[2] for modality, values in batch.features.items()}
    model_name = GIVEN_BY.get(name, "context_gru")
    model_kind = plugins.load("merc.training.models", model_name, MERCModel)
    model = model_kind(PARAMS.fill(f"models.{model_name}", model_kind.Config, hidden_units=4), dims, 3)
    facts = TrainingFacts(
        class_counts=torch.tensor([60.0, 30.0, 10.0]), hidden_dim=model.hidden_dim, unimodal_dims=model.unimodal_dims, aligned_dim=model.aligned_dim
    )
    kind = plugins.load("merc.training.losses", name, MERCLoss)
    term = kind(PARAMS.fill(f"losses.{name}", kind.Config), facts)
    term(model(batch), batch, epoch=0, generator=torch.Generator()).backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in model.parameters())
    assert all(weight.grad is not None for weight in term.parameters())


@pytest.mark.needs_cuda
@every_term
def test_on_a_gpu_a_step_waits_for_nothing(name, build, batch, make_output, no_waiting):
    batch = batch.to("cuda")
    term, output = build(name).to("cuda"), each(make_output(batch), torch.Tensor.cuda)
    with no_waiting(batch):
        term(output, batch, epoch=0, generator=torch.Generator()).backward(retain_graph=True)  # the first call loads kernels
        torch.cuda.set_sync_debug_mode("error")
        try:
            term(output, batch, epoch=0, generator=torch.Generator()).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
