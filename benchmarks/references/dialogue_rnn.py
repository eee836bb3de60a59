"""DialogueRNN written the usual way, for comparison: torch's cells in every step for the whole padded batch, the party
cell for all parties, the history reassembled, and attention over utterances one by one.

All modalities of all utterances are assumed to be present. Legend as in the model; P party slots.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from merc.training.data.batch import DialogueBatch
from merc.training.models.dialogue_rnn import DialogueRNN
from merc.training.models.engine.recurrent_context import backwards
from references.ddin import copy_cell


class UsualDialogueRNN(nn.Module):
    """A copy of ``model``'s weights.

    Args:
        model: the model to agree with, of either kind.
        parties: P.
    """

    def __init__(self, model: DialogueRNN, parties: int) -> None:
        super().__init__()
        self.modalities, self.sizes = model.modalities, model.config
        inputs = len(model.modalities) * model.config.input_units
        self.project = nn.ModuleList(
            [nn.Linear(model.dims[name], model.config.input_units) for name in self.modalities]
        )
        self.networks = nn.ModuleList(
            [_Direction(model, direction, inputs, parties) for direction in range(model.directions)]
        )
        width = model.directions * model.config.emotion_units
        self.query = None if model.query is None else nn.Linear(width, width)
        self.hidden, self.classifier = (
            nn.Linear(width, model.gives.hidden),
            nn.Linear(model.gives.hidden, model.classes),
        )
        for project, name in zip(self.project, self.modalities, strict=True):
            project.load_state_dict(model.projections[name].linear.state_dict())
        for own, other in (
            (self.query, model.query),
            (self.hidden, model.hidden[0]),
            (self.classifier, model.classifier),
        ):
            if own is not None:
                own.load_state_dict(other.state_dict())

    def forward(self, batch: DialogueBatch) -> Tensor:
        """Returns the scores, [B, T, C]; those of padding are meaningless."""
        inputs_BTF = torch.cat(
            [project(batch.features[name]) for project, name in zip(self.project, self.modalities, strict=True)], dim=-1
        )
        halves = []
        for number, network in enumerate(self.networks):
            values_BTF, speakers_BT1 = inputs_BTF, batch.speakers[..., None]
            if number:
                values_BTF, speakers_BT1 = backwards(values_BTF, batch.lengths), backwards(speakers_BT1, batch.lengths)
            half_BTE = network(values_BTF, speakers_BT1[..., 0])
            halves.append(
                functional.dropout(
                    backwards(half_BTE, batch.lengths) if number else half_BTE,
                    self.sizes.emotion_dropout,
                    self.training,
                )
            )
        emotions_BTE = torch.cat(halves, dim=-1)
        if self.query is not None:
            attended = []
            for emotion_BE in emotions_BTE.unbind(1):
                scores_BT1 = (emotions_BTE @ self.query(emotion_BE)[..., None]).masked_fill(
                    ~batch.utterance_mask[..., None], float("-inf")
                )
                attended.append((scores_BT1.softmax(dim=1).mT @ emotions_BTE)[:, 0])
            emotions_BTE = torch.stack(attended, dim=1)
        return self.classifier(functional.dropout(self.hidden(emotions_BTE).relu(), self.sizes.dropout, self.training))


class _Direction(nn.Module):
    """The three cells and the attention to what was said before."""

    def __init__(self, model: DialogueRNN, direction: int, inputs: int, parties: int) -> None:
        super().__init__()
        net, units, emotions = model.networks, model.config.state_units, model.config.emotion_units
        self.parties, self.rate = parties, model.config.recurrent_dropout
        self.global_cell, self.party_cell = nn.GRUCell(inputs + units, units), nn.GRUCell(inputs + units, units)
        self.emotion_cell, self.query = nn.GRUCell(units, emotions), nn.Linear(inputs, units, bias=False)
        own = {name: weight[direction] for name, weight in net.named_parameters()}
        with torch.no_grad():
            for cell, name, into in (
                (self.global_cell, "global", [own["input_global"], own["party_global"]]),
                (self.party_cell, "party", [own["input_party"], own["context_party"]]),
                (self.emotion_cell, "emotion", [own["party_emotion"]]),
            ):
                copy_cell(
                    cell, torch.cat(into), own[f"input_bias_{name}"], own[f"state_{name}"], own[f"state_bias_{name}"]
                )
            self.query.weight.copy_(own["query"].T)

    def forward(self, inputs_BTF: Tensor, speakers_BT: Tensor) -> Tensor:
        """Returns the emotion states, [B, T, E]."""
        speakers_BTP = functional.one_hot(speakers_BT % self.parties, self.parties).to(inputs_BTF.dtype)
        dialogues, units = len(inputs_BTF), self.global_cell.hidden_size
        state_BS, parties_BPS = (
            inputs_BTF.new_zeros(dialogues, units),
            inputs_BTF.new_zeros(dialogues, self.parties, units),
        )
        emotion_BE, history_BTS = (
            inputs_BTF.new_zeros(dialogues, self.emotion_cell.hidden_size),
            inputs_BTF.new_zeros(dialogues, 0, units),
        )
        outputs = []
        for x_BF, speaking_BP in zip(inputs_BTF.unbind(1), speakers_BTP.unbind(1), strict=True):
            speaking_BP1 = speaking_BP[..., None]
            party_BS = (parties_BPS * speaking_BP1).sum(dim=1)
            weights_BT1 = torch.softmax(history_BTS @ self.query(x_BF)[..., None], dim=1)
            context_BS = (weights_BT1.mT @ history_BTS)[:, 0]
            state_BS = functional.dropout(
                self.global_cell(torch.cat([x_BF, party_BS], dim=1), state_BS), self.rate, self.training
            )
            history_BTS = torch.cat([history_BTS, state_BS[:, None]], dim=1)
            joined_BPX = torch.cat([x_BF, context_BS], dim=1)[:, None].expand(-1, self.parties, -1)
            moved_BPS = self.party_cell(joined_BPX.flatten(0, 1), parties_BPS.flatten(0, 1)).view_as(parties_BPS)
            parties_BPS = (
                parties_BPS * (1 - speaking_BP1)
                + functional.dropout(moved_BPS, self.rate, self.training) * speaking_BP1
            )
            emotion_BE = functional.dropout(
                self.emotion_cell((parties_BPS * speaking_BP1).sum(dim=1), emotion_BE), self.rate, self.training
            )
            outputs.append(emotion_BE)
        return torch.stack(outputs, dim=1)
