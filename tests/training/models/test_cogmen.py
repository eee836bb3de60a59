"""COGMEN compared with loops over dialogues, utterances and relations; see test_contract.py for what all models
promise.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from merc.errors import BadSettings
from merc.params import fill
from merc.training.models.cogmen import COGMEN, build_graph

from .plain_parts import in_doubles

DIMS = {"text": 6, "audio": 5, "visual": 4}
SMALL = {
    "input_units": 8,
    "heads": 4,
    "feedforward_units": 12,
    "hidden_units": 6,
    "graph_heads": 2,
    "past": 2,
    "future": 2,
    "speakers": "pairs",
    "dropout": 0.0,
}


def build(modalities=tuple(DIMS), **settings):
    torch.manual_seed(5)
    model = COGMEN(
        fill({**SMALL, **settings}, COGMEN.Config, where="models.cogmen"), {name: DIMS[name] for name in modalities}, 3
    ).eval()
    for parameter in (
        *(projection.absent_H for projection in model.projections.values()),
        *model.norm.parameters(),
        model.norm.running_mean,
    ):
        nn.init.normal_(parameter)  # as after some training
    nn.init.uniform_(model.norm.running_var, 0.5, 2.0)
    return model


def transformed(model, inputs_TF):
    """torch's encoder over one dialogue without padding."""
    config = model.config
    for layer in model.transformer:
        width = layer.attended.in_features
        reference = (
            nn.TransformerEncoderLayer(width, config.heads, config.feedforward_units, dropout=0.0, batch_first=True)
            .double()
            .train()
        )
        pairs = {
            "self_attn.in_proj_": layer.query_key_value,
            "self_attn.out_proj.": layer.attended,
            "linear1.": layer.feedforward[0],
            "linear2.": layer.feedforward[3],
            "norm1.": layer.attention_norm,
            "norm2.": layer.feedforward_norm,
        }
        reference.load_state_dict(
            {prefix + kind: getattr(ours, kind) for prefix, ours in pairs.items() for kind in ("weight", "bias")}
        )
        inputs_TF = reference(inputs_TF[None])[0]
    return inputs_TF


def related(model, nodes, speakers):
    """y of one dialogue: relation by relation, the mean over its utterances."""
    config, convolution, given = model.config, model.relations, []
    for hearing in range(len(nodes)):
        by_relation = {}
        for heard in range(max(0, hearing - config.past), min(len(nodes), hearing + config.future + 1)):
            one, other = speakers[heard], speakers[hearing]
            pair = (one % 9, other % 9) if config.speakers == "pairs" else (int(one != other), 0)
            by_relation.setdefault((int(heard >= hearing), *pair), []).append(nodes[heard])
        total = convolution.own(nodes[hearing])
        for (side, one, other), members in by_relation.items():
            weight = convolution.weights_2KHKH[side, one, :, other]
            total = total + sum(node @ weight for node in members) / len(members)
        given.append(total)
    return given


def attended(model, nodes):
    """z of one dialogue, head by head."""
    config, layer, given = model.config, model.attention, []
    units, heads = config.hidden_units, config.graph_heads
    key_weights, value_weights, own_weights = layer.key_value_own.weight.split(heads * units)
    for hearing in range(len(nodes)):
        neighbours = range(max(0, hearing - config.past), min(len(nodes), hearing + config.future + 1))
        parts = []
        for head in range(heads):
            rows = slice(head * units, (head + 1) * units)
            query = layer.query.weight[rows] @ nodes[hearing] + layer.query.bias[rows]
            scores = torch.stack(
                [query @ (key_weights[rows] @ nodes[heard]) / math.sqrt(units) for heard in neighbours]
            )
            shares = scores.exp() / scores.exp().sum()
            heard = sum(
                share * (value_weights[rows] @ nodes[heard]) for share, heard in zip(shares, neighbours, strict=True)
            )
            parts.append(own_weights[rows] @ nodes[hearing] + heard)
        given.append(torch.cat(parts))
    return given


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("modalities", "settings"),
    [
        (("text", "audio", "visual"), {}),
        (("text", "audio", "visual"), {"speakers": "same", "past": 1, "future": 3}),
        (("visual", "text"), {"past": 20, "future": 0, "graph_heads": 1, "layers": 1}),
        (("audio",), {"past": 0, "future": 1, "heads": 1}),
        (("text",), {"past": 0, "future": 0, "speakers": "same"}),
    ],
)
def test_it_computes_what_the_loops_compute(make_batch, modalities, settings, training):
    model, lengths = build(modalities, **settings).double().train(training), [4, 1, 7]
    batch = in_doubles(make_batch(lengths, modalities=modalities, pad_to=9))
    batch = replace(batch, speakers=batch.speakers * 2)  # up to 16: some share the slot of another
    running = model.norm.running_mean.clone(), model.norm.running_var.clone()
    output = model(batch)
    heard = []
    for index, length in enumerate(lengths):
        inputs = []
        for name in modalities:
            there, projection = batch.modality_mask[name][index, :length].tolist(), model.projections[name]
            vectors = torch.stack(
                [
                    projection.linear(batch.features[name][index, step]) if there[step] else projection.absent_H
                    for step in range(length)
                ]
            )
            torch.testing.assert_close(output.unimodal[name][index, :length], vectors, atol=1e-10, rtol=0)
            inputs.append(vectors)
        nodes = list(model.enter(transformed(model, torch.cat(inputs, dim=1))))
        heard += attended(model, related(model, nodes, batch.speakers[index, :length].tolist()))
    heard = torch.stack(heard)
    mean, variance = (heard.mean(dim=0), heard.var(dim=0, unbiased=False)) if training else running
    normed = (heard - mean) / (variance + 1e-5).sqrt() * model.norm.weight + model.norm.bias
    hidden = model.hide(torch.where(normed > 0, normed, 0.01 * normed)).relu()
    torch.testing.assert_close(output.hidden[batch.utterance_mask], hidden, atol=1e-9, rtol=0)
    torch.testing.assert_close(output.logits[batch.utterance_mask], model.classifier(hidden), atol=1e-9, rtol=0)


def test_the_shares_of_every_relation_add_up_and_two_speakers_need_eight(make_batch):
    batch = make_batch([5, 3], pad_to=6)
    batch = replace(batch, speakers=batch.speakers % 2)
    graph = build_graph(batch, 2, 1, "pairs", torch.float64)
    assert graph.shares.shape == (8, 4, 4)  # to each of two, from each of two, before or not
    assert set(graph.shares.sum(dim=-1).flatten().tolist()) == {0.0, 1.0}
    assert graph.windows.within.sum(dim=1).tolist() == [2, 3, 4, 4, 3, 2, 3, 3]
    assert torch.equal(graph.shares.any(dim=1), graph.windows.within)


def test_names_of_speakers_mean_something_in_pairs_alone(make_batch):
    batch = make_batch([6, 4])
    renamed = replace(batch, speakers=8 - batch.speakers)
    for speakers, same in {"same": True, "pairs": False}.items():
        model = build(speakers=speakers)
        assert torch.equal(model(batch).logits, model(renamed).logits) is same


def test_the_statistics_of_the_norm_are_those_of_real_utterances(make_batch):
    near, far = build().train(), build().train()
    near(make_batch([5, 3]))
    far(make_batch([5, 3], pad_to=20, padding=1e3))
    for kind in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(near.norm, kind), getattr(far.norm, kind), atol=1e-5, rtol=0)
        assert not torch.allclose(getattr(near.norm, kind), getattr(build().norm, kind), atol=1e-3)


def test_a_batch_of_one_utterance_is_trained_by_the_running_statistics(make_batch):
    model, batch = build().train(), make_batch([1])
    before = {name: value.clone() for name, value in model.norm.named_buffers()}
    output = model(batch)
    assert all(torch.equal(value, before[name]) for name, value in model.norm.named_buffers())
    assert torch.equal(output.logits, model.eval()(batch).logits)
    output.logits.square().sum().backward()
    assert model.enter.weight.grad.isfinite().all()
    assert model.enter.weight.grad.any()


def test_what_is_dropped_are_sublayers_and_the_hidden_layer(make_batch, monkeypatch):
    model, batch, seen = build(layers=1, dropout=0.5).train(), make_batch([3, 2]), []
    layer = model.transformer[0]
    dropouts = {
        "attended": layer.dropout,
        "inner": layer.feedforward[2],
        "outer": layer.feedforward[4],
        "hidden": model.dropout,
    }
    for name, dropout in dropouts.items():
        monkeypatch.setattr(
            dropout, "forward", lambda values, name=name: seen.append((name, tuple(values.shape))) or values
        )
    model(batch)
    assert seen == [("attended", (5, 24)), ("inner", (5, 12)), ("outer", (5, 24)), ("hidden", (5, 6))]


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(BadSettings, match=r"models\.cogmen: .*input_units is 8, no multiple of heads, 3"):
        build(heads=3)
