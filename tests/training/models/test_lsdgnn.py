"""LSDGNN compared with loops over dialogues, layers, utterances and edges, with torch's GRU cells; see test_contract.py
for what all models promise.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from merc.errors import BadSettings
from merc.params import fill
from merc.training.models.engine.dag import build_graph
from merc.training.models.lsdgnn import LSDGNN

from .plain_parts import cells, in_doubles

DIMS = {"text": 6, "audio": 5, "visual": 4}
UNITS = 8


def build(modalities=tuple(DIMS), **settings):
    torch.manual_seed(5)
    config = fill({"hidden_units": UNITS, **settings}, LSDGNN.Config, where="models.lsdgnn")
    model = LSDGNN(config, {name: DIMS[name] for name in modalities}, 3).eval()
    for projection in model.projections.values():
        nn.init.normal_(projection.absent_H)  # as after some training
    return model


def heard_by(speakers, step, distance):
    """The utterances back to the speaker's last one but ``distance`` - 1, inclusive; to the start if there is none."""
    heard, own = [], 0
    for earlier in range(step - 1, -1, -1):
        heard.append(earlier)
        own += speakers[earlier] == speakers[step]
        if own == distance:
            break
    return heard


def branch(layers, states, speakers, distance):
    """The states of every layer [T, H], and the input from the neighbours to the last one [T, H]."""
    by_layer = []
    for layer in layers:
        first, second = cells(layer, UNITS)
        to_same, to_others = layer.relations.weight.T.split(UNITS)
        above, messages = [], []
        for step, below in enumerate(states):
            message = torch.zeros(UNITS, dtype=torch.float64)
            heard = heard_by(speakers, step, distance)
            if heard:
                weights = torch.stack([above[earlier] @ layer.score[:, 0] for earlier in heard]).softmax(dim=0)
                for weight, earlier in zip(weights, heard, strict=True):
                    relation = to_same if speakers[earlier] == speakers[step] else to_others
                    message = message + weight * (above[earlier] @ relation)
            messages.append(message)
            above.append(first(below[None], message[None])[0] + second(message[None], below[None])[0])
        by_layer.append(torch.stack(above))
        states = above
    return by_layer, torch.stack(messages)


def attended(asking, weight, heard, causal):
    given = []
    for step, state in enumerate(asking):
        seen = heard[: step + 1] if causal else heard
        shares = torch.stack([state @ weight @ other for other in seen]).exp()
        given.append(sum(share * other for share, other in zip(shares / shares.sum(), seen, strict=True)))
    return torch.stack(given)


@pytest.mark.parametrize(
    ("modalities", "settings"),
    [
        (("text", "audio", "visual"), {"layers": 2}),
        (("text", "audio", "visual"), {"layers": 3, "short_distance": 2, "long_distance": 3, "causal": True}),
        (("visual", "text"), {"layers": 1, "long_distance": 2, "shortcut": False, "hidden_layers": 1}),
        (("audio",), {"layers": 2, "long_distance": 20, "hidden_layers": 3}),
    ],
)
def test_it_computes_what_the_loops_compute(make_batch, modalities, settings):
    model, lengths = build(modalities, **settings).double(), [4, 1, 9, 6]
    config, linears = model.config, [layer for layer in model.hide if isinstance(layer, nn.Linear)]
    assert len(linears) == config.hidden_layers
    batch = in_doubles(make_batch(lengths, modalities=modalities, pad_to=11, padding=1e3))
    batch = replace(batch, speakers=batch.speakers % 3)  # so that some speak again soon, some late and some never
    output = model(batch)
    for index, length in enumerate(lengths):
        speakers, sums, raw = batch.speakers[index, :length].tolist(), 0.0, []
        for name in modalities:
            projection, present = model.projections[name], batch.modality_mask[name][index, :length].tolist()
            vectors = batch.features[name][index, :length]
            rows = torch.stack(
                [
                    projection.linear(vector) if there else projection.absent_H
                    for vector, there in zip(vectors, present, strict=True)
                ]
            )
            torch.testing.assert_close(output.unimodal[name][index, :length], rows)
            sums = sums + rows
            raw.append(torch.stack([vector * there for vector, there in zip(vectors, present, strict=True)]))
        first = sums.relu()
        short, short_heard = branch(model.short, list(first), speakers, config.short_distance)
        long, long_heard = branch(model.long, list(first), speakers, config.long_distance)
        given = [first]
        for number, (s, f) in enumerate(zip(short, long, strict=True), start=1):
            torch.testing.assert_close(output.extras["short_distance"][f"layer {number}"][index, :length], s)
            torch.testing.assert_close(output.extras["long_distance"][f"layer {number}"][index, :length], f)
            given += [
                attended(s, model.short_to_long, f, config.causal),
                attended(f, model.long_to_short, s, config.causal),
            ]
        hidden = torch.cat([*given, *(raw if config.shortcut else [])], dim=1)
        for linear in linears:
            bare = hidden @ linear.weight.T + linear.bias
            hidden = bare.clamp(min=0)
        torch.testing.assert_close(output.bare[index, :length], bare)
        torch.testing.assert_close(output.hidden[index, :length], hidden)
        torch.testing.assert_close(output.logits[index, :length], model.classifier(hidden))
        torch.testing.assert_close(output.context[index, :length], torch.cat([short_heard, long_heard], dim=1))


def test_the_graphs_are_those_that_are_drawn(make_batch):
    """The example in the module's docstring: A B A C A B A."""
    batch = replace(make_batch([7]), speakers=torch.tensor([[0, 1, 0, 2, 0, 1, 0]]))
    short, long = (~build_graph(batch, own).unheard[0] for own in (1, 2))
    assert short[6].nonzero().flatten().tolist() == [4, 5]
    assert long[6].nonzero().flatten().tolist() == [2, 3, 4, 5]
    assert short[3].nonzero().flatten().tolist() == long[3].nonzero().flatten().tolist() == [0, 1, 2]
    assert (long | ~short).all()


def test_what_the_branches_found_is_dropped_in_all_layers_but_the_last(make_batch, monkeypatch):
    model, batch, seen = build(layers=3).train(), make_batch([3, 2]), []
    assert [one for one in model.modules() if isinstance(one, nn.Dropout)] == [model.dropout]
    monkeypatch.setattr(model.dropout, "forward", lambda values: seen.append(tuple(values.shape)) or values)
    model(batch)
    assert seen == [(5, UNITS)] * (2 * 2 + 1)  # both branches in two layers, and before the classifier


def test_a_long_distance_that_is_not_longer_is_refused():
    with pytest.raises(BadSettings, match=r"models\.lsdgnn: .*long_distance is 2, no more than short_distance, 2"):
        build(short_distance=2, long_distance=2)
