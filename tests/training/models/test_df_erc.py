"""DF-ERC compared with loops over dialogues, utterances and modalities; see test_contract.py for what all models
promise.
"""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from merc.params import Params
from merc.shards.format import reader
from merc.training.loop.trainer import _Training, predict
from merc.training.models.df_erc import DFERC, agreement
from merc.training.recipes.resolution import resolve
from merc.training.stage import load_data

DIMS = {"text": 6, "audio": 5, "visual": 4}
SMALL = {"hidden_units": 4, "aligned_units": 3, "context_units": 5}


def build(modalities=tuple(DIMS), **settings):
    torch.manual_seed(5)
    model = DFERC(DFERC.Config(**{**SMALL, **settings}), {name: DIMS[name] for name in modalities}, 3).eval()
    for projection in model.projections.values():
        nn.init.normal_(projection.absent_H)
    return model


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def mapped(maps, place, x):
    return x @ maps.weights_MPQ[place] + maps.bias_M1Q[place, 0]


def recurrence(lstm, rows):
    """The states of one direction, from the equations of an LSTM."""
    state = cell = torch.zeros(lstm.hidden_size, dtype=torch.float64)
    states = []
    for row in rows:
        gates = lstm.weight_ih_l0 @ row + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ state + lstm.bias_hh_l0
        enter, forget, new, leave = gates.chunk(4)
        cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
        state = leave.sigmoid() * cell.tanh()
        states.append(state)
    return states


def cosine(x, y):
    return (x @ y / (x.norm() * y.norm())).item()


def loops(model, batch, index):
    """Everything about the utterances of one dialogue, one by one: a dictionary for each, and its logits last."""
    told = []
    for step in range(int(batch.lengths[index])):
        one = {"x": {}, "z": {}, "w": {}, "X": {}, "a": {}, "p": {}, "kappa": {}}
        there = {name: bool(batch.modality_mask[name][index, step]) for name in model.modalities}
        for place, name in enumerate(model.modalities):
            projection = model.projections[name]
            x = torch.tanh(projection.linear(batch.features[name][index, step]) if there[name] else projection.absent_H)
            z = gelu(mapped(model.of_modality, place, x))
            w = gelu(mapped(model.of_utterance, place, z))
            full = torch.cat([x, 0.4 * (z + w)])
            scores, sure = mapped(model.heads, place, full), mapped(model.confide, place, full)
            if model.gelu_logits:
                scores = gelu(scores)  # not the confidence
            for key, value in {
                "z": z,
                "w": w,
                "X": full,
                "a": gelu(mapped(model.align, place, full)),
                "p": scores,
                "kappa": 1 / (1 + torch.exp(-sure[0])),
            }.items():
                one[key][name] = value
        total = sum(one["kappa"][name] for name in model.modalities if there[name])
        by_confidence = sum(
            (one["kappa"][name] / total * one["X"][name] for name in model.modalities if there[name]),
            torch.zeros_like(full),
        )
        one["F"] = torch.cat([0.9 * by_confidence, sum(one["X"].values())])
        cosines = [
            cosine(one["a"][m], one["a"][n])
            for m, n in itertools.combinations(model.modalities, 2)
            if there[m] and there[n]
        ]
        one["s"] = sum(cosines) / len(cosines) if cosines else 0.0
        told.append(one)
    states = [one["F"] for one in told]
    for ahead, back in zip(model.context.ahead, model.context.back, strict=True):
        both = zip(recurrence(ahead, states), reversed(recurrence(back, states[::-1])), strict=True)
        states = [torch.cat(pair) for pair in both]
    nothing = torch.zeros_like(states[0])
    for step, one in enumerate(told):
        before, after = states[step - 1] if step else nothing, states[step + 1] if step + 1 < len(states) else nothing
        one["hidden"] = torch.cat([one["F"], 0.8 * (1 - one["s"]) * (before + after)])
        one["logits"] = model.classifier.weight @ one["hidden"] + model.classifier.bias
    return told


@pytest.mark.parametrize(
    ("modalities", "settings"),
    [
        (("text", "audio", "visual"), {}),
        (("text", "audio", "visual"), {"gelu_logits": True, "context_layers": 1}),
        (("audio", "visual"), {}),
        (("text",), {}),
    ],
)
def test_it_computes_what_the_loops_compute(make_batch, modalities, settings):
    model, lengths = build(modalities, **settings).double(), [4, 1, 6]
    batch = make_batch(lengths, modalities=modalities)
    batch = replace(batch, features={name: value.double() for name, value in batch.features.items()})
    if len(modalities) > 1:
        for mask in batch.modality_mask.values():
            mask[2, 2] = False  # nothing is known of this one
    output = model(batch)
    for index in range(len(lengths)):
        for step, one in enumerate(loops(model, batch, index)):
            at = (index, step)
            torch.testing.assert_close(output.logits[at], one["logits"], atol=1e-9, rtol=0)
            torch.testing.assert_close(output.hidden[at], one["hidden"], atol=1e-9, rtol=0)
            for found, key in (
                (output.unimodal, "X"),
                (output.unimodal_logits, "p"),
                (output.extras["of_modality"], "z"),
                (output.extras["of_utterance"], "w"),
                (output.aligned, "a"),
                (output.extras["confidence"], "kappa"),
            ):
                for name in modalities:
                    torch.testing.assert_close(found[name][at], one[key][name], atol=1e-9, rtol=0)


def test_agreement_is_that_of_the_modalities_that_are_there_and_none_where_they_have_no_pair():
    vectors_MA = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    cases = {
        (True, True, True): -1 / 3,
        (True, True, False): 0.6,
        (True, False, True): -1.0,
        (False, True, False): 0.0,
        (False, False, False): 0.0,
    }
    present_MBT = torch.tensor(list(cases)).T[:, None]
    aligned_MBTA = (5 * vectors_MA)[:, None, None].expand(-1, 1, len(cases), -1)
    torch.testing.assert_close(agreement(aligned_MBTA, present_MBT), torch.tensor([list(cases.values())]))


def test_agreement_is_finite_where_vectors_are_nothing():
    assert agreement(torch.zeros(3, 1, 1, 2), torch.ones(3, 1, 1, dtype=torch.bool)).item() == 0.0


def test_an_utterance_alone_has_no_context_and_every_other_one_has(make_batch):
    model, batch = build(), make_batch([1, 3])
    context_BTV = model(batch).hidden[..., 16:]
    assert not context_BTV[0, 0].any()
    assert context_BTV[1].any(dim=-1).all()


def untrained(model, batch, weight):
    """Where the weights of each LSTM have no gradient."""
    model.zero_grad()
    model(batch).logits.square().sum().backward()
    return [getattr(lstm, weight).grad == 0 for lstm in (*model.context.ahead, *model.context.back)]


def test_single_recurrent_weights_are_dropped_and_neither_rows_nor_columns(make_batch):
    model = build(context_units=20, context_layers=1, dropout=0.0, input_dropout=0.0, weight_dropout=0.3).train()
    batch = make_batch([6, 5, 6, 4])
    assert not any(dropped.any() for dropped in untrained(model, batch, "weight_ih_l0"))
    for dropped in untrained(model, batch, "weight_hh_l0"):
        assert dropped.float().mean().item() == pytest.approx(
            0.3, abs=0.05
        )  # of 1,600 weights: four standard errors are 0.046
        assert not dropped.all(dim=0).any()
        assert not dropped.all(dim=1).any()


def test_a_dialogue_lacks_the_same_input_features_in_all_its_utterances_and_another_one_others(make_batch):
    model = build(context_units=20, context_layers=1, dropout=0.0, input_dropout=0.5, weight_dropout=0.0).train()
    ahead, back = (dropped.all(dim=0) for dropped in untrained(model, make_batch([6]), "weight_ih_l0"))
    assert 4 <= int(ahead.sum()) <= 12  # of 16
    assert torch.equal(ahead, back)
    assert not any(dropped.any() for dropped in untrained(model, make_batch([6] * 30), "weight_ih_l0"))


def test_without_dropout_training_computes_what_eval_does(make_batch):
    """The operation below the LSTM's module, used to drop weights, computes the same as the module."""
    model, batch = build(dropout=0.0, input_dropout=0.0, weight_dropout=0.0), make_batch([4, 7, 1])
    torch.testing.assert_close(
        model.train()(batch).logits[batch.utterance_mask], model.eval()(batch).logits[batch.utterance_mask]
    )


@pytest.mark.parametrize(
    ("recipe", "precision"),
    [
        ("df_erc", "float32"),
        ("df_erc", "bfloat16"),
        ("df_erc@text", "float32"),
        ("df_erc@audio-visual", "float32"),
        ("df_erc+dclf@text", "float32"),
        ("df_erc+dclf", "float32"),
        ("df_erc+idcl+batch_16@text-audio", "float32"),
    ],
)
def test_its_recipe_trains_on_any_modalities_and_with_what_goes_over_any_model(make_shards, recipe, precision):
    small = [f"models.df_erc.{key}=8" for key in ("hidden_units", "aligned_units", "context_units")]
    params = Params.load(
        Path(__file__).resolve().parents[3] / "params.yaml", (*small, f"recipes.df_erc.precision={precision}")
    )
    plan = resolve(params, recipe)
    layout = make_shards()
    data, _ = load_data(plan, reader.info(layout.shards), layout)
    training = _Training(
        plan.phases[0], plan.build(data.dims, len(data.classes)), data.train, data.classes, 0, torch.device("cpu")
    )
    before = {name: weight.detach().clone() for name, weight in training.model.named_parameters()}
    row = training.epoch(1)
    weighed = {term.name: term.weight for term in plan.losses}
    assert (
        weighed.items()
        >= {"cross_entropy": 1.0, "disentanglement": 0.4, "true_class_probability": 1.0, "prototype": 0.7}.items()
    )
    assert {name for name in weighed if row[f"loss_{name}"] == 0} == (
        {"disentanglement"} if len(plan.recipe.modalities) == 1 else set()
    )
    changed = {
        name.removeprefix("model.").split(".")[0]
        for name, weight in training.model.named_parameters()
        if not torch.equal(weight, before[name])
    }
    assert changed >= {"projections", "of_modality", "of_utterance", "align", "confide", "context"}
    assert predict(training.model, data.dev).isfinite().all()
