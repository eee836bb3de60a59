"""CORECT compared with loops over dialogues, nodes and edges; see test_contract.py for what all models promise."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from merc.errors import BadSettings
from merc.params import fill
from merc.training.models.corect import CORECT, build_graph

DIMS = {"text": 6, "audio": 5, "visual": 4}
SMALL = {
    "text_units": 8,
    "text_heads": 4,
    "feedforward_units": 12,
    "hidden_units": 6,
    "past": 2,
    "future": 3,
    "graph_heads": 2,
    "pair_heads": 3,
    "self_heads": 2,
    "dropout": 0.0,
}


def build(modalities=tuple(DIMS), **settings):
    torch.manual_seed(5)
    config = fill({**SMALL, **settings}, CORECT.Config, where="models.corect")
    model = CORECT(config, {name: DIMS[name] for name in modalities}, 3).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or "norm" in name:
            nn.init.normal_(parameter)  # as after some training
    nn.init.normal_(model.norm.running_mean)
    nn.init.uniform_(model.norm.running_var, 0.5, 2.0)
    return model


def encoded(model, name, vectors, there):
    """Unimodal vectors of one dialogue [T, H]; those of text come from torch's own transformer, without padding."""
    encoder = model.encoders[name]
    if name != "text":
        return torch.stack(
            [
                encoder.layers(one) if here else encoder.present.absent_H
                for one, here in zip(vectors, there, strict=True)
            ]
        )
    projection = encoder.projection
    stream = torch.stack(
        [projection.linear(one) if here else projection.absent_H for one, here in zip(vectors, there, strict=True)]
    )
    config, future = model.config, torch.ones(len(stream), len(stream), dtype=torch.bool).triu(1)
    for layer in encoder.layers:
        reference = nn.TransformerEncoderLayer(
            config.text_units, config.text_heads, config.feedforward_units, dropout=0.0, batch_first=True
        )
        parts = {
            "self_attn.in_proj_": layer.query_key_value,
            "self_attn.out_proj.": layer.attended,
            "linear1.": layer.feedforward[0],
            "linear2.": layer.feedforward[3],
            "norm1.": layer.attention_norm,
            "norm2.": layer.feedforward_norm,
        }
        reference = reference.double().train()
        reference.load_state_dict(
            {prefix + kind: getattr(ours, kind) for prefix, ours in parts.items() for kind in ("weight", "bias")}
        )
        stream = reference(stream[None], src_mask=future if config.causal else None)[0]
    return encoder.leave(stream)


def softmax_sum(scores, values):
    shares = torch.stack(scores).exp()
    return sum(share * value for share, value in zip(shares / shares.sum(), values, strict=True))


def graph_nodes(model, nodes):
    """z of one dialogue, [M, T, h · H], from its x [M, T, H], edge by edge."""
    config, (count, steps, units) = model.config, nodes.shape
    future = 0 if config.causal else config.future
    blocks = [("same", other) for other in range(count)] + ["before"] * (config.past > 0) + ["after"] * (future > 0)
    weights = [
        dict(zip(blocks, model.relations.relations.weight[one].split(units), strict=True)) for one in range(count)
    ]
    neighbours, related = {}, {}
    for one in range(count):
        for step in range(steps):
            before = [(one, other) for other in range(max(0, step - config.past), step)]
            after = [(one, other) for other in range(step + 1, min(steps, step + future + 1))]
            same = [(other, step) for other in range(count)]
            neighbours[one, step] = before + after + same
            total = model.relations.own(nodes[one, step])
            for relation, members in {"before": before, "after": after, **{("same", e[0]): [e] for e in same}}.items():
                if members:
                    total = total + sum(nodes[member] @ weights[one][relation] for member in members) / len(members)
            related[one, step] = total
    return torch.stack(
        [
            torch.stack([graph_attended(model, related, neighbours, (one, step)) for step in range(steps)])
            for one in range(count)
        ]
    )


def graph_attended(model, related, neighbours, node):
    """z of one node, head by head."""
    units, heads, parts = model.config.hidden_units, model.config.graph_heads, []
    key_weights, value_weights, own_weights = model.attention.key_value_own.weight.split(heads * units)
    for head in range(heads):
        rows = slice(head * units, (head + 1) * units)
        query = model.attention.query(related[node])[rows]
        scores = [query @ (key_weights[rows] @ related[other]) / math.sqrt(units) for other in neighbours[node]]
        found = softmax_sum(scores, [value_weights[rows] @ related[other] for other in neighbours[node]])
        parts.append(own_weights[rows] @ related[node] + found)
    return torch.cat(parts)


def normed(norms, place, values):
    return functional.layer_norm(values, values.shape[-1:], norms.weight_K1U[place, 0], norms.bias_K1U[place, 0])


def mapped(maps, place, values):
    return values @ maps.weight[place] + maps.bias[place, 0]


def transformed(layers, norm, place, stream, source, causal):
    """One of the transformers of P-CM over one dialogue, utterance by utterance; no ``source``: self-attention."""
    steps, units = stream.shape
    stream, source = stream * math.sqrt(units), None if source is None else source * math.sqrt(units)
    for layer in layers:
        asking = normed(layer.attention_norm, place, stream)
        given = asking if source is None else normed(layer.attention_norm, place, source)
        queries, width = mapped(layer.query, place, asking), units // layer.heads
        keys, values = mapped(layer.key_value, place, given).split(units, dim=-1)
        rows = []
        for step in range(steps):
            seen, parts = range(step + 1 if causal else steps), []
            for head in range(layer.heads):
                part = slice(head * width, (head + 1) * width)
                scores = [queries[step, part] @ keys[other, part] / math.sqrt(width) for other in seen]
                parts.append(softmax_sum(scores, [values[other, part] for other in seen]))
            rows.append(torch.cat(parts))
        stream = stream + mapped(layer.attended, place, torch.stack(rows))
        inner = mapped(layer.enter, place, normed(layer.feedforward_norm, place, stream)).relu()
        stream = stream + mapped(layer.leave, place, inner)
    return normed(norm, place, stream)


def paired(model, nodes):
    """The output of P-CM for one dialogue, [T, M · (M - 1) · H], from its x [M, T, H]."""
    pairs, given, place = model.pairs, [], 0
    for one in range(len(nodes)):
        found = []
        for other in range(len(nodes)):
            if other != one:
                layers = pairs.pair_layers
                found.append(transformed(layers, pairs.pair_norm, place, nodes[one], nodes[other], model.config.causal))
                place += 1
        side_by_side = torch.cat(found, dim=1)
        given.append(transformed(pairs.self_layers, pairs.self_norm, one, side_by_side, None, model.config.causal))
    return torch.cat(given, dim=1)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("modalities", "settings"),
    [
        (("text", "audio", "visual"), {}),
        (("text", "audio", "visual"), {"causal": True}),
        (("visual", "text"), {"past": 20, "future": 0, "speakers": "none", "pair_layers": 1}),
        (("audio", "visual"), {"past": 0, "future": 1, "graph_heads": 1, "self_layers": 1}),
        (("text",), {"past": 0, "future": 0}),
    ],
)
def test_it_computes_what_the_loops_compute(make_batch, modalities, settings, training):
    model, lengths = build(modalities, **settings).double().train(training), [4, 1, 7]
    batch = make_batch(lengths, modalities=modalities, pad_to=9, padding=1e3)
    features = {name: value.double() for name, value in batch.features.items()}
    batch = replace(batch, features=features, speakers=batch.speakers * 2)  # up to 16: some share a slot
    running = model.norm.running_mean.clone(), model.norm.running_var.clone()
    output = model(batch)
    attended, found = [], []
    for index, length in enumerate(lengths):
        nodes = []
        for name in modalities:
            there = batch.modality_mask[name][index, :length].tolist()
            vectors = encoded(model, name, batch.features[name][index, :length], there)
            torch.testing.assert_close(output.unimodal[name][index, :length], vectors, atol=1e-10, rtol=0)
            if model.speaker_vectors is not None:
                vectors = vectors + model.speaker_vectors.weight[batch.speakers[index, :length] % 9]
            nodes.append(vectors)
        attended.append(graph_nodes(model, torch.stack(nodes)))
        if len(modalities) > 1:
            found.append(paired(model, torch.stack(nodes)))
    attended = torch.cat(attended, dim=1)
    flat = attended.flatten(0, 1)
    mean, variance = (flat.mean(dim=0), flat.var(dim=0, unbiased=False)) if training else running
    normed_nodes = (attended - mean) / (variance + 1e-5).sqrt() * model.norm.weight + model.norm.bias
    activated = torch.where(normed_nodes > 0, normed_nodes, 0.01 * normed_nodes)
    both = torch.cat([*activated, *([torch.cat(found)] if found else [])], dim=1)
    bare = model.hide(both)
    torch.testing.assert_close(output.bare[batch.utterance_mask], bare, atol=1e-9, rtol=0)
    torch.testing.assert_close(output.hidden[batch.utterance_mask], bare.relu(), atol=1e-9, rtol=0)
    torch.testing.assert_close(output.logits[batch.utterance_mask], model.classifier(bare.relu()), atol=1e-9, rtol=0)


def test_a_window_ends_with_its_dialogue_and_each_side_is_a_mean(make_batch):
    graph = build_graph(make_batch([3, 1]), 2, 1, torch.float64)
    assert graph.near.int().tolist() == [
        [[1, 1, 0], [1, 1, 1], [1, 1, 1]],
        [[1, 0, 0], [1, 1, 0], [1, 0, 1]],
    ]
    assert graph.shares[0].tolist() == [
        [[0, 0, 0], [1, 0, 0], [0.5, 0.5, 0]],
        [[0, 1, 0], [0, 0, 1], [0, 0, 0]],
    ]
    assert build_graph(make_batch([3, 1]), 0, 1, torch.float64).shares.shape == (2, 1, 3, 3)


def test_names_of_speakers_mean_something_only_with_slots(make_batch):
    batch = make_batch([6, 4])
    renamed = replace(batch, speakers=8 - batch.speakers)
    for speakers, same in {"none": True, "slots": False}.items():
        model = build(speakers=speakers)
        assert torch.equal(model(batch).logits, model(renamed).logits) is same


def test_a_vector_of_absence_learns_from_its_first_zeros(make_batch):
    torch.manual_seed(0)
    model, batch = CORECT(CORECT.Config(**SMALL), DIMS, 3).train(), make_batch([5, 4])
    for name in DIMS:
        batch.modality_mask[name][0, 1] = False
    model(batch).logits.square().sum().backward()
    absent = {name: weight for name, weight in model.named_parameters() if name.endswith("absent_H")}
    assert len(absent) == 3
    assert all(not weight.any() and weight.grad.any() for weight in absent.values())


def test_dropout_is_in_the_text_encoder_and_before_the_classifier(make_batch, monkeypatch):
    model, batch, seen = build(text_layers=1, dropout=0.5).train(), make_batch([3, 2]), []
    layer = model.encoders["text"].layers[0]
    dropouts = {
        "attended": layer.dropout,
        "inner": layer.feedforward[2],
        "outer": layer.feedforward[4],
        "hidden": model.dropout,
    }
    assert {id(one) for one in dropouts.values()} == {id(one) for one in model.modules() if isinstance(one, nn.Dropout)}
    for name, dropout in dropouts.items():
        monkeypatch.setattr(
            dropout, "forward", lambda values, name=name: seen.append((name, tuple(values.shape))) or values
        )
    model(batch)
    assert seen == [("attended", (5, 8)), ("inner", (5, 12)), ("outer", (5, 8)), ("hidden", (5, 6))]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_heads": 3}, "text_units is 8, no multiple of heads, 3"),
        ({"pair_heads": 4}, "hidden_units is 6, no multiple of heads, 4"),
        ({"self_heads": 5}, "hidden_units is 6, no multiple of heads, 5"),
    ],
)
def test_a_width_that_heads_do_not_divide_is_refused(settings, message):
    with pytest.raises(BadSettings, match=rf"models\.corect: .*{message}"):
        build(**settings)
