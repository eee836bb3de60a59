"""MM-DFN compared with loops over dialogues, speakers, layers and pairs of nodes; see test_contract.py for what all
models promise.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from merc.errors import BadSettings
from merc.params import fill
from merc.training.models.mm_dfn import MMDFN

from .plain_parts import in_doubles

DIMS = {"text": 6, "audio": 5, "visual": 4}
SMALL = {
    "node_units": 8,
    "hidden_units": 5,
    "layers": 3,
    "dropout": 0.0,
    "party_weights": {"text": 1.5, "audio": 0.5, "visual": 0.0},
}


def build(modalities=tuple(DIMS), **settings):
    torch.manual_seed(5)
    model = MMDFN(
        fill({**SMALL, **settings}, MMDFN.Config, where="models.mm_dfn"), {name: DIMS[name] for name in modalities}, 3
    ).eval()
    for projection in model.projections.values():
        nn.init.normal_(projection.absent_H)
    return model


def recurrent(rnn, inputs):
    """Two layers in both directions over a list of vectors, step by step."""
    for layer in range(2):
        outputs = [[] for _ in inputs]
        for suffix, order in (("", range(len(inputs))), ("_reverse", reversed(range(len(inputs))))):
            weights = [
                getattr(rnn, f"{kind}_l{layer}{suffix}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            state = memory = torch.zeros(1, rnn.hidden_size, dtype=torch.float64)
            for at in order:
                if isinstance(rnn, nn.GRU):
                    state = torch.gru_cell(inputs[at][None], state, *weights)
                else:
                    state, memory = torch.lstm_cell(inputs[at][None], (state, memory), *weights)
                outputs[at].append(state[0])
        inputs = [torch.cat(parts) for parts in outputs]
    return inputs


def nodes_of(model, batch, index, length):
    """Modality → one vector per utterance of a dialogue."""
    nodes = {}
    for name in model.modalities:
        projection = model.projections[name]
        there = batch.modality_mask[name][index, :length].tolist()
        projected = [
            projection.linear(batch.features[name][index, step]) if there[step] else projection.absent_H
            for step in range(length)
        ]
        nodes[name] = recurrent(model.text_context, projected) if name == "text" else list(projected)
        weight = getattr(model.config.party_weights, name)
        for speaker in set(batch.speakers[index, :length].tolist()) if weight else ():
            own = [step for step in range(length) if batch.speakers[index, step] == speaker]
            for step, context in zip(
                own, recurrent(model.party_context, [projected[step] for step in own]), strict=True
            ):
                nodes[name][step] = nodes[name][step] + weight * context
    return nodes


def adjacency(nodes, present):
    """The normalised matrix over all nodes, modality after modality."""
    places = [(name, step) for name in nodes for step in range(len(nodes[name]))]
    matrix = torch.zeros(len(places), len(places), dtype=torch.float64)
    for row, (name, step) in enumerate(places):
        for column, (other, at) in enumerate(places):
            if (name == other or step == at) and present[name][step] and present[other][at]:
                x, y = nodes[name][step].detach(), nodes[other][at].detach()
                matrix[row, column] = 1 - math.acos(0.99999 * float(x @ y / (x.norm() * y.norm()))) / math.pi
    scale = torch.diag(
        torch.tensor([degree**-0.5 if degree else 0.0 for degree in matrix.sum(dim=1).tolist()], dtype=torch.float64)
    )
    return scale @ matrix @ scale


def fused(fusion, config, stacked, normalised):
    """Hᴸ of all nodes of a dialogue; every node has its own cell state."""
    first = fusion.enter(stacked).relu()
    hidden = [vector[None] for vector in first]
    states = [(torch.zeros(1, config.hidden_units, dtype=torch.float64),) * 2 for _ in hidden]
    cell = fusion.memory
    for layer, weight in enumerate(fusion.weights_L2HH, start=1):
        states = [
            torch.lstm_cell(vector, state, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
            for vector, state in zip(hidden, states, strict=True)
        ]
        gathered = normalised @ torch.cat([given for given, _ in states])
        theta, alpha = math.log(config.identity_decay / layer + 1), config.initial_share
        mixed = (1 - alpha) * gathered + alpha * first
        added = (theta * (torch.cat([gathered, first], dim=1) @ weight) + (1 - theta) * mixed).relu()
        hidden = [vector + more[None] for vector, more in zip(hidden, added, strict=True)]
    return torch.cat(hidden)


@pytest.mark.parametrize(
    ("modalities", "settings"),
    [
        (("text", "audio", "visual"), {}),
        (
            ("text", "audio", "visual"),
            {"recurrence": "lstm", "party_weights": {"text": 1.0, "audio": 3.0, "visual": -1.0}},
        ),
        (("visual", "text"), {"initial_share": 0.4, "identity_decay": 1.5}),
        (("visual",), {"layers": 1}),
    ],
)
def test_it_computes_what_the_loops_compute(make_batch, modalities, settings):
    model, lengths = build(modalities, **settings).double(), [4, 1, 7]
    batch = in_doubles(make_batch(lengths, modalities=modalities, pad_to=9))
    batch = replace(batch, speakers=batch.speakers % 3)
    output = model(batch)
    for index, length in enumerate(lengths):
        nodes = nodes_of(model, batch, index, length)
        present = {name: batch.modality_mask[name][index, :length].tolist() for name in modalities}
        for name in modalities:
            torch.testing.assert_close(
                output.unimodal[name][index, :length], torch.stack(nodes[name]), atol=1e-10, rtol=0
            )
        stacked = torch.cat([torch.stack(nodes[name]) for name in modalities])
        both = torch.cat([stacked, fused(model.fusion, model.config, stacked, adjacency(nodes, present))], dim=1)
        hidden = torch.cat(list(both.split(length)), dim=1).relu()
        torch.testing.assert_close(output.hidden[index, :length], hidden)  # to 1e-7: θ is held in float32
        torch.testing.assert_close(output.logits[index, :length], model.classifier(hidden))


def test_what_is_dropped_are_nodes_what_enters_and_leaves_the_layers_and_the_hidden_layer(make_batch, monkeypatch):
    model, batch, seen = build().train(), make_batch([3, 2]), {"model": [], "fusion": []}
    for name, dropout in (("model", model.dropout), ("fusion", model.fusion.dropout)):
        monkeypatch.setattr(
            dropout, "forward", lambda values, name=name: seen[name].append(tuple(values.shape)) or values
        )
    model(batch)
    assert seen == {"model": [(3, 5, 8), (5, 3 * 13)], "fusion": [(3, 5, 5)] * 4}
    assert model.text_context.dropout == model.party_context.dropout == model.config.dropout


def test_who_speaks_matters_only_where_a_weight_is_not_zero(make_batch):
    batch = make_batch([6])
    others = replace(batch, speakers=(batch.speakers % 3) + torch.arange(6) % 2 * 3)
    for weights, same in [
        ({"text": 0.0, "audio": 0.0, "visual": 0.0}, True),
        ({"text": 0.0, "audio": 0.0, "visual": 2.0}, False),
    ]:
        model = build(party_weights=weights)
        assert torch.equal(model(batch).logits, model(others).logits) is same
        assert (model.party_context is None) is same


def test_names_of_speakers_mean_nothing(make_batch):
    """Unlike with vectors per speaker, it only matters which utterances have the same one."""
    batch, model = make_batch([6, 4]), build()
    torch.testing.assert_close(
        model(batch).logits, model(replace(batch, speakers=20 - batch.speakers)).logits, atol=1e-6, rtol=0
    )


def test_a_weight_that_is_left_out_has_its_default_and_an_unknown_one_is_named():
    assert build(party_weights={"text": 1.0}).party_weights == {"text": 1.0, "audio": 0.5, "visual": 0.5}
    with pytest.raises(BadSettings, match=r"models\.mm_dfn\.party_weights\.video"):
        build(party_weights={"video": 1.0})
