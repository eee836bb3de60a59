"""M3Net compared with loops over dialogues, hyperedges and pairs of nodes; see test_contract.py for what all models
promise.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from merc.errors import BadSettings
from merc.params import fill
from merc.training.models.m3net import M3Net

DIMS = {"text": 6, "audio": 5, "visual": 4}
SMALL = {"hidden_units": 8, "low_layers": 2, "high_layers": 2, "dropout": 0.4}


def build(modalities=tuple(DIMS), dims=DIMS, **settings):
    torch.manual_seed(5)
    model = M3Net(
        fill({**SMALL, **settings}, M3Net.Config, where="models.m3net"), {name: dims[name] for name in modalities}, 3
    ).eval()
    for parameter in (*(projection.absent_H for projection in model.projections.values()), *model.low.parameters()):
        nn.init.normal_(
            parameter
        )  # as after some training: absent vectors are not zero, and the weights of edges differ
    return model


def text_context(model, text_TH):
    """torch's GRU with two layers and both directions, over one dialogue without padding."""
    reference = nn.GRU(8, 4, num_layers=2, batch_first=True, bidirectional=True).double()
    for grus, suffix in ((model.text_context.ahead, ""), (model.text_context.back, "_reverse")):
        for number, gru in enumerate(grus):
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(reference, f"{kind}_l{number}{suffix}").data.copy_(getattr(gru, f"{kind}_l0"))
    return reference(text_TH[None])[0][0]


def low(model, nodes, present):
    """The hypergraph of one dialogue: (modality, step) → vector, and whether the node is present."""
    branch, modalities = model.low, range(len(model.modalities))
    steps = sorted({step for _, step in nodes})
    for bias in branch.bias_LH:
        edges = []  # its nodes with γ, and ω
        for row in modalities:
            edges.append(({(row, step): 1.0 for step in steps if present[row, step]}, branch.log_rows_M[row].exp()))
        for step in steps:
            edges.append(
                (
                    {(row, step): branch.log_nodes_M[row].exp() for row in modalities if present[row, step]},
                    branch.log_columns.exp(),
                )
            )
        told = {node: (torch.zeros_like(bias), 0.0) for node in nodes}
        for members, weight in edges:
            if members:
                edge = sum(share * nodes[node] for node, share in members.items()) / sum(members.values())
                for node in members:
                    told[node] = (told[node][0] + weight * edge, told[node][1] + weight)
        nodes = {
            node: nn.functional.leaky_relu((total / weight if present[node] else total) + bias)
            for node, (total, weight) in told.items()
        }
    return nodes


def high(model, nodes, present):
    """The graph of one dialogue, its edges one by one."""
    edges = [
        (i, j) for i in nodes for j in nodes if i != j and present[i] and present[j] and (i[0] == j[0] or i[1] == j[1])
    ]
    degree = {node: sum(i == node for i, _ in edges) for node in nodes}
    for layer in model.high:
        to, of = layer.gate.weight
        given = {node: torch.zeros_like(vector) for node, vector in nodes.items()}
        for i, j in edges:
            weight = (to @ nodes[i] + of @ nodes[j] + layer.gate.bias.sum()).tanh()
            given[i] = given[i] + weight * (degree[i] * degree[j]) ** -0.5 * nodes[j]
        nodes = {node: vector + given[node] for node, vector in nodes.items()}
    return nodes


@pytest.mark.parametrize(
    ("modalities", "settings"),
    [
        (("text", "audio", "visual"), {}),
        (("text", "audio", "visual"), {"speakers": "all", "low_layers": 3, "high_layers": 1}),
        (("visual", "text"), {"speakers": "none"}),
        (("audio",), {}),
        (("text", "audio"), {"text_map": "where_needed"}),
    ],
)
def test_it_computes_what_the_loops_compute(make_batch, modalities, settings):
    wide = {"text": 8} if "text_map" in settings else {}
    model, lengths = build(modalities, {**DIMS, **wide}, **settings).double(), [4, 1, 6]
    batch = make_batch(lengths, modalities=modalities)
    features = {
        name: torch.nn.functional.pad(value.double(), (0, wide.get(name, DIMS[name]) - DIMS[name]), value=0.3)
        for name, value in batch.features.items()
    }
    batch = replace(batch, features=features)
    output = model(batch)
    for index, length in enumerate(lengths):
        nodes, present = {}, {}
        for row, name in enumerate(modalities):
            there, projection = batch.modality_mask[name][index, :length].tolist(), model.projections[name]
            vectors = torch.stack(
                [
                    projection.linear(batch.features[name][index, step]) if there[step] else projection.absent_H
                    for step in range(length)
                ]
            )
            if name == "text":
                vectors = text_context(model, vectors)
            torch.testing.assert_close(output.unimodal[name][index, :length], vectors)
            if name in model.with_speaker:
                vectors = vectors + model.speaker_vectors(batch.speakers[index, :length] % 9)
            nodes |= {(row, step): model.enter(vectors[step]) for step in range(length)}
            present |= {(row, step): there[step] for step in range(length)}
        common, different = low(model, nodes, present), high(model, nodes, present)
        for step in range(length):
            hidden = torch.cat(
                [branch[row, step] for row in range(len(modalities)) for branch in (common, different)]
            ).relu()
            torch.testing.assert_close(output.hidden[index, step], hidden)
            torch.testing.assert_close(output.logits[index, step], model.classifier(hidden))


def test_at_first_all_edges_weigh_the_same_and_none_can_come_to_weigh_nothing(make_batch):
    torch.manual_seed(5)
    model = M3Net(fill(SMALL, M3Net.Config, where="models.m3net"), DIMS, 3).eval()
    assert not any(parameter.any() for parameter in model.low.parameters())
    batch = make_batch([4, 2])
    for extreme in (-50.0, 50.0):
        for parameter in (model.low.log_rows_M, model.low.log_columns, model.low.log_nodes_M):
            nn.init.constant_(parameter, extreme)
        assert model(batch).logits.isfinite().all()


def test_a_model_without_text_knows_speakers_only_if_all_nodes_do(make_batch):
    batch = make_batch([6], modalities=("audio",))
    others = replace(batch, speakers=(batch.speakers + 1) % 9)
    for speakers, same in {"none": True, "text": True, "all": False}.items():
        model = build(("audio",), speakers=speakers)
        assert torch.equal(model(batch).logits, model(others).logits) is same


@pytest.mark.parametrize(
    ("dim", "text_map", "mapped"), [(8, "where_needed", False), (6, "where_needed", True), (8, "always", True)]
)
def test_text_passes_no_map_only_if_that_is_asked_for_and_it_is_as_wide_as_a_node(dim, text_map, mapped):
    assert (
        bool(list(build(("text",), {"text": dim}, text_map=text_map).projections["text"].linear.parameters())) is mapped
    )


def test_an_odd_width_is_refused():
    with pytest.raises(BadSettings, match=r"models\.m3net\.hidden_units: .*multiple of 2"):
        build(hidden_units=7)
