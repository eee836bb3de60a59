"""AGHMN compared with loops over dialogues, utterances and their windows; see test_contract.py for what all models
promise.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from merc.training.models.aghmn import AGHMN

from .plain_parts import in_doubles

DIMS = {"text": 6, "audio": 5, "visual": 4}


def build(modalities=tuple(DIMS), **settings):
    torch.manual_seed(5)
    config = AGHMN.Config(**{"units": 4, "window": 3, "dropout": 0.0, **settings})
    model = AGHMN(config, {name: DIMS[name] for name in modalities}, 3).eval()
    for projection in model.projections.values():
        nn.init.normal_(projection.absent_H)
    return model.double()


def bidirectional(rnn, inputs):
    """The sum of both directions, for each of a list of vectors."""
    sums = [0.0] * len(inputs)
    for suffix, order in (("", range(len(inputs))), ("_reverse", reversed(range(len(inputs))))):
        weights = [getattr(rnn, f"{kind}_l0{suffix}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        state = torch.zeros(1, rnn.hidden_size, dtype=torch.float64)
        for at in order:
            state = torch.gru_cell(inputs[at][None], state, *weights)
            sums[at] = sums[at] + state[0]
    return sums


def summed_up(gru, query, memory):
    """The attention GRU over the memory of one utterance."""
    gates = torch.stack([query @ one for one in memory]).softmax(dim=0)
    units = len(query)
    (w_reset, w_new), (u_reset, u_new) = gru.of_memory.weight.split(units), gru.of_state.weight.split(units)
    (b_reset, b_new), (d_reset, d_new) = gru.of_memory.bias.split(units), gru.of_state.bias.split(units)
    state = torch.zeros(units, dtype=torch.float64)
    for gate, one in zip(gates, memory, strict=True):
        reset = (w_reset @ one + b_reset + u_reset @ state + d_reset).sigmoid()
        new = (w_new @ one + b_new + reset * (u_new @ state + d_new)).tanh()
        state = gate * new + (1 - gate) * state
    return state


@pytest.mark.parametrize("window", [1, 3, 20])
@pytest.mark.parametrize("modalities", [tuple(DIMS), ("visual", "text"), ("audio",)], ids="+".join)
def test_it_computes_what_the_loops_compute(make_batch, modalities, window):
    model, lengths = build(modalities, window=window), [4, 1, 7, 2]
    batch = in_doubles(make_batch(lengths, modalities=modalities, pad_to=9))
    output = model(batch)
    for index, length in enumerate(lengths):
        xs = []
        for step in range(length):
            terms = {}
            for name, projection in model.projections.items():
                there = batch.modality_mask[name][index, step]
                terms[name] = projection.linear(batch.features[name][index, step]) if there else projection.absent_H
                torch.testing.assert_close(output.unimodal[name][index, step], terms[name])
            xs.append(sum(terms.values()).tanh())
        for step, x in enumerate(xs):
            remembered = xs[max(step - window, 0) : step]
            memory = [one + more for one, more in zip(remembered, bidirectional(model.memory, remembered), strict=True)]
            context = summed_up(model.summary, x, memory) if memory else torch.zeros(4, dtype=torch.float64)
            torch.testing.assert_close(output.context[index, step], context, atol=1e-10, rtol=0)
            torch.testing.assert_close(output.hidden[index, step], x + context, atol=1e-10, rtol=0)
            torch.testing.assert_close(output.logits[index, step], model.classifier(x + context), atol=1e-10, rtol=0)


def test_nothing_before_the_window_matters(make_batch):
    batch = in_doubles(make_batch([8]))
    for name in DIMS:
        batch.modality_mask[name][:] = True
    other = replace(
        batch,
        features={name: torch.cat([value[:, :1] + 3.0, value[:, 1:]], dim=1) for name, value in batch.features.items()},
    )
    before, after = (build()(one).logits[0] for one in (batch, other))
    changed = [not torch.allclose(one, another, atol=1e-9) for one, another in zip(before, after, strict=True)]
    assert changed == [True] * 4 + [False] * 4


def test_dialogues_of_one_utterance_have_no_memory_and_train_the_rest(make_batch):
    model, batch = build().train(), in_doubles(make_batch([1, 1, 1]))
    output = model(batch)
    assert not output.context.any()
    output.logits.square().sum().backward()
    untrained = {name for name, weight in model.named_parameters() if weight.grad is None}
    assert untrained == {name for name, _ in model.named_parameters() if name.startswith(("memory.", "summary."))}


def test_what_is_dropped_is_x_the_memory_and_the_hidden_layer(make_batch, monkeypatch):
    model, batch = build(dropout=0.5).train(), in_doubles(make_batch([3, 2]))
    seen = []
    monkeypatch.setattr(model.dropout, "forward", lambda values: seen.append(values.shape) or values)
    model(batch)
    assert seen == [(5, 4), (4, 4), (5, 4)]
