"""GraphSmile compared with loops over dialogues, pairs of modalities, utterances and edges; see test_contract.py for
what all models promise.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from merc.params import fill
from merc.training.models.graphsmile import GraphSmile, weighed_edges

DIMS = {"text": 6, "audio": 5, "visual": 4}
SMALL = {"hidden_units": 8, "layers": 3, "past": 2, "future": 1, "dropout": 0.0}


def build(modalities=tuple(DIMS), **settings):
    torch.manual_seed(5)
    config = fill({**SMALL, **settings}, GraphSmile.Config, where="models.graphsmile")
    model = GraphSmile(config, {name: DIMS[name] for name in modalities}, 3).eval()
    for projection in model.projections.values():
        nn.init.normal_(projection.absent_H)  # as after some training
    nn.init.normal_(model.log_edges_PSW)
    return model


def leaky(vector):
    return torch.stack([value if value > 0 else 0.01 * value for value in vector])


def heard(config, step, length):
    """The neighbours of an utterance, in order."""
    last = step if config.causal else step + config.future
    return [other for other in range(length) if step - config.past <= other <= last]


def of_pair(model, index, starts):
    """y of both sides of a pair, or of the single side, for one dialogue; ``starts``: x⁰ of each side, a list of
    vectors.
    """
    config, length = model.config, len(starts[0])
    weights = model.log_edges_PSW[index].exp()
    degrees = [
        [sum(weights[side][j - i + config.past] for j in heard(config, i, length)) for i in range(length)]
        for side in range(len(starts))
    ]
    totals, nodes = [list(start) for start in starts], starts
    for convolution, readout in zip(model.convolutions, model.readouts, strict=True):
        after = []
        for side in range(len(nodes)):
            other = len(nodes) - 1 - side
            rows = []
            for i in range(length):
                total = convolution.bias[index, 0]
                for j in heard(config, i, length):
                    share = weights[side][j - i + config.past] / (degrees[side][i] * degrees[other][j]).sqrt()
                    total = total + share * (nodes[other][j] @ convolution.weight[index])
                rows.append(total)
                totals[side][i] = totals[side][i] + leaky(total @ readout.weight[index] + readout.bias[index, 0])
            after.append(rows)
        nodes = after
    return totals


@pytest.mark.parametrize(
    ("modalities", "settings"),
    [
        (("text", "audio", "visual"), {}),
        (("visual", "text", "audio"), {"causal": True, "past": 3}),
        (("audio", "text"), {"past": 0, "future": 20, "layers": 1}),
        (("text",), {"past": 20, "future": 0}),
    ],
)
def test_it_computes_what_the_loops_compute(make_batch, modalities, settings):
    model, lengths = build(modalities, **settings).double(), [4, 1, 7]
    batch = make_batch(lengths, modalities=modalities, pad_to=9, padding=1e3)
    batch = replace(batch, features={name: value.double() for name, value in batch.features.items()})
    output = model(batch)
    pairs = [(a, b) for at, a in enumerate(modalities) for b in modalities[at + 1 :]] or [modalities]
    for index, length in enumerate(lengths):
        starts = {}
        for name in modalities:
            there, projection = batch.modality_mask[name][index, :length].tolist(), model.projections[name]
            vectors = [
                projection.linear(batch.features[name][index, step]) if there[step] else projection.absent_H
                for step in range(length)
            ]
            torch.testing.assert_close(output.unimodal[name][index, :length], torch.stack(vectors), atol=1e-10, rtol=0)
            starts[name] = [leaky(vector) for vector in vectors]
        sides = [
            side for number, pair in enumerate(pairs) for side in of_pair(model, number, [starts[m] for m in pair])
        ]
        for step in range(length):
            mapped = [model.fuse(side[step]) for side in sides]
            hidden = sum(leaky(vector) for vector in mapped) / len(mapped)
            torch.testing.assert_close(output.bare[index, step], sum(mapped) / len(mapped), atol=1e-10, rtol=0)
            torch.testing.assert_close(output.hidden[index, step], hidden, atol=1e-10, rtol=0)
            torch.testing.assert_close(output.logits[index, step], model.classifier(hidden), atol=1e-10, rtol=0)


def test_equal_edges_are_divided_by_the_roots_of_their_numbers():
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    edges = weighed_edges(torch.ones(1, 2, 3), mask, 1)
    assert edges.shape == (1, 2, 2, 4, 4)
    half, root, third = 1 / 2, 1 / math.sqrt(6), 1 / 3
    for side in range(2):
        torch.testing.assert_close(
            edges[0, side, 0, :3], torch.tensor([[half, root, 0, 0], [root, third, root, 0], [0, root, half, 0]])
        )
        torch.testing.assert_close(edges[0, side, 1, :2], torch.tensor([[half, half, 0, 0], [half, half, 0, 0]]))


@pytest.mark.parametrize(("layers", "same"), [(1, True), (2, False)])
def test_one_layer_hears_only_the_other_modality_and_two_layers_hear_both(make_batch, layers, same):
    batch, model = make_batch([5], modalities=("text", "audio")), build(("text", "audio"), layers=layers)
    generator = torch.Generator().manual_seed(0)
    one, other, second = torch.randn(3, 5, 8, generator=generator)
    starts = [torch.stack([first, second])[None] for first in (one, other)]
    told = [(model._convolved(start, batch) - start)[0, 0] for start in starts]  # to the first side
    assert torch.allclose(*told, atol=1e-5) is same


def test_a_window_beyond_the_dialogue_is_the_whole_dialogue(make_batch):
    batch, models = make_batch([6, 2]), [build(past=past, future=past) for past in (5, 50)]
    state = {name: value for name, value in models[0].state_dict().items() if name != "log_edges_PSW"}
    models[1].load_state_dict(state, strict=False)
    with torch.no_grad():
        models[1].log_edges_PSW[..., 45:56] = models[0].log_edges_PSW
    torch.testing.assert_close(models[0](batch).logits, models[1](batch).logits)
