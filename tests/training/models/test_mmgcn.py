"""MMGCN compared with loops over dialogues and pairs of nodes, with the graph as one matrix; see test_contract.py for
what all models promise.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from merc.errors import BadSettings
from merc.params import fill
from merc.training.models.mmgcn import MMGCN, build_graph

from .plain_parts import in_doubles

DIMS = {"text": 6, "audio": 5, "visual": 4}
SMALL = {"node_units": 8, "hidden_units": 5, "layers": 3}


def build(modalities=tuple(DIMS), **settings):
    torch.manual_seed(5)
    model = MMGCN(
        fill({**SMALL, **settings}, MMGCN.Config, where="models.mmgcn"), {name: DIMS[name] for name in modalities}, 3
    ).eval()
    for projection in model.projections.values():
        nn.init.normal_(projection.absent_H)
    return model


def text_context(model, text_TD):
    """torch's LSTM, in as many directions, over one dialogue without padding."""
    context = model.text_context
    reference = nn.LSTM(
        8, context.ahead[0].hidden_size, num_layers=2, batch_first=True, bidirectional=not model.causal
    ).double()
    for lstms, suffix in ((context.ahead, ""), (context.back, "_reverse")):
        for number, lstm in enumerate(lstms):
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(reference, f"{kind}_l{number}{suffix}").data.copy_(getattr(lstm, f"{kind}_l0"))
    return reference(text_TD[None])[0][0]


def edge(x_D, y_D):
    return 1 - math.acos(0.99999 * float(x_D @ y_D / (x_D.norm() * y_D.norm()))) / math.pi


def adjacency(nodes, present, causal):
    """Modality → T vectors and whether they are present; returns the normalised matrix over all nodes, modality after
    modality.
    """
    places = [(name, step) for name in nodes for step in range(len(nodes[name]))]
    matrix = torch.zeros(len(places), len(places), dtype=torch.float64)
    for row, (name, step) in enumerate(places):
        for column, (other, at) in enumerate(places):
            joined = (name == other and (at <= step or not causal)) or (name != other and step == at)
            if joined and present[name][step] and present[other][at]:
                matrix[row, column] = edge(nodes[name][step], nodes[other][at])
    degrees = matrix.sum(dim=1).tolist()
    scale = torch.diag(torch.tensor([degree**-0.5 if degree else 0.0 for degree in degrees], dtype=torch.float64))
    return scale @ matrix @ scale


@pytest.mark.parametrize(
    ("modalities", "settings"),
    [
        (("text", "audio", "visual"), {}),
        (("text", "audio", "visual"), {"causal": True, "speakers": "all"}),
        (("visual", "text"), {"speakers": "none", "initial_share": 0.3, "identity_decay": 1.5}),
        (("text", "audio"), {"text_context": "none"}),
        (("audio",), {"layers": 1}),
    ],
)
def test_it_computes_what_the_loops_compute(make_batch, modalities, settings):
    model, lengths = build(modalities, **settings).double(), [4, 1, 6]
    batch = in_doubles(make_batch(lengths, modalities=modalities))
    output = model(batch)
    for index, length in enumerate(lengths):
        nodes, present = {}, {}
        for name in modalities:
            present[name] = batch.modality_mask[name][index, :length].tolist()
            projection = model.projections[name]
            rows = [
                projection.linear(batch.features[name][index, step]) if present[name][step] else projection.absent_H
                for step in range(length)
            ]
            recurrent = name == "text" and settings.get("text_context") != "none"
            nodes[name] = text_context(model, torch.stack(rows)) if recurrent else torch.stack(rows)
            torch.testing.assert_close(output.unimodal[name][index, :length], nodes[name])
            if name in model.with_speaker:
                nodes[name] = nodes[name] + model.speaker_vectors(batch.speakers[index, :length] % 9)
        normalised = adjacency({name: value.detach() for name, value in nodes.items()}, present, model.causal)
        stacked = torch.cat([nodes[name] for name in modalities])
        first = hidden = model.convolution.enter(stacked).relu()
        alpha, decay = model.config.initial_share, model.config.identity_decay
        for number, weight in enumerate(model.convolution.weights_L2HH, start=1):
            theta = math.log(decay / number + 1)
            gathered = normalised @ hidden
            mixed = (1 - alpha) * gathered + alpha * first
            hidden = (theta * (torch.cat([gathered, first], dim=1) @ weight) + (1 - theta) * mixed).relu()
        both = torch.cat([stacked, hidden], dim=1)
        fused = torch.cat(list(both.split(length)), dim=1).relu()
        torch.testing.assert_close(output.hidden[index, :length], fused)
        torch.testing.assert_close(output.logits[index, :length], model.classifier(fused))


def test_edges_pass_a_gradient_unless_they_are_detached(make_batch):
    """Checked against finite differences, through cosine, arccos and the normalisation by degrees."""
    batch = make_batch([3, 2])
    present_MN = torch.tensor([[True, True, False, True, True], [True, False, False, True, True]])
    nodes_MND = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)

    def weights(nodes):
        graph = build_graph(nodes, present_MN, batch, causal=False)
        return graph.within, *graph.across

    for attached, detached in zip(weights(nodes_MND), weights(nodes_MND.detach()), strict=True):
        assert (attached.requires_grad, detached.requires_grad) == (True, False)
    assert torch.autograd.gradcheck(weights, (nodes_MND,))


@pytest.mark.parametrize(("vector", "weight"), [([1.0, 2.0], 0.99858), ([-1.0, -2.0], 1 - 0.99858), ([0.0, 0.0], 0.5)])
def test_likeness_is_finite_in_value_and_slope_where_the_cosine_is_one_or_nothing(make_batch, vector, weight):
    nodes_MND = torch.tensor([[[1.0, 2.0]], [vector]], requires_grad=True)
    graph = build_graph(nodes_MND, torch.ones(2, 1, dtype=torch.bool), make_batch([1]), causal=False)
    graph.across[0].sum().backward()
    degrees = [0.99858 + weight, (0.99858 if any(vector) else 0.5) + weight]
    assert graph.across[0][0].item() == pytest.approx(weight / math.sqrt(math.prod(degrees)), abs=1e-4)
    assert nodes_MND.grad.isfinite().all()


def test_the_published_depth_can_be_built(make_batch):
    """The published code has 64 layers: the settings ``official_code`` of a recipe."""
    model = build(layers=64).train()
    model(make_batch([5, 3])).logits.square().sum().backward()
    assert len(model.convolution.weights_L2HH.grad.flatten(1).any(dim=1)) == 64
    assert model.convolution.weights_L2HH.grad.flatten(1).any(dim=1).all()


def test_a_model_without_text_knows_speakers_only_if_all_nodes_do(make_batch):
    batch = make_batch([6], modalities=("audio",))
    others = replace(batch, speakers=(batch.speakers + 1) % 9)
    for speakers, same in {"none": True, "text": True, "all": False}.items():
        model = build(("audio",), speakers=speakers)
        assert torch.equal(model(batch).logits, model(others).logits) is same


def test_an_odd_width_of_nodes_is_refused():
    with pytest.raises(BadSettings, match=r"models\.mmgcn\.node_units: .*multiple of 2"):
        build(node_units=7)
