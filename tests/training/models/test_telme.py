"""TelME compared with loops over utterances, modalities and heads; see test_contract.py for what all models promise."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from merc.errors import BadSettings
from merc.params import Params, fill
from merc.training.losses.engine.base import TrainingFacts
from merc.training.models.engine.base import FUSION
from merc.training.models.telme import TelME
from merc.training.recipes.resolution import resolve

from .plain_parts import in_doubles

PARAMS = Params.load(Path(__file__).resolve().parents[3] / "params.yaml")
DIMS = {"text": 6, "audio": 5, "visual": 4}
SMALL = {"hidden_units": 6, "heads": 3, "dropout": 0.5}


def build(modalities=tuple(DIMS), **settings):
    torch.manual_seed(5)
    config = fill({**SMALL, **settings}, TelME.Config, where="models.telme")
    model = TelME(config, {name: DIMS[name] for name in modalities}, 3).eval()
    for name, weight in model.named_parameters():
        if name.endswith(("absent_H", "norm.weight", "norm.bias")):  # as after some training
            torch.nn.init.normal_(weight)
    return model.double()


def affine(layer, vector):
    rows = [sum(weight * value for weight, value in zip(row, vector, strict=True)) for row in layer.weight]
    return torch.stack(rows) + layer.bias


def norm(layer, vector):
    centred = vector - vector.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * layer.weight + layer.bias


def length(vector):
    return math.sqrt(sum(value**2 for value in vector.tolist()))


def gru(cell, inputs):
    """States of one dialogue, utterance by utterance."""
    weight_i, weight_h = cell.weight_ih_l0.chunk(3), cell.weight_hh_l0.chunk(3)
    bias_i, bias_h = cell.bias_ih_l0.chunk(3), cell.bias_hh_l0.chunk(3)
    state, states = torch.zeros_like(inputs[0]), []
    for value in inputs:
        from_input = [w @ value + b for w, b in zip(weight_i, bias_i, strict=True)]
        from_state = [w @ state + b for w, b in zip(weight_h, bias_h, strict=True)]
        reset = (from_input[0] + from_state[0]).sigmoid()
        keep = (from_input[1] + from_state[1]).sigmoid()
        new = (from_input[2] + reset * from_state[2]).tanh()
        state = (1 - keep) * new + keep * state
        states.append(state)
    return states


def projected(branch, features, present):
    return [
        affine(branch.project.linear, vector) if there else branch.project.absent_H
        for vector, there in zip(features, present, strict=True)
    ]


def taught(model, features, present, speakers):
    """t of one dialogue."""
    branch, config = model.branches[model.teacher], model.config
    stream = projected(branch, features, present)
    if config.speakers == "slots":
        stream = [vector + branch.speaker_vectors.weight[who % 9] for vector, who in zip(stream, speakers, strict=True)]
    if config.teacher_context == "none":
        return stream
    states = stream
    for cell in branch.context.ahead:
        states = gru(cell, states)
    return [affine(branch.leave, vector + state) for vector, state in zip(stream, states, strict=True)]


def learned(branch, features, present):
    """x of one dialogue."""
    halves = [0.5 * vector * (1 + (vector / math.sqrt(2)).erf()) for vector in projected(branch, features, present)]
    return [norm(branch.norm, affine(branch.leave, vector)) for vector in halves]


def attended(shift, vectors, present):
    """q of one utterance, over its modalities."""
    units = len(next(iter(vectors.values())))
    width, q = units // shift.heads, []
    three = {name: affine(shift.query_key_value, vector).chunk(3) for name, vector in vectors.items()}
    for name, vector in vectors.items():
        if not present[name]:
            q.append(torch.zeros_like(vector))
            continue
        keys, heads = [other for other in vectors if present[other]], []
        for head in range(shift.heads):
            part = slice(head * width, (head + 1) * width)
            scores = torch.stack([three[name][0][part] @ three[other][1][part] / math.sqrt(width) for other in keys])
            shares = scores.exp() / scores.exp().sum()
            heads.append(sum(share * three[other][2][part] for share, other in zip(shares, keys, strict=True)))
        q.append(norm(shift.norm, vector + affine(shift.attended, torch.cat(heads))))
    return torch.cat(q)


def shifted(model, t, vectors, present):
    """t + δ v of one utterance."""
    if not any(present[name] for name in vectors):
        return t
    shift = model.shift
    if model.config.attention == "modalities":
        q = attended(shift, vectors, present)
    else:
        x = torch.cat([vector * present[name] for name, vector in vectors.items()])
        q = norm(shift.norm, x + affine(shift.attended, affine(shift.value, x)))
    v = affine(shift.gate, torch.cat([q, t])).clamp(min=0) * affine(shift.displace, q)
    return t + min(model.config.shift_limit * length(t) / length(v), 1.0) * v


@pytest.mark.parametrize(
    ("modalities", "settings"),
    [
        (("text", "audio", "visual"), {"shift_limit": 50.0}),
        (("text", "audio", "visual"), {"layers": 2}),
        (("text", "audio", "visual"), {"attention": "concatenated", "speakers": "none"}),
        (("text", "visual"), {"attention": "concatenated", "shift_limit": 50.0}),
        (("text", "audio"), {"teacher_context": "none"}),
        (("audio", "visual"), {}),
        (("visual",), {"teacher_context": "none", "speakers": "none"}),
    ],
)
def test_it_computes_what_the_loops_compute(make_batch, modalities, settings):
    model, lengths = build(modalities, **settings), [4, 1, 6]
    batch = in_doubles(make_batch(lengths, modalities=modalities, pad_to=8, padding=1e3))
    batch = replace(batch, speakers=batch.speakers * 5)  # some share a slot
    for name in modalities[1:]:
        batch.modality_mask[name][2, :2] = False  # no student is present
    output = model(batch)
    for index, count in enumerate(lengths):
        features = {name: value[index, :count] for name, value in batch.features.items()}
        present = {name: mask[index, :count].tolist() for name, mask in batch.modality_mask.items()}
        teacher, *students = modalities
        own = {teacher: taught(model, features[teacher], present[teacher], batch.speakers[index, :count].tolist())}
        own |= {name: learned(model.branches[name], features[name], present[name]) for name in students}
        for name, vectors in own.items():
            logits = torch.stack([affine(model.branches[name].classifier, vector) for vector in vectors])
            torch.testing.assert_close(output.unimodal[name][index, :count], torch.stack(vectors), atol=1e-9, rtol=0)
            torch.testing.assert_close(output.unimodal_logits[name][index, :count], logits, atol=1e-9, rtol=0)
        for step in range(count):
            here = {name: present[name][step] for name in students}
            hidden = norm(
                model.norm, shifted(model, own[teacher][step], {name: own[name][step] for name in students}, here)
            )
            torch.testing.assert_close(output.hidden[index, step], hidden, atol=1e-9, rtol=0)
            torch.testing.assert_close(output.logits[index, step], affine(model.classifier, hidden), atol=1e-9, rtol=0)


@pytest.mark.parametrize("attention", ["modalities", "concatenated"])
def test_the_shift_is_no_longer_than_its_limit_and_reaches_it(make_batch, attention):
    model, batch = build(attention=attention, shift_limit=0.1), in_doubles(make_batch([30]))
    own = {name: value[0] for name, value in model(batch).unimodal.items()}
    students_NSH = torch.stack([own["audio"], own["visual"]], dim=1)
    present_NS = torch.stack([batch.modality_mask[name][0] for name in ("audio", "visual")], dim=1)
    share_N = model.shift(own["text"], students_NSH, present_NS).norm(dim=1) / own["text"].norm(dim=1)
    assert share_N.max().item() == pytest.approx(0.1)
    assert (share_N[~present_NS.any(dim=1)] == 0).all()


def test_a_student_sees_its_own_utterance_alone(make_batch):
    model, batch = build(), in_doubles(make_batch([5]))
    others = torch.arange(5) != 3
    noisy = {name: value + others[:, None].double() for name, value in batch.features.items()}
    before, after = model(batch), model(replace(batch, features=noisy, speakers=batch.speakers + 1))
    for name in ("audio", "visual"):
        assert torch.equal(after.unimodal_logits[name][0, 3], before.unimodal_logits[name][0, 3])
    assert not torch.equal(after.unimodal_logits["text"][0, 3], before.unimodal_logits["text"][0, 3])


def test_without_context_the_teacher_sees_its_own_utterance_alone(make_batch):
    model, batch = build(teacher_context="none"), in_doubles(make_batch([5]))
    others = torch.arange(5) != 3
    noisy = {name: value + others[:, None].double() for name, value in batch.features.items()}
    assert torch.equal(model(replace(batch, features=noisy)).logits[0, 3], model(batch).logits[0, 3])


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(BadSettings, match="hidden_units is 6, no multiple of heads, 4"):
        build(heads=4)


@pytest.mark.parametrize(
    ("recipe", "heads", "eta", "tau", "weight"), [("telme", 3, 0.1, 4.0, 1.0), ("telme_iemocap", 4, 0.2, 2.0, 0.1)]
)
def test_the_recipes_have_the_published_settings_and_order_of_training(recipe, heads, eta, tau, weight):
    plan = resolve(PARAMS, recipe)
    config = plan.model_config
    assert (config.hidden_units, config.heads, config.shift_limit, config.dropout) == (768, heads, eta, 0.2)
    assert [phase.trains for phase in plan.phases] == [("text",), ("audio", "visual"), (FUSION,)]
    assert [[term.name for term in phase.losses] for phase in plan.phases] == [
        ["cross_entropy"],
        ["cross_entropy", "distillation"],
        ["cross_entropy"],
    ]
    distillation = plan.phases[1].losses[1]
    assert (distillation.config.kind, distillation.config.temperature, distillation.weight) == ("dist", tau, weight)


def negative_correlations(student, teacher, tau):
    """τ² times 1 - ρ, summed over the mean of the rows and that of the classes."""
    s, t = (np.exp(x / tau) / np.exp(x / tau).sum(axis=1, keepdims=True) for x in (student, teacher))
    rows = np.mean([np.corrcoef(one, other)[0, 1] for one, other in zip(s, t, strict=True)])
    classes = np.mean([np.corrcoef(one, other)[0, 1] for one, other in zip(s.T, t.T, strict=True)])
    return tau**2 * (2 - rows - classes)


def divergence_of_likenesses(student, teacher):
    """Mean over rows of KL(softmax of t_i · t_j ‖ softmax of t_i · s_j), all of length 1."""
    s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (student, teacher))
    total = 0.0
    for row in t:
        p, q = (np.exp(others @ row) / np.exp(others @ row).sum() for others in (t, s))
        total += (p * np.log(p / q)).sum()
    return total / len(t)


@pytest.mark.parametrize(("recipe", "tau", "weight"), [("telme", 4.0, 1.0), ("telme_iemocap", 2.0, 0.1)])
def test_a_students_objective_is_the_published_sum(make_batch, recipe, tau, weight):
    model, batch = build(), in_doubles(make_batch([4, 5]))
    output = model(batch)
    output = replace(output, unimodal_logits={name: 3 * value for name, value in output.unimodal_logits.items()})
    terms = resolve(PARAMS, recipe).phases[1].losses
    gives = replace(model.gives, unimodal=dict.fromkeys(("text", "audio"), 6))
    facts = TrainingFacts(class_counts=torch.ones(3), gives=gives)
    found = {term.name: term.weight * term.kind(term.config, facts)(output, batch).item() for term in terms}
    both = batch.modality_mask["text"] & batch.modality_mask["audio"]
    logits = {name: output.unimodal_logits[name][both].detach().numpy() for name in ("text", "audio")}
    vectors = {name: output.unimodal[name][both].detach().numpy() for name in ("text", "audio")}
    expected = weight * negative_correlations(logits["audio"], logits["text"], tau)
    expected += divergence_of_likenesses(vectors["audio"], vectors["text"])
    assert found["distillation"] == pytest.approx(expected, abs=1e-4)  # from the term that keeps a correlation finite
