"""The dialogue transformer compared with loops over dialogues, utterances and heads; see test_contract.py for what all
models promise.
"""

import math
from dataclasses import replace

import pytest
import torch

from merc.errors import BadSettings
from merc.params import fill
from merc.training.models.dialogue_transformer import DialogueTransformer
from merc.training.models.engine.common import position_codes

DIMS = {"text": 6, "audio": 5, "visual": 4}
SMALL = {"hidden_units": 8, "heads": 2, "feedforward_units": 6}


def build(dims=DIMS, classes=3, **settings):
    torch.manual_seed(5)
    config = fill({**SMALL, **settings}, DialogueTransformer.Config, where="models.dialogue_transformer")
    model = DialogueTransformer(config, dims, classes).eval()
    for projection in model.projections.values():
        torch.nn.init.normal_(projection.absent_H)
    return model


def code(position, units):
    """Position codes as in the paper: alternating sine and cosine with wavelengths 10000^(2k/units)."""
    angles = [position / 10_000 ** (2 * (unit // 2) / units) for unit in range(units)]
    return torch.tensor(
        [math.cos(angle) if unit % 2 else math.sin(angle) for unit, angle in enumerate(angles)], dtype=torch.float64
    )


def norm(vector, layer):
    centred = vector - vector.mean()
    return centred / (centred.square().mean() + 1e-6).sqrt() * layer.weight + layer.bias


def gelu(vector):
    return vector / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (vector + 0.044715 * vector**3)))


def encoded(encoder, stream, present):
    """One modality of one dialogue: a list of vectors in, a list of gated vectors out."""
    for layer in encoder.layers:
        normed = [
            norm(vector, layer.attention_norm) if isinstance(layer.attention_norm, torch.nn.LayerNorm) else vector
            for vector in stream
        ]
        projected = [layer.query_key_value.weight @ vector + layer.query_key_value.bias for vector in normed]
        width = len(stream[0]) // layer.heads
        streamed = []
        for here, vector in enumerate(stream):
            keys = [step for step in range(len(stream)) if present[step] or step == here]
            heads = []
            for head in range(layer.heads):
                query, key, value = (
                    slice(part * len(vector) + head * width, part * len(vector) + (head + 1) * width)
                    for part in range(3)
                )
                weights = torch.stack(
                    [projected[here][query] @ projected[step][key] / math.sqrt(width) for step in keys]
                ).softmax(dim=0)
                heads.append(sum(weight * projected[step][value] for weight, step in zip(weights, keys, strict=True)))
            between = vector + layer.attended.weight @ torch.cat(heads) + layer.attended.bias
            first, second = layer.feedforward[1], layer.feedforward[4]
            streamed.append(
                between
                + second.weight @ gelu(first.weight @ norm(between, layer.feedforward[0]) + first.bias)
                + second.bias
            )
        stream = streamed
    return [(encoder.gate.weight @ vector).sigmoid() * vector for vector in stream]


@pytest.mark.parametrize("settings", [{}, {"layers": 2, "speakers": "slots", "pool_from": "gated"}])
def test_it_computes_what_the_loops_compute(make_batch, settings):
    model, lengths = build(**settings).double(), [4, 1, 6]
    batch = make_batch(lengths)
    batch = replace(batch, features={name: value.double() for name, value in batch.features.items()})
    output = model(batch)
    for index, length in enumerate(lengths):
        gated = {}
        for name in DIMS:
            projection, present = model.projections[name], batch.modality_mask[name][index, :length].tolist()
            content = [
                projection.linear.weight @ batch.features[name][index, step] if present[step] else projection.absent_H
                for step in range(length)
            ]
            if model.speaker_vectors is not None:
                content = [
                    vector + model.speaker_vectors.weight[batch.speakers[index, step] % 9]
                    for step, vector in enumerate(content)
                ]
            gated[name] = encoded(
                model.encoders[name], [vector + code(step, 8) for step, vector in enumerate(content)], present
            )
            pooled = gated[name] if model.pool_from == "gated" else encoded(model.encoders[name], content, present)
            chosen = [vector for vector, there in zip(pooled, present, strict=True) if there] or [
                torch.zeros(8, dtype=torch.float64)
            ]
            torch.testing.assert_close(output.pooled[name][index], sum(chosen) / len(chosen))
            torch.testing.assert_close(output.unimodal[name][index, :length], torch.stack(gated[name]))
        for step in range(length):
            hidden = model.fuse.weight @ torch.cat([gated[name][step] for name in DIMS])
            torch.testing.assert_close(output.hidden[index, step], hidden)
            torch.testing.assert_close(
                output.logits[index, step], model.classifier.weight @ hidden + model.classifier.bias
            )


def test_it_has_as_many_weights_as_the_published_one_uses():
    """Of the published 5,188,114 parameters 4,649,990 are used, 3,678,208 of them in the encoders and gates."""
    settings = {"hidden_units": 512, "heads": 8, "feedforward_units": 512}
    model = build({"text": 768, "audio": 100}, classes=6, **settings)
    counts = {name: weight.numel() for name, weight in model.named_parameters() if "absent" not in name}
    assert sum(counts.values()) == 4_649_990
    assert sum(count for name, count in counts.items() if name.startswith("encoders")) == 3_678_208


def one_thing_said(length, make_batch):
    """A dialogue in which every utterance has the same vectors."""
    batch = make_batch([length])
    features = {name: torch.ones_like(value) for name, value in batch.features.items()}
    return replace(
        batch,
        features=features,
        modality_mask={name: torch.ones_like(mask) for name, mask in batch.modality_mask.items()},
    )


@pytest.mark.parametrize(("pool_from", "alike"), [("content", True), ("gated", False)])
def test_only_the_published_pooling_tells_a_dialogues_length(make_batch, pool_from, alike):
    model = build(pool_from=pool_from)
    short, long = (model(one_thing_said(length, make_batch)).pooled["text"] for length in (3, 40))
    assert torch.allclose(short, long, atol=1e-5) is alike


def test_nothing_is_pooled_where_nothing_is_asked_for(make_batch):
    assert build(pool_from="none")(make_batch([3])).pooled == {}


def test_nothing_is_pooled_where_no_one_looks_at_it_and_the_scores_stay(make_batch):
    model, batch = build(pool_from="content"), make_batch([3, 5])
    expected = model(batch)
    model.pool(False)
    found = model(batch)
    assert found.pooled == {}
    assert torch.equal(found.logits, expected.logits)


def test_contrast_of_whole_dialogues_trains_encoders_and_gates(make_batch):
    model = build().train()
    sum(vector.square().sum() for vector in model(make_batch([6, 4])).pooled.values()).backward()
    trained = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    # An absent utterance does not enter the means, and is not a key for those that are present.
    assert trained == {
        name
        for name, _ in model.named_parameters()
        if name.startswith(("projections", "encoders")) and "absent" not in name
    }


@pytest.mark.parametrize("units", [1, 7, 8])
def test_position_codes_are_those_of_the_formula(units):
    expected = torch.stack([code(position, units) for position in range(400)])
    torch.testing.assert_close(position_codes(400, units, torch.device("cpu")), expected.float(), atol=1e-4, rtol=0)


def test_order_is_seen(make_batch):
    """Without position codes, self-attention cannot tell which of two equal utterances came first."""
    logits = build()(one_thing_said(2, make_batch)).logits[0]
    assert not torch.allclose(logits[0], logits[1], atol=1e-3)


def test_units_that_the_heads_do_not_divide_are_refused():
    with pytest.raises(BadSettings, match="hidden_units is 8, no multiple of heads, 3"):
        build(heads=3)
