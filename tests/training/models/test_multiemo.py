"""MultiEMO compared with loops over dialogues, utterances, modalities and heads; see test_contract.py for what all
models promise.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from merc.errors import BadSettings
from merc.params import fill
from merc.training.models.multiemo import MultiEMO

DIMS = {"text": 6, "audio": 5, "visual": 4}
SMALL = {
    "hidden_units": 8,
    "layers": 2,
    "heads": 2,
    "feedforward_units": 6,
    "classifier_units": 16,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
}
PUBLISHED = {"hidden_units": 256, "layers": 6, "heads": 4, "feedforward_units": 1024, "classifier_units": 256}


def build(modalities=tuple(DIMS), dims=None, classes=3, **settings):
    torch.manual_seed(5)
    model = MultiEMO(
        fill({**SMALL, **settings}, MultiEMO.Config, where="models.multiemo"),
        {name: (dims or DIMS)[name] for name in modalities},
        classes,
    )
    for name, parameter in model.named_parameters():
        if name.endswith(("absent_H", "M1H")):
            nn.init.normal_(parameter)
    return model.double().eval()


def in_doubles(batch):
    return replace(
        batch, features={name: value.double() for name, value in batch.features.items()}, speakers=batch.speakers % 3
    )


def gru(own, name, x, state, *inputs):
    """torch's cell, whose gates are in the order reset, update, new; here the input's start with new."""
    new, reset, update = torch.cat([*(own[one] for one in inputs), own[f"input_bias_{name}"]]).chunk(3, dim=1)
    *weight, bias = torch.cat([reset, update, new], dim=1)
    return torch.gru_cell(
        x[None], state[None], torch.stack(weight, dim=1), own[f"state_{name}"].T, bias, own[f"state_bias_{name}"][0]
    )[0]


def recurrence(networks, place, inputs, speakers):
    """The emotion states of one network over one dialogue, in the order of the lists."""
    own = {name: weight[place] for name, weight in networks.named_parameters()}
    nothing = torch.zeros(len(own["query"]), dtype=torch.float64)
    party, history, e, given = {}, [], nothing, []
    for x, speaker in zip(inputs, speakers, strict=True):
        q, g = party.get(speaker, nothing), history[-1] if history else nothing
        shares = torch.stack([own["query"] @ earlier for earlier in history]).softmax(dim=0) if history else []
        c = sum((share * earlier for share, earlier in zip(shares, history, strict=True)), nothing)
        history.append(gru(own, "global", torch.cat([x, q]), g, "input_global", "party_global"))
        party[speaker] = gru(own, "party", torch.cat([x, c]), q, "input_party", "context_party")
        e = gru(own, "emotion", party[speaker], e, "party_emotion")
        given.append(e)
    return given


def affine(maps, place, vector):
    return vector @ maps.weight[place] + maps.bias[place, 0]


def normed(norms, place, vector):
    centred = vector - vector.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * norms.weight_M1H[place, 0] + norms.bias_M1H[place, 0]


def attention(sublayer, asking, vector, others, there):
    """What one utterance of a modality receives from the present utterances of another."""
    if not any(there):
        return torch.zeros_like(vector)
    query = affine(sublayer.query, asking, vector).chunk(sublayer.heads)
    keys, values = zip(
        *(
            affine(sublayer.key_value, asking, other).chunk(2)
            for other, present in zip(others, there, strict=True)
            if present
        ),
        strict=True,
    )
    found = []
    for head, asks in enumerate(query):
        shares = torch.stack([asks @ key.chunk(sublayer.heads)[head] / math.sqrt(len(asks)) for key in keys]).softmax(
            dim=0
        )
        found.append(
            sum(share * value.chunk(sublayer.heads)[head] for share, value in zip(shares, values, strict=True))
        )
    return affine(sublayer.attended, asking, torch.cat(found))


def contexts(model, batch, index, length):
    """u of every modality of a dialogue, a list of lists."""
    speakers, given = batch.speakers[index, :length].tolist(), []
    for name in model.modalities:
        rows, projection = [], model.projections[name]
        for step in range(length):
            there = batch.modality_mask[name][index, step]
            rows.append(projection.linear(batch.features[name][index, step]) if there else projection.absent_H)
        if name in model.with_context:
            count, place = len(model.with_context), model.with_context.index(name)
            states = recurrence(model.context.networks, place, rows, speakers)
            if model.config.direction == "both":
                back = recurrence(model.context.networks, count + place, rows[::-1], speakers[::-1])[::-1]
                states = [affine(model.context.join, place, torch.cat(pair)) for pair in zip(states, back, strict=True)]
            rows = [state.relu() for state in states]
        given.append(rows)
    return given


def slow(model, batch, index, length):
    """u, the last f, hidden and scores of one dialogue."""
    own = contexts(model, batch, index, length)
    there = [batch.modality_mask[name][index, :length].tolist() for name in model.modalities]
    streams = own
    for layer in model.layers:
        after = []
        for asking, stream in enumerate(streams):
            others = [other for other in range(len(own)) if other != asking]
            for place, other in enumerate(others):
                given = [
                    attention(layer.attention[place], asking, vector, own[other], there[other]) for vector in stream
                ]
                stream = [
                    normed(layer.norms[place], asking, vector + one) for vector, one in zip(stream, given, strict=True)
                ]
            inner = [affine(layer.leave, asking, affine(layer.enter, asking, vector).relu()) for vector in stream]
            after.append(
                [
                    normed(layer.norms[len(others)], asking, vector + one)
                    for vector, one in zip(stream, inner, strict=True)
                ]
            )
        streams = after
    hidden = [model.fuse(torch.cat([stream[step] for stream in streams])) for step in range(length)]
    first, _, last = model.classifier
    return own, streams, torch.stack(hidden), torch.stack([last(first(vector).relu()) for vector in hidden])


@pytest.mark.parametrize(
    ("modalities", "settings"),
    [
        (tuple(DIMS), {}),
        (tuple(DIMS), {"direction": "forward", "text_context": False, "heads": 4}),
        (("visual", "text"), {"text_context": False}),
        (("audio",), {"direction": "forward"}),
        (("text",), {"text_context": False}),
    ],
)
def test_it_computes_what_the_loops_compute(make_batch, modalities, settings):
    lengths = [4, 1, 6, 3]
    model, batch = build(modalities, **settings), in_doubles(make_batch(lengths, modalities=modalities, pad_to=7))
    if len(modalities) > 1:
        batch.modality_mask[modalities[0]][3] = False  # a dialogue in which one modality is completely absent
    output = model(batch)
    checked = []
    for index, length in enumerate(lengths):
        own, streams, hidden, logits = slow(model, batch, index, length)
        checked += [
            (output.unimodal[name][index, :length], torch.stack(rows))
            for name, rows in zip(modalities, own, strict=True)
        ]
        checked += [
            (output.aligned[name][index, :length], torch.stack(rows))
            for name, rows in zip(modalities, streams, strict=True)
        ]
        checked += [(output.hidden[index, :length], hidden), (output.logits[index, :length], logits)]
        for name, rows in zip(modalities, own, strict=True):
            present = [row for row, there in zip(rows, batch.modality_mask[name][index, :length], strict=True) if there]
            checked.append(
                (output.pooled[name][index], sum(present, torch.zeros(8, dtype=torch.float64)) / max(1, len(present)))
            )
    for found, expected in checked:
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    # The gradient of the recurrence is hand-written, so it is compared as well.
    signs = [
        torch.randn(expected.shape, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
        for number, (_, expected) in enumerate(checked)
    ]
    losses = [sum((pair[side] * sign).sum() for pair, sign in zip(checked, signs, strict=True)) for side in (0, 1)]
    names, weights = zip(*model.named_parameters(), strict=True)
    gradients = [torch.autograd.grad(loss, weights, materialize_grads=True) for loss in losses]
    for name, found, expected in zip(names, *gradients, strict=True):
        torch.testing.assert_close(found, expected, msg=lambda message, name=name: f"{name}: {message}")
        assert expected.any() or name.endswith("absent_H"), f"{name} has no gradient, so that nothing was compared"


def test_a_modality_of_its_own_knows_nothing_of_the_others_and_the_layers_tell_it(make_batch):
    batch = in_doubles(make_batch([5, 3]))
    other = replace(batch, features={**batch.features, "audio": batch.features["audio"] + 1.0})
    model = build()
    before, after = model(batch), model(other)
    assert torch.equal(before.unimodal["text"], after.unimodal["text"])
    assert not torch.equal(before.unimodal["audio"], after.unimodal["audio"])
    assert not torch.equal(before.aligned["text"], after.aligned["text"])


def test_a_dialogue_without_a_modality_is_not_told_what_vectors_stand_in_for_it(make_batch):
    batch = in_doubles(make_batch([5, 3]))
    batch.modality_mask["audio"][1] = False
    model = build(text_context=False)
    before = model(batch)
    with torch.no_grad():
        model.projections["audio"].absent_H += 1.0
    after = model(batch)
    assert torch.equal(before.aligned["text"][1, :3], after.aligned["text"][1, :3])
    assert not torch.equal(before.aligned["audio"][1, :3], after.aligned["audio"][1, :3])


@pytest.mark.parametrize("modality", DIMS)
def test_with_one_modality_the_forward_direction_is_causal(make_batch, modality):
    batch = in_doubles(make_batch([6], modalities=(modality,)))
    batch.modality_mask[modality][:] = True
    other = replace(
        batch,
        features={modality: torch.cat([batch.features[modality][:, :4], batch.features[modality][:, 4:] + 3.0], dim=1)},
    )
    for direction, same in {"forward": True, "both": False}.items():
        model = build((modality,), direction=direction, text_context=False)
        assert model.causal is same
        assert torch.equal(model(batch).logits[:, :4], model(other).logits[:, :4]) is same
    assert not build(direction="forward").causal


def test_text_alone_has_a_context_whatever_text_context_says(make_batch):
    batch = in_doubles(make_batch([4], modalities=("text",)))
    models = [build(("text",), text_context=text_context) for text_context in (False, True)]
    assert torch.equal(*(model(batch).logits for model in models))


def test_dropout_is_drawn_for_the_recurrence_and_for_the_sublayers(make_batch):
    batch = in_doubles(make_batch([5, 3]))
    for settings in ({"dropout": 0.5}, {"recurrent_dropout": 0.5}):
        model = build(**settings).train()
        assert not torch.equal(model(batch).logits, model(batch).logits)
        assert torch.equal(model.eval()(batch).logits, build()(batch).logits)


def test_at_the_published_sizes_it_has_as_many_weights_as_the_published_one():
    """With its features and IEMOCAP's settings; plus the vectors of absent utterances, which are ours."""
    model = build(dims={"text": 768, "audio": 512, "visual": 1000}, classes=6, **PUBLISHED)
    cells = [nn.GRUCell(512, 256), nn.GRUCell(512, 256), nn.GRUCell(256, 256), nn.Linear(256, 1, bias=False)]
    context = [*cells, *cells, nn.Linear(512, 256)]
    attention = [nn.Linear(256, 64)] * 12 + [nn.Linear(256, 256), nn.LayerNorm(256)]
    layer = [*attention, *attention, nn.Linear(256, 1024), nn.Linear(1024, 256), nn.LayerNorm(256)]
    outer = [
        nn.Linear(768, 256),
        nn.Linear(512, 256),
        nn.Linear(1000, 256),
        nn.Linear(768, 256),
        nn.Linear(256, 256),
        nn.Linear(256, 6),
    ]

    def count(*modules):
        return sum(weight.numel() for module in modules for weight in module.parameters())

    absent = sum(weight.numel() for name, weight in model.named_parameters() if name.endswith("absent_H"))
    assert count(model) - absent == 3 * count(*context) + 18 * count(*layer) + count(*outer)


def test_units_that_the_heads_do_not_divide_are_refused():
    with pytest.raises(BadSettings, match="hidden_units is 8, no multiple of heads, 3"):
        build(heads=3)
