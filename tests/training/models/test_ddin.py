"""DDIN and BiDDIN compared, in values and gradients, with loops over dialogues, steps and modalities; see
test_contract.py for what all models promise.
"""

import math
from dataclasses import replace

import pytest
import torch

from merc.errors import BadSettings
from merc.params import fill
from merc.training.models.ddin import DDIN
from merc.training.models.engine.party_recurrence import plan

from .plain_parts import in_doubles

DIMS = {"text": 6, "audio": 5, "visual": 4}
SMALL = {
    "input_units": 5,
    "state_units": 6,
    "emotion_units": 4,
    "heads": 2,
    "dropout": 0.0,
    "input_dropout": 0.0,
    "recurrent_dropout": 0.0,
}
ALL = tuple(DIMS)


def build(modalities=ALL, dims=None, classes=3, **settings):
    torch.manual_seed(5)
    model = DDIN(
        fill({**SMALL, **settings}, DDIN.Config, where="models.ddin"),
        {name: (dims or DIMS)[name] for name in modalities},
        classes,
    )
    for projections in model.projections:
        for projection in projections.values():
            torch.nn.init.normal_(projection.absent_H)
    return model.double()


def gru(of_input, of_state, state):
    """A GRU cell from the contributions of input and state to its gates, which are in different orders."""
    input_new, input_reset, input_update = of_input.chunk(3)
    state_reset, state_update, state_new = of_state.chunk(3)
    reset, update = (input_reset + state_reset).sigmoid(), (input_update + state_update).sigmoid()
    new = (input_new + reset * state_new).tanh()
    return (1 - update) * new + update * state


def code(step, units):
    angles = [step / 10_000 ** (2 * (unit // 2) / units) for unit in range(units)]
    return torch.tensor(
        [math.cos(angle) if unit % 2 else math.sin(angle) for unit, angle in enumerate(angles)], dtype=torch.float64
    )


def recurrence(model, direction, inputs, present, speakers, factors):
    """One direction of one dialogue: inputs are lists over modalities of lists over steps; returns emotion states and
    contexts in the same order.
    """
    net, modalities = model.networks, range(len(inputs))
    units, emotions = net.gate.shape[1], net.state_emotion.shape[1]
    zeros = torch.zeros(units, dtype=torch.float64)
    state = [zeros] * len(inputs)
    party = [{} for _ in modalities]
    emotion = [torch.zeros(emotions, dtype=torch.float64)] * len(inputs)
    history = [[] for _ in modalities]
    given = [([], []) for _ in modalities]
    for step, speaker in enumerate(speakers):
        new_history = []
        for m in modalities:
            k, x = direction * len(inputs) + m, inputs[m][step]
            q = party[m].get(speaker, zeros)
            of_input = x @ net.input_global[k] + q @ net.party_global[k] + net.input_bias_global[k, 0]
            state[m] = gru(of_input, state[m] @ net.state_global[k] + net.state_bias_global[k, 0], state[m]) * factors(
                "global", k, step
            )
            new_history.append((state[m] + code(step, units)) * factors("key", k, step))
            contexts = []
            for n in modalities:
                keys = [key for at, key in enumerate(history[n]) if present[n][at]]
                query = x @ net.query[k][:, n * units : (n + 1) * units]
                weights = torch.stack([query @ key for key in keys]).softmax(dim=0) if keys else []
                contexts.append(sum((weight * key for weight, key in zip(weights, keys, strict=True)), zeros))
            shares = torch.stack([context @ net.gate[k] for context in contexts]).softmax(dim=0)
            joined = (
                torch.cat([(1 + share) * context for share, context in zip(shares, contexts, strict=True)])
                @ net.join[k]
                + net.join_bias[k, 0]
            )
            gated = joined if step else zeros  # nothing before the first utterance, not even a bias
            of_input = x @ net.input_party[k] + gated @ net.context_party[k] + net.input_bias_party[k, 0]
            party[m][speaker] = gru(of_input, q @ net.state_party[k] + net.state_bias_party[k, 0], q) * factors(
                "party", k, step
            )
            of_input = party[m][speaker] @ net.party_emotion[k] + net.input_bias_emotion[k, 0]
            of_state = emotion[m] @ net.state_emotion[k] + net.state_bias_emotion[k, 0]
            emotion[m] = gru(of_input, of_state, emotion[m]) * factors("emotion", k, step)
            given[m][0].append(emotion[m])
            given[m][1].append(gated)
        for m in modalities:
            history[m].append(new_history[m])
    return given


def shared(model, direction, emotions, present):
    """The emotion states of one step, concatenated, each multiplied by its modality's share."""
    counted = present if any(present) else [True] * len(present)
    raw = [
        math.e ** (emotion @ model.share_RE[direction]) if there else 0.0
        for emotion, there in zip(emotions, counted, strict=True)
    ]
    return torch.cat([value / sum(raw) * emotion for value, emotion in zip(raw, emotions, strict=True)])


def attended(model, fused):
    """The layer over the utterances of one dialogue, for a list of vectors."""
    if model.causal:
        weight = model.attention.query.weight
        outputs = []
        for here in range(len(fused)):
            weights = torch.stack([(weight @ fused[here]) @ fused[at] for at in range(here + 1)]).softmax(dim=0)
            outputs.append(sum(share * fused[at] for at, share in enumerate(weights)))
        return outputs
    together = torch.stack(fused)[None]
    norm, attention = model.attention.norm, model.attention.attention
    summed = together + attention(together, together, together, need_weights=False)[0]
    return list(torch.nn.functional.layer_norm(summed, norm.normalized_shape, norm.weight, norm.bias)[0])


def slow(model, batch, factors=lambda name, dialogue, network, step: 1.0):
    """Scores and contexts of every dialogue, [T, C] and [T, F]."""
    results = []
    for index, length in enumerate(batch.lengths.tolist()):
        present = {name: batch.modality_mask[name][index, :length].tolist() for name in model.modalities}
        fused, context, own = [[] for _ in range(length)], None, []
        for direction, projections in enumerate(model.projections):
            order = list(range(length))[:: -1 if direction else 1]
            inputs = [
                [
                    projections[name].linear(batch.features[name][index, at])
                    if present[name][at]
                    else projections[name].absent_H
                    for at in order
                ]
                for name in model.modalities
            ]
            own = own or [torch.cat([of_modality[at] for of_modality in inputs]) for at in order]
            there = [[present[name][at] for at in order] for name in model.modalities]
            speakers = [int(batch.speakers[index, at]) for at in order]
            given = recurrence(
                model,
                direction,
                inputs,
                there,
                speakers,
                lambda name, k, step, index=index: factors(name, index, k, step),
            )
            for step, at in enumerate(order):
                states = [emotions[step] for emotions, _ in given]
                fused[at].append(shared(model, direction, states, [one[step] for one in there]))
            if model.causal:
                context = torch.stack(
                    [model.context(torch.cat([gated[step] for _, gated in given])) for step in range(length)]
                )
        seen = attended(model, [torch.cat(parts) for parts in fused])
        hidden = (
            [model.hidden(torch.cat(pair)) for pair in zip(seen, own, strict=True)]
            if model.shortcut
            else [model.hidden(vector) for vector in seen]
        )
        results.append((torch.stack([model.classifier(vector) for vector in hidden]), context))
    return results


def assert_same_values_and_gradients(model, batch, output, expected):
    """Scores and contexts, and the gradients of all weights for a sum with random signs and sizes."""
    generator = torch.Generator().manual_seed(1)
    losses = [0.0, 0.0]
    for index, (logits, context) in enumerate(expected):
        length = len(logits)
        pairs = [(output.logits[index, :length], logits)] + (
            [(output.context[index, :length], context)] if context is not None else []
        )
        for found, wanted in pairs:
            torch.testing.assert_close(found, wanted)
            weights = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
            losses = [losses[0] + (found * weights).sum(), losses[1] + (wanted * weights).sum()]
    names, weights = zip(*model.named_parameters(), strict=True)
    for name, found, wanted in zip(names, *(torch.autograd.grad(loss, weights) for loss in losses), strict=True):
        torch.testing.assert_close(found, wanted, msg=lambda message, name=name: f"{name}: {message}")
        without_choice = len(model.modalities) == 1 and name in {"networks.gate", "share_RE"}
        assert (wanted.abs().max() > 1e-9) == (not without_choice), (
            f"{name} has no gradient, so that nothing was compared"
        )


@pytest.mark.parametrize(("direction", "shortcut"), [("forward", False), ("both", False), ("both", True)])
@pytest.mark.parametrize("modalities", [ALL, ("visual", "text"), ("audio",)], ids="+".join)
def test_it_computes_what_the_loops_compute(make_batch, modalities, direction, shortcut):
    model, batch = (
        build(modalities, direction=direction, shortcut=shortcut),
        in_doubles(make_batch([4, 1, 7, 7], modalities=modalities, pad_to=9)),
    )
    for (
        name
    ) in modalities:  # a dialogue whose first two utterances are completely absent: nothing to attend to in the third
        batch.modality_mask[name][2, :2] = False
        batch.features[name][2, :2] = 0.0
    batch = replace(batch, speakers=batch.speakers % 3)
    assert_same_values_and_gradients(model, batch, model(batch), slow(model, batch))


def test_input_dropout_is_of_what_enters_the_recurrence(make_batch):
    model, batch = build(("text",), input_dropout=0.5), in_doubles(make_batch([3, 6], modalities=("text",)))
    expected = model(batch)
    seen = []
    model.networks.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    model.train()
    found = model(batch)
    assert torch.equal(found.unimodal["text"], expected.unimodal["text"])
    whole_NU = found.unimodal["text"].flatten(0, 1)[plan(batch.lengths, batch.speakers, 1).positions[0]]
    kept = seen[0][:, 0, 0] != 0
    assert 0 < kept.float().mean() < 1
    torch.testing.assert_close(seen[0][:, 0, 0], torch.where(kept, 2 * whole_NU, 0.0))


def test_emotion_states_are_dropped_once_more_where_they_leave_the_recurrence(make_batch):
    model, batch = build(("text",), dropout=0.5), in_doubles(make_batch([3, 6], modalities=("text",)))
    seen = []
    model.eval().attention.register_forward_hook(lambda _, given, __: seen.append(given[0][batch.utterance_mask]))
    model(batch)
    model.train()
    model(batch)
    kept = seen[1] != 0
    assert 0 < kept.double().mean() < 1
    torch.testing.assert_close(seen[1], torch.where(kept, 2 * seen[0], 0.0))


def test_dropout_is_where_the_loops_have_it(make_batch, monkeypatch):
    model = build(recurrent_dropout=0.5).train()
    batch = in_doubles(make_batch([3, 6]))
    batch = replace(batch, speakers=batch.speakers % 2)
    for name in DIMS:
        batch.modality_mask[name][1, 2] = False
    drawn = []
    draw = model.networks._dropout
    monkeypatch.setattr(model.networks, "_dropout", lambda *args: drawn.append(draw(*args)) or drawn[-1])
    output = model(batch)
    positions = plan(batch.lengths, batch.speakers, 1).positions[0].tolist()

    def factors(name, dialogue, network, step):
        row = positions.index(dialogue * batch.utterance_mask.shape[1] + step)
        states, keys, parties, emotions = drawn[0]
        return {
            "global": states[network, row],
            "key": keys[row, 0, network],
            "party": parties[network, row],
            "emotion": emotions[network, row],
        }[name]

    assert all({0.0, 2.0} == set(factor.flatten().tolist()) for factor in drawn[0])
    assert_same_values_and_gradients(model, batch, output, slow(model, batch, factors))


@pytest.mark.parametrize(
    ("direction", "published"),
    [("forward", 1_904_461 - 151 - 3 - 1), ("both", 5_786_816 - 2 * 151 - 2 * 4 - 2 * 600 * 600 + 1200)],
)
def test_it_has_as_many_weights_as_the_published_one_uses(direction, published):
    """Without a gate of 151 values per direction, the attention of BiDDIN's sizes twice, and the biases of softmaxes'
    scores; with the trained layer norm.
    """
    sizes = {"input_units": 100, "state_units": 150, "emotion_units": 100, "heads": 4}
    model = build(dims={"text": 100, "visual": 512, "audio": 100}, classes=6, direction=direction, **sizes)
    own = ("absent_H", "context.weight", "context.bias")
    assert sum(weight.numel() for name, weight in model.named_parameters() if not name.endswith(own)) == published


def test_rows_know_where_their_dialogue_and_their_speaker_were_before():
    schedule = plan(torch.tensor([5, 2, 5]), torch.tensor([[0, 1, 0, 12, 1], [4, 4, 0, 0, 0], [2, 2, 2, 2, 2]]), 2)
    assert schedule.sizes == [3, 3, 2, 2, 2]
    # Rows: dialogues 0, 2, 1 in steps 0 and 1, then 0 and 2; the first three rows of a buffer are zeros.
    assert schedule.positions.tolist() == [
        [0, 10, 5, 1, 11, 6, 2, 12, 3, 13, 4, 14],
        [4, 14, 6, 3, 13, 5, 2, 12, 1, 11, 0, 10],
    ]
    assert schedule.before.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12]
    assert schedule.last.tolist() == [[0, 1, 2, 0, 4, 5, 3, 7, 0, 10, 6, 12], [0, 1, 2, 0, 4, 5, 0, 7, 3, 10, 9, 12]]


@pytest.mark.parametrize(("legacy", "same"), [(False, True), (True, False)])
def test_only_the_published_gate_lets_dialogues_see_each_other(make_batch, legacy, same):
    model, batch = build(legacy_gate=legacy), in_doubles(make_batch([4, 5]))
    other = replace(
        batch, features={name: torch.cat([value[:1], value[1:] + 3.0]) for name, value in batch.features.items()}
    )
    assert torch.allclose(model(batch).logits[0, :4], model(other).logits[0, :4], atol=1e-9) is same


def test_the_published_gate_has_the_gradient_of_its_values(make_batch):
    model, batch = (
        build(("text", "audio"), legacy_gate=True, state_units=3),
        in_doubles(make_batch([3, 2], modalities=("text", "audio"))),
    )
    weights = [model.networks.gate, model.networks.query, model.networks.join]

    def logits(*_):
        return model(batch).logits[batch.utterance_mask]

    assert torch.autograd.gradcheck(logits, weights)


def test_the_context_of_the_first_utterance_knows_nothing(make_batch):
    model = build()
    contexts = [model(in_doubles(make_batch([3], seed=seed))).context[0] for seed in (0, 1)]
    assert torch.equal(contexts[0][0], contexts[1][0])
    assert torch.equal(contexts[0][0], model.context.bias)  # of zeros
    assert not torch.allclose(contexts[0][1], contexts[1][1])


def test_units_that_the_heads_do_not_divide_are_refused_where_there_are_heads():
    build(heads=3)
    with pytest.raises(BadSettings, match="twice the emotion_units is 8, no multiple of heads, 3"):
        build(heads=3, direction="both")
