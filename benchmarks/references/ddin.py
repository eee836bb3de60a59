"""DDIN written the usual way, for comparison: in every step a small cell per modality for the whole padded batch, and
the history is reassembled.

All modalities of all utterances are assumed to be present. Legend as in the model; P party slots.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from merc.training.data.batch import DialogueBatch
from merc.training.models.ddin import DDIN
from merc.training.models.engine.common import position_codes


class UsualDDIN(nn.Module):
    """A copy of ``model``'s weights; for the forward direction.

    Args:
        model: the model to agree with.
        parties: P; the party cell is applied to all parties, and its result kept for the speaker.
    """

    def __init__(self, model: DDIN, parties: int) -> None:
        super().__init__()
        net, sizes = model.networks, model.config
        self.parties, self.modalities, self.sizes = parties, model.modalities, sizes
        inputs, units, emotions, count = (
            sizes.input_units,
            sizes.state_units,
            sizes.emotion_units,
            len(model.modalities),
        )
        self.project = nn.ModuleList(
            [nn.Linear(model.projections[0][name].linear.in_features, inputs) for name in self.modalities]
        )
        self.global_cells = nn.ModuleList([nn.GRUCell(inputs + units, units) for _ in self.modalities])
        self.party_cells = nn.ModuleList([nn.GRUCell(inputs + units, units) for _ in self.modalities])
        self.emotion_cells = nn.ModuleList([nn.GRUCell(units, emotions) for _ in self.modalities])
        self.queries = nn.ModuleList([nn.Linear(inputs, units, bias=False) for _ in range(count * count)])
        self.gates = nn.ModuleList([nn.Linear(units, 1, bias=False) for _ in self.modalities])
        self.joins = nn.ModuleList([nn.Linear(count * units, units) for _ in self.modalities])
        self.share = nn.Linear(emotions, 1, bias=False)
        self.attention = nn.Linear(model.gives.hidden, model.gives.hidden, bias=False)
        self.hidden = nn.Linear(model.gives.hidden, model.gives.hidden)
        self.classifier = nn.Linear(model.gives.hidden, model.classes)
        with torch.no_grad():
            for k, name in enumerate(self.modalities):
                self.project[k].load_state_dict(model.projections[0][name].linear.state_dict())
                copy_cell(
                    self.global_cells[k],
                    torch.cat([net.input_global[k], net.party_global[k]]),
                    net.input_bias_global[k],
                    net.state_global[k],
                    net.state_bias_global[k],
                )
                copy_cell(
                    self.party_cells[k],
                    torch.cat([net.input_party[k], net.context_party[k]]),
                    net.input_bias_party[k],
                    net.state_party[k],
                    net.state_bias_party[k],
                )
                copy_cell(
                    self.emotion_cells[k],
                    net.party_emotion[k],
                    net.input_bias_emotion[k],
                    net.state_emotion[k],
                    net.state_bias_emotion[k],
                )
                for n in range(count):
                    self.queries[k * count + n].weight.copy_(net.query[k][:, n * units : (n + 1) * units].T)
                self.gates[k].weight.copy_(net.gate[k][None])
                self.joins[k].weight.copy_(net.join[k].T)
                self.joins[k].bias.copy_(net.join_bias[k, 0])
            self.share.weight.copy_(model.share_RE)
            self.attention.load_state_dict(model.attention.query.state_dict())
            self.hidden.load_state_dict(model.hidden[0].state_dict())
            self.classifier.load_state_dict(model.classifier.state_dict())

    def forward(self, batch: DialogueBatch) -> Tensor:
        """Returns the scores, [B, T, C]; those of padding are meaningless."""
        dialogues, steps = batch.utterance_mask.shape
        count, units, rate = len(self.modalities), self.sizes.state_units, self.sizes.recurrent_dropout
        inputs = [project(batch.features[name]) for project, name in zip(self.project, self.modalities, strict=True)]
        codes_TS = position_codes(steps, units, inputs[0].device)
        speakers_BTP = functional.one_hot(batch.speakers % self.parties, self.parties).to(inputs[0].dtype)
        states = [inputs[0].new_zeros(dialogues, units) for _ in range(count)]
        parties = [inputs[0].new_zeros(dialogues, self.parties, units) for _ in range(count)]
        emotions = [inputs[0].new_zeros(dialogues, self.sizes.emotion_units) for _ in range(count)]
        histories: list[Tensor] = []
        outputs = []
        for step in range(steps):
            speaking_BP1 = speakers_BTP[:, step, :, None]
            keys = []
            for m in range(count):
                x_BU = inputs[m][:, step]
                party_BS = (parties[m] * speaking_BP1).sum(dim=1)
                states[m] = functional.dropout(
                    self.global_cells[m](torch.cat([x_BU, party_BS], dim=1), states[m]), rate, self.training
                )
                keys.append(functional.dropout(states[m] + codes_TS[step], rate, self.training)[:, None])
                contexts = []
                for n in range(count):
                    if not step:
                        contexts.append(torch.zeros_like(states[m]))
                        continue
                    query_BS1 = self.queries[m * count + n](x_BU)[..., None]
                    weights_BT1 = torch.softmax(histories[n] @ query_BS1, dim=1)
                    contexts.append((weights_BT1.mT @ histories[n])[:, 0])
                stacked_BMS = torch.stack(contexts, dim=1)
                shares_BM1 = torch.softmax(self.gates[m](stacked_BMS), dim=1)
                gated_BS = self.joins[m](((1 + shares_BM1) * stacked_BMS).flatten(1))
                joined_BPX = torch.cat([x_BU, gated_BS], dim=1)[:, None].expand(-1, self.parties, -1)
                moved_BPS = self.party_cells[m](joined_BPX.flatten(0, 1), parties[m].flatten(0, 1)).view_as(parties[m])
                moved_BPS = functional.dropout(moved_BPS, rate, self.training)
                parties[m] = parties[m] * (1 - speaking_BP1) + moved_BPS * speaking_BP1
                party_BS = (parties[m] * speaking_BP1).sum(dim=1)
                emotions[m] = functional.dropout(self.emotion_cells[m](party_BS, emotions[m]), rate, self.training)
            histories = (
                [torch.cat([history, key], dim=1) for history, key in zip(histories, keys, strict=True)]
                if step
                else keys
            )
            stacked_BME = torch.stack(emotions, dim=1)
            outputs.append((torch.softmax(self.share(stacked_BME), dim=1) * stacked_BME).flatten(1))
        fused_BTF = torch.stack(outputs, dim=1)
        earlier_TT = torch.ones(steps, steps, dtype=torch.bool, device=fused_BTF.device).tril()
        weights_BTT = (self.attention(fused_BTF) @ fused_BTF.mT).masked_fill(~earlier_TT, float("-inf")).softmax(dim=-1)
        hidden_BTF = functional.dropout(self.hidden(weights_BTT @ fused_BTF).relu(), self.sizes.dropout, self.training)
        return self.classifier(hidden_BTF)


def copy_cell(cell: nn.GRUCell, into: Tensor, into_bias: Tensor, state: Tensor, state_bias: Tensor) -> None:
    """The input's gates are in the order new, reset, update; torch has reset, update, new."""
    new_last = torch.roll(torch.cat([into, into_bias]), -cell.hidden_size, dims=1)
    cell.weight_ih.copy_(new_last[:-1].T)
    cell.bias_ih.copy_(new_last[-1])
    cell.weight_hh.copy_(state.T)
    cell.bias_hh.copy_(state_bias[0])
