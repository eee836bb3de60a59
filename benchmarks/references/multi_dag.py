"""MultiDAG written the usual way, for comparison: in every step and layer two GRU cells for the whole padded batch, and
the history reassembled and mapped again, as in the published code of DAG-ERC.

All modalities of all utterances are assumed to be present. Legend as in the model.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from merc.training.data.batch import DialogueBatch
from merc.training.models.multi_dag import MultiDAG


class UsualMultiDAG(nn.Module):
    """A copy of ``model``'s weights."""

    def __init__(self, model: MultiDAG) -> None:
        super().__init__()
        units, self.modalities = model.gives.hidden, model.modalities
        self.project = nn.Linear(sum(model.dims.values()), units)
        self.layers = nn.ModuleList([_Layer(layer, units) for layer in model.layers])
        self.hide = nn.Linear((len(self.layers) + 1) * units, units)
        self.dropout = nn.Dropout(model.dropout.p)
        self.classifier = nn.Linear(units, model.classes)
        with torch.no_grad():
            maps = [model.projections[name].linear for name in self.modalities]
            self.project.weight.copy_(torch.cat([one.weight for one in maps], dim=1))
            self.project.bias.copy_(torch.stack([one.bias for one in maps]).sum(dim=0))
        self.hide.load_state_dict(model.hide.state_dict())
        self.classifier.load_state_dict(model.classifier.state_dict())

    def forward(self, batch: DialogueBatch) -> Tensor:
        """Logits, [B, T, C]."""
        hears_BTT, same_BTT = _edges(batch.speakers)
        states = [self.project(torch.cat([batch.features[name] for name in self.modalities], dim=-1)).relu()]
        for layer in self.layers:
            states.append(layer(states[-1], hears_BTT, same_BTT))
        logits_BTC: Tensor = self.classifier(self.dropout(self.hide(torch.cat(states, dim=-1)).relu()))
        return logits_BTC


def _edges(speakers_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Which utterances each one hears, and which have its speaker; float [B, T, T] each."""
    dialogues, steps = speakers_BT.shape
    hears = torch.zeros(dialogues, steps, steps)
    for index, speakers in enumerate(speakers_BT.tolist()):
        for step in range(steps):
            for earlier in range(step - 1, -1, -1):
                hears[index, step, earlier] = 1
                if speakers[earlier] == speakers[step]:
                    break
    return hears, (speakers_BT[:, :, None] == speakers_BT[:, None, :]).float()


class _Layer(nn.Module):
    def __init__(self, layer: nn.Module, units: int) -> None:
        super().__init__()
        self.score = nn.Linear(2 * units, 1, bias=False)
        self.to_same, self.to_others = nn.Linear(units, units, bias=False), nn.Linear(units, units, bias=False)
        self.first, self.second = nn.GRUCell(units, units), nn.GRUCell(units, units)
        with torch.no_grad():
            self.score.weight.copy_(torch.cat([torch.zeros(units), layer.score[:, 0]])[None])
            for part, relation in enumerate((self.to_same, self.to_others)):
                relation.weight.copy_(layer.relations.weight[:, part * units : (part + 1) * units])
            for number, (cell, of_input, of_state) in enumerate(
                ((self.first, layer.below, layer.heard), (self.second, layer.heard, layer.below))
            ):
                for kind, linear in (("ih", of_input), ("hh", of_state)):
                    getattr(cell, f"weight_{kind}").copy_(linear.weight[3 * units * number : 3 * units * (number + 1)])
                    getattr(cell, f"bias_{kind}").copy_(linear.bias[3 * units * number : 3 * units * (number + 1)])

    def forward(self, below_BTH: Tensor, hears_BTT: Tensor, same_BTT: Tensor) -> Tensor:
        heard_BH = torch.zeros_like(below_BTH[:, 0])
        known_BSH = (self.first(below_BTH[:, 0], heard_BH) + self.second(heard_BH, below_BTH[:, 0]))[:, None]
        for step in range(1, below_BTH.shape[1]):
            query_BSH = below_BTH[:, step, None].expand(-1, step, -1)
            scores_BS = self.score(torch.cat([query_BSH, known_BSH], dim=-1)).squeeze(-1)
            weights_BS = functional.softmax(scores_BS - (1 - hears_BTT[:, step, :step]) * 1e30, dim=-1)
            same_BS1 = same_BTT[:, step, :step, None]
            values_BSH = self.to_same(known_BSH) * same_BS1 + self.to_others(known_BSH) * (1 - same_BS1)
            heard_BH = torch.bmm(weights_BS[:, None], values_BSH)[:, 0]
            state_BH = self.first(below_BTH[:, step], heard_BH) + self.second(heard_BH, below_BTH[:, step])
            known_BSH = torch.cat([known_BSH, state_BH[:, None]], dim=1)
        return known_BSH
