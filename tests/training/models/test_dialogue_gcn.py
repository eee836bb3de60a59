"""DialogueGCN compared with loops over dialogues, utterances and edges; see test_contract.py for what all models
promise.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from merc.errors import BadSettings
from merc.params import fill
from merc.training.models.dialogue_gcn import DialogueGCN, build_graph

DIMS = {"text": 6, "audio": 5, "visual": 4}
SMALL = {"sequential_units": 8, "hidden_units": 6, "bases": 3, "past": 2, "future": 2, "dropout": 0.0}


def build(modalities=tuple(DIMS), **settings):
    torch.manual_seed(5)
    config = fill({**SMALL, **settings}, DialogueGCN.Config, where="models.dialogue_gcn")
    model = DialogueGCN(config, {name: DIMS[name] for name in modalities}, 3).eval()
    for projection in model.projections.values():
        nn.init.normal_(projection.absent_H)  # as after some training
    return model


def recurred(model, inputs):
    """torch's LSTM over one dialogue without padding, [T, S]."""
    ours, units = model.sequence, model.config.sequential_units
    reference = nn.LSTM(units, ours.ahead[0].hidden_size, len(ours.ahead), bidirectional=not model.causal).double()
    state = {}
    for suffix, cells in (("", ours.ahead), ("_reverse", ours.back)):
        for number, cell in enumerate(cells):
            state |= {f"{kind[:-1]}{number}{suffix}": value for kind, value in cell.state_dict().items()}
    reference.load_state_dict(state)
    return reference(inputs)[0]


def convolved(model, nodes, speakers):
    """h' of one dialogue, edge by edge."""
    config, convolution, related, given = model.config, model.relations, [], []
    windows = [
        [j for j in range(len(nodes)) if i - config.past <= j <= i + (0 if config.causal else config.future)]
        for i in range(len(nodes))
    ]
    for i, window in enumerate(windows):
        scores = torch.stack([nodes[i] @ (model.edge.weight @ nodes[j]) for j in window])
        total = convolution.own(nodes[i])
        for share, j in zip(scores.exp() / scores.exp().sum(), window, strict=True):
            pair = (
                (speakers[j] % 9) * 9 + speakers[i] % 9
                if config.speakers == "pairs"
                else int(speakers[i] != speakers[j])
            )
            weight = sum(
                mix * basis
                for mix, basis in zip(convolution.mixture_RP[2 * pair + int(j > i)], convolution.bases_PSH, strict=True)
            )
            total = total + share * (nodes[j] @ weight)
        related.append(total)
    for i, window in enumerate(windows):
        given.append(model.neighbour(sum(related[j] for j in window)) + model.own(related[i]))
    return torch.stack(given)


def attended(model, nodes):
    """ê of one dialogue."""
    given = []
    for i, node in enumerate(nodes):
        seen = nodes[: i + 1] if model.causal else nodes
        scores = torch.stack([(model.query(node) @ other).tanh() for other in seen])
        given.append(sum(share * other for share, other in zip(scores.exp() / scores.exp().sum(), seen, strict=True)))
    return torch.stack(given)


@pytest.mark.parametrize(
    ("modalities", "settings"),
    [
        (("text", "audio", "visual"), {}),
        (("visual", "text"), {"past": 1, "future": 3, "speakers": "same", "layers": 1}),
        (("text", "audio", "visual"), {"causal": True}),
        (("audio",), {"past": 20, "future": 0, "nodal_attention": False}),
    ],
)
def test_it_computes_what_the_loops_compute(make_batch, modalities, settings):
    model, lengths = build(modalities, **settings).double(), [4, 1, 7]
    batch = make_batch(lengths, modalities=modalities, pad_to=9, padding=1e3)
    batch = replace(
        batch, features={name: value.double() for name, value in batch.features.items()}, speakers=batch.speakers * 2
    )  # some share a slot
    output = model(batch)
    for index, length in enumerate(lengths):
        inputs = torch.zeros(length, model.config.sequential_units, dtype=torch.float64)
        for name in modalities:
            there, projection = batch.modality_mask[name][index, :length].tolist(), model.projections[name]
            vectors = torch.stack(
                [
                    projection.linear(batch.features[name][index, step]) if there[step] else projection.absent_H
                    for step in range(length)
                ]
            )
            torch.testing.assert_close(output.unimodal[name][index, :length], vectors, atol=1e-10, rtol=0)
            inputs = inputs + vectors
        sequential = recurred(model, inputs)
        nodes = torch.cat([sequential, convolved(model, sequential, batch.speakers[index, :length].tolist())], dim=1)
        if model.query is not None:
            nodes = attended(model, nodes)
        hidden = model.hide(nodes).relu()
        torch.testing.assert_close(output.hidden[index, :length], hidden, atol=1e-10, rtol=0)
        torch.testing.assert_close(output.logits[index, :length], model.classifier(hidden), atol=1e-10, rtol=0)


def test_relations_tell_who_is_heard_by_whom_and_whether_later(make_batch):
    batch = replace(make_batch([3]), speakers=torch.tensor([[0, 1, 0]]))
    graph = build_graph(batch, 1, 1, "pairs")
    assert graph.windows.within.tolist() == [[False, True, True], [True, True, True], [True, True, False]]
    assert graph.relations[graph.windows.within].tolist() == [0, 2 * 9 + 1, 2 * 1, 2 * 10, 2 * 1 + 1, 2 * 9, 0]


def test_names_of_speakers_mean_something_in_pairs_alone(make_batch):
    batch = make_batch([6, 4])
    renamed = replace(batch, speakers=8 - batch.speakers)
    for speakers, same in {"same": True, "pairs": False}.items():
        model = build(speakers=speakers)
        assert torch.equal(model(batch).logits, model(renamed).logits) is same


def test_an_odd_width_of_the_recurrence_is_refused():
    with pytest.raises(
        BadSettings, match=r"models\.dialogue_gcn: .*sequential_units is 7, which two directions can't share"
    ):
        build(sequential_units=7)
