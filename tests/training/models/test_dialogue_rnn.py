"""DialogueRNN compared, in values and gradients, with loops over dialogues and steps with torch's own cells; see
test_contract.py for what all models promise.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from merc.training.models.dialogue_rnn import DialogueRNN
from merc.training.models.engine.party_recurrence import plan

from .plain_parts import in_doubles

DIMS = {"text": 6, "audio": 5, "visual": 4}
SMALL = {
    "input_units": 3,
    "state_units": 6,
    "emotion_units": 4,
    "hidden_units": 5,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "emotion_dropout": 0.0,
}


def build(modalities=tuple(DIMS), dims=None, classes=3, **settings):
    torch.manual_seed(5)
    config = DialogueRNN.Config(**{**SMALL, **settings})
    model = DialogueRNN(config, {name: (dims or DIMS)[name] for name in modalities}, classes)
    for projection in model.projections.values():
        nn.init.normal_(projection.absent_H)
    return model.double()


def gru(x, state, of_input, input_bias, of_state, state_bias):
    """torch's cell, whose gates are in the order reset, update, new; here the input's start with new."""
    new, reset, update = torch.cat([of_input, input_bias]).chunk(3, dim=1)
    *weight, bias = torch.cat([reset, update, new], dim=1)
    return torch.gru_cell(x[None], state[None], torch.stack(weight, dim=1), of_state.T, bias, state_bias[0])[0]


def recurrence(net, direction, inputs, speakers, factors):
    """One direction of one dialogue: lists over its steps in that direction; returns emotion states and contexts."""
    units, emotions = net.query.shape[-1], net.state_emotion.shape[1]
    own = {name: weight[direction] for name, weight in net.named_parameters()}

    def cell(name, x, state, factor, *inputs):
        of_input = torch.cat([own[one] for one in inputs])
        return (
            gru(x, state, of_input, own[f"input_bias_{name}"], own[f"state_{name}"], own[f"state_bias_{name}"]) * factor
        )

    nothing = torch.zeros(units, dtype=torch.float64)
    party, history, e, given = {}, [], torch.zeros(emotions, dtype=torch.float64), []
    for step, (x, speaker) in enumerate(zip(inputs, speakers, strict=True)):
        q, g = party.get(speaker, nothing), history[-1] if history else nothing
        shares = torch.stack([x @ own["query"] @ earlier for earlier in history]).softmax(dim=0) if history else []
        c = sum((share * earlier for share, earlier in zip(shares, history, strict=True)), nothing)
        history.append(
            cell("global", torch.cat([x, q]), g, factors("global", direction, step), "input_global", "party_global")
        )
        party[speaker] = cell(
            "party", torch.cat([x, c]), q, factors("party", direction, step), "input_party", "context_party"
        )
        e = cell("emotion", party[speaker], e, factors("emotion", direction, step), "party_emotion")
        given.append((e, c))
    return given


def slow(model, batch, factors=lambda *_: 1.0):
    """Scores and contexts of every dialogue, [T, C] and [T, S]."""
    results = []
    for index, length in enumerate(batch.lengths.tolist()):
        inputs = [[] for _ in range(length)]
        for name in model.modalities:
            for step in range(length):
                there, projection = batch.modality_mask[name][index, step], model.projections[name]
                inputs[step].append(
                    projection.linear(batch.features[name][index, step]) if there else projection.absent_H
                )
        inputs, speakers = [torch.cat(parts) for parts in inputs], batch.speakers[index, :length].tolist()
        emotions = [[] for _ in range(length)]
        for direction in range(model.directions):
            order = list(range(length))[:: -1 if direction else 1]
            given = recurrence(
                model.networks,
                direction,
                [inputs[at] for at in order],
                [speakers[at] for at in order],
                lambda *of, index=index: factors(index, *of),
            )
            for at, (e, _) in zip(order, given, strict=True):
                emotions[at].append(e)
            if direction == 0:
                contexts = torch.stack([c for _, c in given])
        emotions = [torch.cat(parts) for parts in emotions]
        if model.query is not None:
            shares = [
                torch.stack([model.query(here) @ there for there in emotions]).softmax(dim=0) for here in emotions
            ]
            emotions = [sum(share * there for share, there in zip(own, emotions, strict=True)) for own in shares]
        results.append((torch.stack([model.classifier(model.hidden(e)) for e in emotions]), contexts))
    return results


def assert_same_values_and_gradients(model, batch, output, expected):
    """Scores and contexts, and the gradients of all weights for a sum with random signs and sizes."""
    generator = torch.Generator().manual_seed(1)
    losses = [0.0, 0.0]
    for index, (logits, contexts) in enumerate(expected):
        for found, wanted in [
            (output.logits[index, : len(logits)], logits),
            (output.context[index, : len(logits)], contexts),
        ]:
            torch.testing.assert_close(found, wanted, atol=1e-10, rtol=0)
            signs = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
            losses = [losses[0] + (found * signs).sum(), losses[1] + (wanted * signs).sum()]
    names, weights = zip(*model.named_parameters(), strict=True)
    for name, found, wanted in zip(names, *(torch.autograd.grad(loss, weights) for loss in losses), strict=True):
        torch.testing.assert_close(found, wanted, msg=lambda message, name=name: f"{name}: {message}")
        assert wanted.any(), f"{name} has no gradient, so that nothing was compared"


@pytest.mark.parametrize("direction", ["forward", "both"])
@pytest.mark.parametrize("modalities", [tuple(DIMS), ("visual", "text"), ("audio",)], ids="+".join)
def test_it_computes_what_the_loops_compute(make_batch, modalities, direction):
    model, batch = (
        build(modalities, direction=direction),
        in_doubles(make_batch([4, 1, 7, 7], modalities=modalities, pad_to=9)),
    )
    batch = replace(batch, speakers=batch.speakers % 3)
    assert_same_values_and_gradients(model, batch, model(batch), slow(model, batch))


def test_dropout_is_where_the_loops_have_it(make_batch, monkeypatch):
    """Dropout is applied to a global state once; attention and the next step use the same values."""
    model = build(recurrent_dropout=0.5).train()
    batch = in_doubles(make_batch([3, 6]))
    batch = replace(batch, speakers=batch.speakers % 2)
    for name in DIMS:
        batch.modality_mask[name][1, 2] = False
    drawn = []
    draw = model.networks._dropout
    monkeypatch.setattr(model.networks, "_dropout", lambda like: drawn.append(draw(like)) or drawn[-1])
    output = model(batch)
    positions, steps = plan(batch.lengths, batch.speakers, 2).positions.tolist(), batch.utterance_mask.shape[1]

    def factors(dialogue, name, direction, step):
        at = int(batch.lengths[dialogue]) - 1 - step if direction else step
        row = positions[direction].index(dialogue * steps + at)
        return drawn[0][("global", "history", "party", "emotion").index(name)][direction, row]

    assert {0.0, 2.0} == set(drawn[0][0].flatten().tolist()) == set(drawn[0][3].flatten().tolist())
    assert_same_values_and_gradients(model, batch, output, slow(model, batch, factors))


def test_emotions_are_dropped_once_more_after_the_recurrence(make_batch, monkeypatch):
    model, batch = build(emotion_dropout=0.5).train(), in_doubles(make_batch([5]))
    seen = []
    monkeypatch.setattr(model, "_attended", lambda emotions, _: seen.append(emotions) or emotions)
    model(batch)
    model.eval()(batch)
    dropped, whole = seen
    assert 0 < (dropped == 0).double().mean() < 1
    torch.testing.assert_close(dropped, torch.where(dropped == 0, 0.0, 2 * whole))


def test_only_the_backward_direction_knows_what_comes(make_batch):
    batch = in_doubles(make_batch([6]))
    for name in DIMS:
        batch.modality_mask[name][:] = True
    other = replace(
        batch,
        features={
            name: torch.cat([value[:, :-1], value[:, -1:] + 3.0], dim=1) for name, value in batch.features.items()
        },
    )
    for direction, same in {"forward": True, "both": False}.items():
        model = build(direction=direction)
        assert torch.equal(model(batch).logits[:, :-1], model(other).logits[:, :-1]) is same
        assert torch.equal(model(batch).context[:, :-1], model(other).context[:, :-1])


def test_it_has_as_many_weights_as_the_published_one():
    """Only text, with the published sizes for IEMOCAP; plus the linear map of the modality, which is ours."""
    sizes = {"input_units": 100, "state_units": 500, "emotion_units": 300, "hidden_units": 300}
    model = build(("text",), dims={"text": 100}, classes=6, **sizes)
    cells = [nn.GRUCell(600, 500), nn.GRUCell(600, 500), nn.GRUCell(500, 300), nn.Linear(100, 500, bias=False)]
    after = [nn.Linear(600, 600), nn.Linear(600, 600), nn.Linear(600, 6)]

    def count(*modules):
        return sum(weight.numel() for module in modules for weight in module.parameters())

    assert count(model) - count(model.projections) == 2 * count(*cells) + count(*after)
