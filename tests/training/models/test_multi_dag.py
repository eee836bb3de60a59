"""MultiDAG compared with loops over dialogues, layers, utterances and edges, with torch's GRU cells; see
test_contract.py for what all models promise.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from merc.training.models.engine.dag import build_graph
from merc.training.models.multi_dag import MultiDAG

from .plain_parts import cells

DIMS = {"text": 6, "audio": 5, "visual": 4}
UNITS = 8


def build(modalities=tuple(DIMS), layers=2, **settings):
    torch.manual_seed(5)
    config = MultiDAG.Config(hidden_units=UNITS, layers=layers, **settings)
    model = MultiDAG(config, {name: DIMS[name] for name in modalities}, 3).eval()
    for projection in model.projections.values():
        nn.init.normal_(projection.absent_H)
    return model


def heard_by(speakers, step):
    """The utterances back to the speaker's last one, inclusive; to the start if there is none."""
    heard = []
    for earlier in range(step - 1, -1, -1):
        heard.append(earlier)
        if speakers[earlier] == speakers[step]:
            break
    return heard


def one_layer(layer, below, speakers):
    first, second = cells(layer, UNITS)
    to_same, to_others = layer.relations.weight.T.split(UNITS)
    states, messages = [], []
    for step in range(len(below)):
        message = torch.zeros(UNITS, dtype=torch.float64)
        heard = heard_by(speakers, step)
        if heard:
            weights = torch.stack([states[earlier] @ layer.score[:, 0] for earlier in heard]).softmax(dim=0)
            for weight, earlier in zip(weights, heard, strict=True):
                message = message + weight * (
                    states[earlier] @ (to_same if speakers[earlier] == speakers[step] else to_others)
                )
        messages.append(message)
        states.append(first(below[step][None], message[None])[0] + second(message[None], below[step][None])[0])
    return states, messages


@pytest.mark.parametrize(
    ("modalities", "layers", "hidden_layers"),
    [(("text", "audio", "visual"), 3, 2), (("visual", "text"), 1, 1), (("audio",), 2, 3)],
)
def test_it_computes_what_the_loops_compute(make_batch, modalities, layers, hidden_layers):
    model, lengths = build(modalities, layers, hidden_layers=hidden_layers).double(), [4, 1, 9, 6]
    linears = [layer for layer in model.hide if isinstance(layer, nn.Linear)]
    assert len(linears) == hidden_layers
    batch = make_batch(lengths, modalities=modalities, pad_to=11)
    # Three speakers, so that some speak again soon, some late and some never.
    batch = replace(
        batch, features={name: value.double() for name, value in batch.features.items()}, speakers=batch.speakers % 3
    )
    output = model(batch)
    for index, length in enumerate(lengths):
        speakers, sums = batch.speakers[index, :length].tolist(), torch.zeros(length, UNITS, dtype=torch.float64)
        for name in modalities:
            projection, present = model.projections[name], batch.modality_mask[name][index, :length].tolist()
            rows = [
                projection.linear(batch.features[name][index, step]) if present[step] else projection.absent_H
                for step in range(length)
            ]
            torch.testing.assert_close(output.unimodal[name][index, :length], torch.stack(rows))
            sums = sums + torch.stack(rows)
        states = [list(sums.relu())]
        for layer in model.layers:
            above, messages = one_layer(layer, states[-1], speakers)
            states.append(above)
        for step in range(length):
            hidden = torch.cat([state[step] for state in states])
            for linear in linears:
                bare = linear.weight @ hidden + linear.bias
                hidden = bare.clamp(min=0)
            torch.testing.assert_close(output.bare[index, step], bare)
            torch.testing.assert_close(output.hidden[index, step], hidden)
            torch.testing.assert_close(output.logits[index, step], model.classifier(hidden))
            torch.testing.assert_close(output.context[index, step], messages[step])


def test_the_graph_is_the_one_that_is_drawn(make_batch):
    """The example in the module's docstring: A B C A B; and a shorter dialogue with only one speaker."""
    batch = replace(make_batch([2, 5]), speakers=torch.tensor([[0, 0, 0, 0, 0], [0, 1, 2, 0, 1]]))
    graph = build_graph(batch)
    drawn, short = (~graph.unheard).int().tolist()
    assert drawn == [[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0]]
    assert short[:2] == [[0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert graph.relations[0, :, 0].nonzero().tolist() == [[3, 0], [4, 1]]
    assert torch.equal(graph.relations[:, :, 0], ~graph.relations[:, :, 1])
    assert graph.sizes == [2, 2, 1, 1, 1]
    assert graph.positions.tolist() == [5, 0, 6, 1, 7, 8, 9]


def test_gradients_agree_with_finite_differences(make_batch):
    """Gradients of the weights are collected over the steps; the dialogues end at different ones."""
    model, batch = build(layers=2).double(), make_batch([3, 1, 4])
    features = {name: value.double() for name, value in batch.features.items()}
    names, weights = zip(
        *((name, weight) for name, weight in model.named_parameters() if name.startswith("layers")), strict=True
    )

    def hidden(*changed):
        return torch.func.functional_call(
            model, dict(zip(names, changed, strict=True)), (replace(batch, features=features),)
        ).hidden

    assert torch.autograd.gradcheck(hidden, weights, fast_mode=True)
