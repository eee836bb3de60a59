"""MERC-KDC's fusion compared with loops over utterances, modalities and heads; its branch is tested as the dialogue
transformer, its training in test_stages.py.
"""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from merc.errors import BadSettings
from merc.params import Params, fill
from merc.training.models.dialogue_transformer import DialogueTransformer
from merc.training.models.engine.base import FUSION
from merc.training.models.merc_kdc import MercKDC
from merc.training.recipes.resolution import resolve

PARAMS = Params.load(Path(__file__).resolve().parents[3] / "params.yaml")
DIMS = {"text": 6, "audio": 5, "visual": 4}
SMALL = {"hidden_units": 8, "heads": 2, "feedforward_units": 6, "dropout": 0.5, "speakers": "none"}


def build(modalities=tuple(DIMS), **settings):
    torch.manual_seed(5)
    model = MercKDC(
        fill({**SMALL, **settings}, MercKDC.Config, where="models.merc_kdc"),
        {name: DIMS[name] for name in modalities},
        3,
    ).eval()
    for name, weight in model.named_parameters():
        if name.endswith(("absent_H", "norm.weight", "norm.bias")):  # as after some training
            torch.nn.init.normal_(weight)
    return model.double()


def doubled(batch):
    return replace(batch, features={name: value.double() for name, value in batch.features.items()})


def norm(vector, layer):
    centred = vector - vector.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * layer.weight + layer.bias


def affine(layer, vector):
    product = torch.stack(
        [sum(weight * value for weight, value in zip(row, vector, strict=True)) for row in layer.weight]
    )
    return product if layer.bias is None else product + layer.bias


def fused(model, own, present, eta):
    """One utterance: vectors of the branches and whether each modality is present, by name; returns the input of the
    classifier.
    """
    teacher, *helping = own
    t = own[teacher]
    if not helping:
        return norm(t, model.norm)
    shift, units = model.shift, len(t)
    projected = {name: affine(shift.query_key_value, own[name]) for name in helping}
    width = units // shift.heads
    q = []
    for name in helping:
        keys = [other for other in helping if present[other] or other == name]
        heads = []
        for head in range(shift.heads):
            query, key, value = (
                slice(part * units + head * width, part * units + (head + 1) * width) for part in range(3)
            )
            weights = torch.stack(
                [projected[name][query] @ projected[other][key] / math.sqrt(width) for other in keys]
            ).softmax(dim=0)
            heads.append(sum(weight * projected[other][value] for weight, other in zip(weights, keys, strict=True)))
        vector = norm(own[name] + affine(shift.attended, torch.cat(heads)), shift.norm)
        q.append(vector if present[name] else torch.zeros_like(vector))
    q = torch.cat(q)
    gate = affine(shift.gate, torch.cat([q, t])).clamp(min=0)
    h = gate * affine(shift.displace, q)
    longest, length = (
        eta * math.sqrt(sum(value**2 for value in t.tolist())),
        math.sqrt(sum(value**2 for value in h.tolist())),
    )
    return norm(t + (min(longest / length, 1.0) if length else 1.0) * h, model.norm)


@pytest.mark.parametrize(
    "modalities", [("text", "audio", "visual"), ("text", "visual"), ("audio", "visual"), ("audio",)], ids="+".join
)
@pytest.mark.parametrize("eta", [0.1, 50.0])
def test_it_computes_what_the_loops_compute(make_batch, modalities, eta):
    model, lengths = build(modalities, shift_limit=eta), [4, 1, 6]
    batch = doubled(make_batch(lengths, modalities=modalities))
    for name in modalities[1:]:
        batch.modality_mask[name][2, :2] = False  # the supporting modality is absent
    output = model(batch)
    own = {name: model.branches[name](batch) for name in modalities}
    for index, length in enumerate(lengths):
        for step in range(length):
            here = {name: bool(batch.modality_mask[name][index, step]) for name in modalities}
            hidden = fused(model, {name: own[name].hidden[index, step] for name in modalities}, here, eta)
            torch.testing.assert_close(output.hidden[index, step], hidden, atol=1e-9, rtol=0)
            torch.testing.assert_close(output.logits[index, step], affine(model.classifier, hidden), atol=1e-9, rtol=0)
    for name in modalities:
        assert torch.equal(output.unimodal[name], own[name].hidden)
        assert torch.equal(output.unimodal_logits[name], own[name].logits)
        assert torch.equal(output.pooled[name], own[name].pooled[name])


@pytest.mark.parametrize("name", list(DIMS))
def test_a_branch_is_the_dialogue_transformer_of_one_modality(make_batch, name):
    model, batch = build(), doubled(make_batch([5]))
    assert isinstance(model.branches[name], DialogueTransformer)
    others = {other: value if other == name else value + 1.0 for other, value in batch.features.items()}
    before, after = model(batch), model(replace(batch, features=others))
    assert torch.equal(after.unimodal_logits[name], before.unimodal_logits[name])
    assert not torch.equal(after.logits, before.logits)


def test_the_shift_is_no_longer_than_its_limit_and_reaches_it(make_batch):
    model, batch = build(shift_limit=0.1), doubled(make_batch([30]))
    own = {name: branch(batch).hidden[0] for name, branch in model.branches.items()}
    present_NS = torch.stack([batch.modality_mask[name][0] for name in ("audio", "visual")], dim=1)
    shift_NH = model.shift(own["text"], torch.stack([own["audio"], own["visual"]], dim=1), present_NS)
    share_N = shift_NH.norm(dim=1) / own["text"].norm(dim=1)
    assert share_N.max().item() == pytest.approx(0.1)
    assert (share_N[~present_NS.any(dim=1)] == 0).all()


def test_where_no_one_helps_the_teacher_stands_as_it_is(make_batch):
    model, batch = build(), doubled(make_batch([4]))
    nowhere = torch.zeros_like(batch.utterance_mask)
    batch = replace(batch, modality_mask={**batch.modality_mask, "audio": nowhere, "visual": nowhere})
    torch.testing.assert_close(model(batch).hidden, model.norm(model.branches["text"](batch).hidden))


def test_a_shift_of_nothing_has_finite_gradients():
    model = build()
    teacher, helping = (
        torch.zeros(2, 8, dtype=torch.float64, requires_grad=True),
        torch.randn(2, 2, 8, dtype=torch.float64, requires_grad=True),
    )
    model.shift(teacher, helping, torch.tensor([[False, False], [True, False]])).sum().backward()
    assert teacher.grad.isfinite().all()
    assert helping.grad.isfinite().all()


def test_units_that_the_heads_do_not_divide_are_refused():
    with pytest.raises(BadSettings, match="hidden_units is 8, no multiple of heads, 3"):
        build(heads=3)


@pytest.mark.parametrize(
    ("recipe", "tau", "eta", "gamma", "alpha"),
    [("merc_kdc", 4.0, 0.1, 2.0, 1.2), ("merc_kdc_iemocap", 2.0, 0.2, 2.4, 1.1)],
)
def test_the_recipes_have_the_settings_of_their_corpus(recipe, tau, eta, gamma, alpha):
    plan = resolve(PARAMS, recipe)
    assert plan.model_config.shift_limit == eta
    assert [(stage.name, stage.trains) for stage in plan.phases] == [
        ("teacher", ("text",)),
        ("students", ("audio", "visual")),
        ("fusion", (FUSION,)),
    ]
    teacher, students, fusion = ({term.name: term for term in stage.losses} for stage in plan.phases)
    assert list(teacher) == list(fusion) == ["cross_entropy", "focal_contrastive"]
    assert list(students) == ["cross_entropy", "distillation", "label_guided"]
    for term in (teacher["focal_contrastive"], fusion["focal_contrastive"], students["label_guided"]):
        assert (
            term.weight,
            term.config.gamma,
            term.config.alpha,
            term.config.temperature,
            term.config.projection_units,
        ) == (0.4, gamma, alpha, 0.1, 128)
    distillation = students["distillation"].config
    assert (distillation.teacher, distillation.kind, distillation.temperature, distillation.feature_weight) == (
        "text",
        "dist",
        tau,
        1.0,
    )
    assert (students["distillation"].weight, distillation.feature_temperature) == (1.0, 1.0)
