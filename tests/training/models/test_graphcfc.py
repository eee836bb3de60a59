"""GraphCFC compared with loops over dialogues, nodes, edges and heads; see test_contract.py for what all models
promise.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from merc.training.models import graphcfc
from merc.training.models.graphcfc import GraphCFC, build_edges

from .plain_parts import in_doubles

DIMS = {"text": 6, "audio": 5, "visual": 4}
SMALL = {"hidden_units": 8, "heads": 2, "layers": 2, "window": 3, "dropout": 0.4}


def build(modalities=tuple(DIMS), **settings):
    torch.manual_seed(5)
    model = GraphCFC(GraphCFC.Config(**{**SMALL, **settings}), {name: DIMS[name] for name in modalities}, 3).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name or name.endswith("absent_H"):
            nn.init.normal_(parameter)  # as after some training
    return model


def normed(norm, vector):
    centred = vector - vector.mean()
    return centred / (centred.square().mean() + norm.eps).sqrt() * norm.weight + norm.bias


def gelu(vector):
    return vector * (1 + torch.erf(vector / 2**0.5)) / 2


def affine(linear, vector):
    return linear.weight @ vector + linear.bias


def extracted(extractor, vector):
    return normed(extractor[5], affine(extractor[3], gelu(affine(extractor[0], vector))))


def gru(cell, given, state):
    reset_in, update_in, new_in = (cell.weight_ih @ given + cell.bias_ih).chunk(3)
    reset_of, update_of, new_of = (cell.weight_hh @ state + cell.bias_hh).chunk(3)
    update = (update_in + update_of).sigmoid()
    return (1 - update) * (new_in + (reset_in + reset_of).sigmoid() * new_of).tanh() + update * state


def relation(one, other):
    """The numbers of unordered pairs, written out for nine speakers."""
    pairs = [(low, high) for high in range(9) for low in range(high + 1)]
    return pairs.index((min(one, other), max(one, other)))


def attended(model, attention, nodes, present, speakers):
    """The input of each node from its neighbours in one layer, (kind, step) → vector."""
    told = {}
    for kind, here in nodes:
        edges = []  # the source node and the vector of the relation
        for other, step in nodes:
            if other == kind and abs(step - here) <= model.window:
                vector = model.relation_vectors.weight[relation(speakers[step], speakers[here])]
            elif other != kind and step == here:
                vector = model.relation_vectors.weight[45]
            else:
                continue
            if present[other, step] or (other, step) == (kind, here):
                edges.append(((other, step), vector))
        by_head = []
        for head in range(attention.head_count):
            heard_weight, hearing_weight = attention.heard_hearing.weight.view(2, attention.head_count, 8, 8)[:, head]
            heard_bias, hearing_bias = attention.heard_hearing.bias.view(2, attention.head_count, 8)[:, head]
            relation_weight = attention.relation.weight.view(attention.head_count, 8, 8)[head]
            scores, values = [], []
            for node, vector in edges:
                value = heard_weight @ nodes[node] + heard_bias
                total = value + hearing_weight @ nodes[kind, here] + hearing_bias + relation_weight @ vector
                scores.append(
                    sum(
                        weight * (unit if unit > 0 else 0.2 * unit)
                        for weight, unit in zip(attention.score_hH[head], total, strict=True)
                    )
                )
                values.append(value)
            weights = torch.stack(scores).softmax(dim=0)
            by_head.append(sum(weight * value for weight, value in zip(weights, values, strict=True)))
        told[kind, here] = sum(by_head) / len(by_head)
    return told


def graph(model, layers, kinds, present, speakers):
    """All layers over one dialogue; input and output are a list of vectors for each kind of node."""
    nodes = {(kind, step): vector for kind, vectors in enumerate(kinds) for step, vector in enumerate(vectors)}
    there = {(kind, step): one for kind, ones in enumerate(present) for step, one in enumerate(ones)}
    for layer in layers.layers:
        told, after = attended(model, layer.attention, nodes, there, speakers), {}
        for node, vector in nodes.items():
            added = told[node]
            if len(layer.grus):
                added = gru(layer.grus[0], vector, added) + gru(layer.grus[1], added, vector)
            between = normed(layer.attention_norm, vector + added)
            after[node] = normed(
                layer.norm, between + affine(layer.feedforward[3], gelu(affine(layer.feedforward[0], between)))
            )
        nodes = after
    return [[nodes[kind, step] for step in range(len(vectors))] for kind, vectors in enumerate(kinds)]


def assert_are(outputs, vectors):
    """Each output starts with the vectors; the rest is padding."""
    for output in outputs:
        torch.testing.assert_close(output[: len(vectors)], torch.stack(vectors), atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("modalities", "settings"),
    [
        (("text", "audio", "visual"), {}),
        (("text", "audio", "visual"), {"aggregation": "bigru", "window": 1, "text_context": "none"}),
        (("visual", "text"), {"layers": 1, "heads": 3}),
        (("audio", "visual"), {"window": 100}),
        (("text",), {}),
        (("audio",), {"aggregation": "bigru"}),
    ],
)
def test_it_computes_what_the_loops_compute(make_batch, monkeypatch, modalities, settings):
    model, lengths = build(modalities, **settings).double(), [5, 1, 7]
    batch = in_doubles(make_batch(lengths, modalities=modalities))
    batch = replace(batch, speakers=batch.speakers + 4)  # some beyond the slots
    outputs = []
    for numbers in (1, graphcfc.CPU_NUMBERS):  # one pair at a time, and all at once
        monkeypatch.setattr(graphcfc, "CPU_NUMBERS", numbers)
        outputs.append(model(batch))
    chain = [name for name in ("audio", "visual", "text") if name in modalities]
    for index, length in enumerate(lengths):
        speakers = [speaker % 9 for speaker in batch.speakers[index, :length].tolist()]
        inputs, own, present = {}, {}, {}
        for name in chain:
            present[name] = batch.modality_mask[name][index, :length].tolist()
            projection = model.projections[name]
            rows = [
                affine(projection.linear, batch.features[name][index, step]) if there else projection.absent_H
                for step, there in enumerate(present[name])
            ]
            if name == "text" and model.text_context is not None:
                context = model.text_context
                rows = [
                    affine(context.leave, state) for state in context.recurrence(torch.stack(rows)[:, None])[0][:, 0]
                ]
            else:
                rows = [row.tanh() for row in rows]
            inputs[name] = [
                row + model.speaker_vectors.weight[speaker] for row, speaker in zip(rows, speakers, strict=True)
            ]
            own[name] = [extracted(model.extractors[name], row) for row in inputs[name]]
            assert_are([one.unimodal[name][index] for one in outputs], own[name])
            logits = [affine(model.heads[name], vector) for vector in own[name]]
            assert_are([one.unimodal_logits[name][index] for one in outputs], logits)
        fused, there = own[chain[0]], present[chain[0]]
        if len(chain) == 1:
            (fused,) = graph(model, model.graphs[0], [fused], [there], speakers)
        else:
            known = [any(present[name][step] for name in chain) for step in range(length)]
            shared = [
                affine(
                    model.share, torch.cat([extracted(model.shared_extractor, inputs[name][step]) for name in chain])
                )
                for step in range(length)
            ]
            joining = [(own[name], present[name]) for name in chain[1:]] + [(shared, known)]
            assert len(model.graphs) == len(joining)
            for number, (vectors, ones) in enumerate(joining):
                both = graph(model, model.graphs[number], [fused, vectors], [there, ones], speakers)
                fused = [affine(model.fusions[number], torch.cat(pair)) for pair in zip(*both, strict=True)]
                there = [one or other for one, other in zip(there, ones, strict=True)]
        assert_are([one.hidden[index] for one in outputs], fused)
        assert_are([one.logits[index] for one in outputs], [affine(model.classifier, vector) for vector in fused])


@pytest.mark.parametrize("cells_at_once", [1, 4, 100])
def test_edges_join_what_is_at_most_a_window_apart_in_one_dialogue(make_batch, monkeypatch, cells_at_once):
    monkeypatch.setattr(graphcfc, "CPU_NUMBERS", cells_at_once * 2 * 6)
    batch = replace(make_batch([4, 1, 2], pad_to=5), speakers=torch.tensor([[0, 1, 0, 2, 0], [0] * 5, [0, 1, 0, 0, 0]]))
    edges = build_edges(batch, window=2, kinds=2, units=6)
    near = [
        [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0] * 5],
        [[1, 0, 0, 0, 0], *[[0] * 5] * 4],
        [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], *[[0] * 5] * 3],
    ]
    assert edges.near.int().tolist() == near
    relations, times, steps = torch.full((3, 5, 5), -1), torch.zeros(3, 5, 5), [0, 1, 2, 3, 0, 0, 1]
    for block in edges.blocks:
        _, rows, columns = block.place
        assert steps[block.hearing] == list(range(5)[rows])
        assert steps[block.heard] == list(range(5)[columns])
        relations[block.place] = edges.relations[block.between].view(relations[block.place].shape)
        times[block.place] += 1
    assert times.max() == 1
    assert times[edges.near].min() == 1
    assert relations[0, :4, :4][edges.near[0, :4, :4]].tolist() == [0, 1, 0, 1, 2, 1, 4, 0, 1, 0, 3, 4, 3, 5]
    assert relations[2, :2, :2].tolist() == [[0, 1], [1, 2]]
    assert edges.relations.tolist() == [0, 1, 2, 3, 4, 5, 45]


def test_nobody_hears_an_absent_node_but_itself(make_batch):
    edges = build_edges(make_batch([2, 1]), window=2, kinds=2, units=6)
    audible = edges.audible(torch.tensor([[True, False], [True, True], [False, True]]))
    assert audible[..., 0].int().tolist() == [[[1, 1, 0], [1, 1, 1]], [[1, 0, 1], [0, 0, 0]]]
    assert audible[..., 1].int().tolist() == [[[1, 1, 1], [0, 1, 1]], [[1, 0, 0], [0, 0, 0]]]
    alone = build_edges(make_batch([2, 1]), window=2, kinds=1, units=6).audible(torch.ones(3, 1, dtype=torch.bool))
    assert alone[..., 0].int().tolist() == [[[1, 1, 0], [1, 1, 0]], [[1, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize("cells_at_once", [1, 4, 100])
@pytest.mark.parametrize("kinds", [1, 2])
def test_gradients_of_the_scores_are_those_of_differences(make_batch, monkeypatch, kinds, cells_at_once):
    monkeypatch.setattr(graphcfc, "CPU_NUMBERS", cells_at_once * kinds * 6)
    edges = build_edges(make_batch([4, 1, 2]), window=2, kinds=kinds, units=6)
    generator = torch.Generator().manual_seed(2)
    shapes = [(7, kinds, 6), (7, kinds, 6), (len(edges.relations), 6), (2, 3)]
    values = [torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(lambda *given: graphcfc._Scores.apply(*given, edges), values)


def test_a_modality_of_its_own_knows_nothing_of_the_others_nor_of_other_utterances(make_batch):
    model, batch = build(), make_batch([5, 3])
    changed = batch.features["audio"].clone()
    changed[:, 0] += 1.0
    before, after = model(batch), model(replace(batch, features={**batch.features, "audio": changed}))
    for parts in ("unimodal", "unimodal_logits"):
        ours, theirs = getattr(before, parts), getattr(after, parts)
        assert torch.equal(ours["text"], theirs["text"])
        assert torch.equal(ours["audio"][:, 1:], theirs["audio"][:, 1:])
        assert not torch.equal(ours["audio"], theirs["audio"])
    assert not torch.equal(before.hidden[:, 1:], after.hidden[:, 1:])


def test_what_is_said_travels_a_window_in_each_layer(make_batch):
    """One graph of two layers with a window of 1: nothing comes from further than two utterances away."""
    model, batch = build(("audio",), window=1), make_batch([7], modalities=("audio",))
    batch = replace(batch, modality_mask={"audio": batch.utterance_mask})
    louder = batch.features["audio"].clone()
    louder[0, 3] += 1.0
    moved = (model(batch).hidden != model(replace(batch, features={"audio": louder})).hidden).any(dim=-1)
    assert moved.tolist() == [[False, True, True, True, True, True, False]]


def test_every_layer_has_weights_of_its_own():
    model = build(layers=5)
    assert len({id(layer) for one in model.graphs for layer in one.layers}) == 3 * 5
