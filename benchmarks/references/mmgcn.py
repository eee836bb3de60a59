"""MMGCN written the usual way, for comparison: loops write the edges of all dialogues into one matrix, and every layer
multiplies by it.

All modalities of all utterances are assumed to be present. Legend as in the model; N is the number of utterances of all
dialogues.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from merc.training.data.batch import DialogueBatch
from merc.training.models.mmgcn import MMGCN


class UsualMMGCN(nn.Module):
    """A copy of ``model``'s weights."""

    def __init__(self, model: MMGCN) -> None:
        super().__init__()
        units = model.config.node_units
        self.modalities, self.settings = model.modalities, model.config
        self.projections = nn.ModuleDict(
            {name: nn.Linear(projection.linear.in_features, units) for name, projection in model.projections.items()}
        )
        self.lstm = nn.LSTM(
            units, units // 2, num_layers=2, dropout=model.config.dropout, bidirectional=True, batch_first=True
        )
        self.speaker_vectors = nn.Embedding.from_pretrained(model.speaker_vectors.weight.detach().clone(), freeze=False)
        self.enter = nn.Linear(units, model.config.hidden_units)
        self.layers = nn.ParameterList([weight.detach().clone() for weight in model.convolution.weights_L2HH])
        self.classifier = nn.Linear(model.gives.hidden, model.classes)
        self.enter.load_state_dict(model.convolution.enter.state_dict())
        self.classifier.load_state_dict(model.classifier.state_dict())
        for name, projection in self.projections.items():
            projection.load_state_dict(model.projections[name].linear.state_dict())
        for lstms, suffix in ((model.text_context.ahead, ""), (model.text_context.back, "_reverse")):
            for number, lstm in enumerate(lstms):
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    getattr(self.lstm, f"{kind}_l{number}{suffix}").data.copy_(getattr(lstm, f"{kind}_l0"))

    def forward(self, batch: DialogueBatch) -> Tensor:
        """Returns the scores of all utterances, dialogue after dialogue, [N, C]."""
        lengths = batch.lengths.tolist()
        nodes = {}
        for name in self.modalities:
            values_BTD = self.projections[name](batch.features[name])
            if name == "text":
                packed = pack_padded_sequence(values_BTD, lengths, batch_first=True, enforce_sorted=False)
                values_BTD = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0] + self.speaker_vectors(
                    batch.speakers
                )
            nodes[name] = torch.cat([values_BTD[index, :length] for index, length in enumerate(lengths)])
        adjacency = self._adjacency(nodes, lengths)
        stacked = functional.dropout(torch.cat(list(nodes.values())), self.settings.dropout, self.training)
        first = hidden = self.enter(stacked).relu()
        for number, weight in enumerate(self.layers, start=1):
            theta, alpha = math.log(self.settings.identity_decay / number + 1), self.settings.initial_share
            gathered = adjacency @ functional.dropout(hidden, self.settings.dropout, self.training)
            mixed = (1 - alpha) * gathered + alpha * first
            hidden = (theta * (torch.cat([gathered, first], dim=1) @ weight) + (1 - theta) * mixed).relu()
        hidden = functional.dropout(hidden, self.settings.dropout, self.training)
        fused = torch.cat(torch.cat([stacked, hidden], dim=1).split(sum(lengths)), dim=1)
        return self.classifier(functional.dropout(fused, self.settings.dropout, self.training).relu())

    def _adjacency(self, nodes: dict[str, Tensor], lengths: list[int]) -> Tensor:
        """[M · N, M · N], normalised."""
        total, start = sum(lengths), 0
        adjacency = torch.zeros(len(nodes) * total, len(nodes) * total)
        for length in lengths:
            units = [functional.normalize(value[start : start + length], dim=1) for value in nodes.values()]
            for row, unit in enumerate(units):
                rows = torch.arange(start, start + length) + row * total
                for column, other in enumerate(units):
                    columns = torch.arange(start, start + length) + column * total
                    if row == column:
                        adjacency[rows[0] : rows[0] + length, rows[0] : rows[0] + length] = _edges(unit @ unit.T)
                    else:
                        adjacency[rows, columns] = _edges((unit * other).sum(dim=1))
            start += length
        scale = adjacency.sum(dim=1).rsqrt()
        return scale[:, None] * adjacency * scale


def _edges(cosines: Tensor) -> Tensor:
    return 1 - torch.acos((0.99999 * cosines).clamp(-0.99999, 0.99999)) / math.pi
