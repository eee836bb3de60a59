"""SDT compared with loops over dialogues, utterances, pairs of modalities and heads; see test_contract.py for what all
models promise.
"""

import math
from dataclasses import replace

import pytest
import torch

from merc.errors import BadSettings
from merc.params import fill
from merc.training.models.sdt import SDT

from .plain_parts import in_doubles

DIMS = {"text": 6, "audio": 5, "visual": 4}
SMALL = {"hidden_units": 8, "heads": 2}


def build(modalities=tuple(DIMS), **settings):
    torch.manual_seed(5)
    model = SDT(
        fill({**SMALL, **settings}, SDT.Config, where="models.sdt"), {name: DIMS[name] for name in modalities}, 3
    ).eval()
    for projection in model.projections.values():
        torch.nn.init.normal_(projection.absent_H)
    for scale in (model.transformers.norm_weight_K1H, model.transformers.norm_bias_K1H):
        torch.nn.init.normal_(scale)
    return model


def code(position, units):
    angles = [position / 10_000 ** (2 * (unit // 2) / units) for unit in range(units)]
    return torch.tensor(
        [math.cos(angle) if unit % 2 else math.sin(angle) for unit, angle in enumerate(angles)], dtype=torch.float64
    )


def gelu(vector):
    return vector / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (vector + 0.044715 * vector**3)))


def affine(maps, place, vector):
    return vector @ maps.weight[place] + (maps.bias[place, 0] if maps.bias is not None else 0)


def parts_of(projected, count, heads, part, other, head):
    """One head's query (part 0), key or value of a modality, for another modality."""
    return projected.view(3, count, heads, -1)[part, other, head]


def transformer(model, streams, present, asking, source):
    """The layer in which the utterances of one modality attend to those of a source, for one dialogue."""
    layers, count, heads = model.transformers, len(streams), model.transformers.head_count
    place, steps = asking * count + source, len(streams[0])
    asked = [affine(layers.query_key_value, source, vector) for vector in streams[source]]
    output = []
    for here in range(steps):
        keys = [step for step in range(steps) if present[source][step] or step == here]
        own = affine(layers.query_key_value, asking, streams[asking][here])
        found = []
        for head in range(heads):
            query = parts_of(own, count, heads, 0, source, head)
            scores = [
                query @ parts_of(asked[step], count, heads, 1, asking, head) / math.sqrt(len(query)) for step in keys
            ]
            weights = torch.stack(scores).softmax(dim=0)
            found.append(
                sum(
                    weight * parts_of(asked[step], count, heads, 2, asking, head)
                    for weight, step in zip(weights, keys, strict=True)
                )
            )
        between = streams[asking][here] + affine(layers.attended, place, torch.cat(found))
        centred = between - between.mean()
        normed = (
            centred / (centred.square().mean() + 1e-6).sqrt() * layers.norm_weight_K1H[place, 0]
            + layers.norm_bias_K1H[place, 0]
        )
        output.append(between + affine(layers.leave, place, gelu(affine(layers.enter, place, normed))))
    return output


@pytest.mark.parametrize(
    ("modalities", "settings"),
    [
        (("text", "audio", "visual"), {}),
        (("text", "audio", "visual"), {"gates": "identity", "heads": 4}),
        (("visual", "text"), {}),
        (("audio",), {}),
    ],
)
def test_it_computes_what_the_loops_compute(make_batch, modalities, settings):
    model, lengths = build(modalities, **settings).double(), [4, 1, 6]
    batch = in_doubles(make_batch(lengths, modalities=modalities))
    output, count = model(batch), len(modalities)
    for index, length in enumerate(lengths):
        present = [batch.modality_mask[name][index, :length].tolist() for name in modalities]
        marks = [
            code(step, 8) + model.speaker_vectors.weight[batch.speakers[index, step] % 9] for step in range(length)
        ]
        streams = []
        for name, there in zip(modalities, present, strict=True):
            projection = model.projections[name]
            rows = [
                projection.linear.weight @ batch.features[name][index, step] if there[step] else projection.absent_H
                for step in range(length)
            ]
            streams.append([row + mark for row, mark in zip(rows, marks, strict=True)])
        reduced = []
        for asking, name in enumerate(modalities):
            gated = []
            for source in range(count):
                found = transformer(model, streams, present, asking, source)
                gates = (
                    found
                    if model.gates is None
                    else [affine(model.gates, asking * count + source, vector) for vector in found]
                )
                gated.append([gate.sigmoid() * vector for gate, vector in zip(gates, found, strict=True)])
            torch.testing.assert_close(output.unimodal[name][index, :length], torch.stack(gated[asking]))
            there = [vector for vector, here in zip(gated[asking], present[asking], strict=True) if here]
            torch.testing.assert_close(
                output.pooled[name][index], sum(there, torch.zeros(8, dtype=torch.float64)) / max(1, len(there))
            )
            reduced.append(
                [
                    affine(model.streams, asking, torch.cat([gated[source][step] for source in range(count)]))
                    for step in range(length)
                ]
            )
        for step in range(length):
            if count == 1:
                hidden = reduced[0][step].relu()
                assert output.unimodal_logits == {}
            else:
                counted = [asking for asking in range(count) if present[asking][step]] or list(range(count))
                shares = torch.stack([model.fusion_gate.weight @ reduced[asking][step] for asking in counted]).softmax(
                    dim=0
                )
                hidden = sum(share * reduced[asking][step] for share, asking in zip(shares, counted, strict=True))
                for asking, name in enumerate(modalities):
                    torch.testing.assert_close(
                        output.unimodal_logits[name][index, step],
                        affine(model.heads, asking, reduced[asking][step].relu()),
                    )
            torch.testing.assert_close(output.hidden[index, step], hidden)
            torch.testing.assert_close(
                output.logits[index, step], model.classifier.weight @ hidden + model.classifier.bias
            )


def test_a_modality_of_its_own_knows_nothing_of_the_others(make_batch):
    batch = make_batch([5, 3])
    deaf = replace(batch, features={**batch.features, "audio": batch.features["audio"] + 1.0})
    model = build()
    before, after = model(batch), model(deaf)
    assert torch.equal(before.unimodal["text"], after.unimodal["text"])
    assert not torch.equal(before.unimodal["audio"], after.unimodal["audio"])
    assert not torch.equal(before.unimodal_logits["text"], after.unimodal_logits["text"])


def test_at_the_published_sizes_it_has_the_published_number_of_weights():
    """79.7 million with IEMOCAP's features and classes; the published model has vectors for two speakers and padding,
    this one for nine speakers.
    """
    with torch.device("meta"):
        model = SDT(
            fill({**SMALL, "hidden_units": 1024}, SDT.Config, where="models.sdt"),
            {"text": 1024, "audio": 1582, "visual": 342},
            6,
        )
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(79.7e6, rel=0.001)


def test_units_that_the_heads_do_not_divide_are_refused():
    with pytest.raises(BadSettings, match="hidden_units is 8, no multiple of heads, 3"):
        build(heads=3)
