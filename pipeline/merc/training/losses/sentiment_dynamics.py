"""Sentiment dynamics: the sentiment of each utterance, and whether it differs between two nearby utterances.

    L = λ₁ mean_i CE(S h_i + s, z_i) + λ₂ mean_ij CE(D [h_i; h_j] + d, [z_i ≠ z_j])

h is :attr:`MERCOutput.hidden`; z is negative, neutral or positive. A dialogue is divided into blocks of
``shift_window`` utterances, the last of which may be shorter; i, j are all ordered pairs within a block, i = j
included. Means are over the batch.

Legend: B dialogues, T utterances, H width of h, K blocks, W utterances of a block, C emotions.

Source: Li, Wang and Zeng, Tracing Intricate Cues in Dialogue (GraphSmile), IEEE TPAMI 2025 (arXiv 2407.21536), and its
code (lijfrank-open/GraphSmile at 96745a2), from which blocks and pairs are adopted. With the same weights and
sentiments the values differ by at most 6e-16 (float64, eight batches of three or four dialogues of 1 to 88 utterances).
Intended differences:

- the sentiment follows from the emotion. For IEMOCAP the code has the same mapping; for MELD it reads the annotated
  sentiments. Those follow from the emotion as well, except for surprise: 614 such utterances of the train split are
  negative and 591 are positive. Surprise therefore has no sentiment here, and 1,205 of 9,989 utterances do not count;
- utterances without a sentiment, among them unlabelled ones, have a place in a block, but pairs with them do not count.
  The code's files have labelled utterances only.

D is linear, in the code as here, and so adds a term of i and a term of j. For two utterances with different sentiments,
no such sum gets all four pairs right: they cost at least ln 2 on average, however well the sentiments are known.
"""

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from merc.errors import BadSettings
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.losses.engine.kernel import at_least_float32
from merc.training.models.engine.base import MERCOutput

Sentiment = Literal["negative", "neutral", "positive"]
SENTIMENTS: tuple[Sentiment, ...] = ("negative", "neutral", "positive")
_NEGATIVE = "sadness sad anger angry mad frustrated fear scared disgust"
_POSITIVE = "joy joyful happy happiness excited peaceful powerful"
SENTIMENT_OF: dict[str, Sentiment | None] = {
    **dict.fromkeys(_NEGATIVE.split(), "negative"),
    "neutral": "neutral",
    **dict.fromkeys(_POSITIVE.split(), "positive"),
}
"""Emotions of the label sets → sentiment; surprise may be either."""


class SentimentShift(nn.Module):
    """The second term without λ₂, with D and d.

    Args:
        units: width of h.
        window: utterances of a block.
    """

    def __init__(self, units: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.head = nn.Linear(2 * units, 2)

    def forward(self, hidden_BTH: Tensor, sentiments_BT: Tensor) -> Tensor:
        """The mean over the pairs that count, a scalar; exactly 0 without any.

        Args:
            hidden_BTH: float; rows without a sentiment are not used.
            sentiments_BT: long, 0 or more; -1: none, or padding.
        """
        known_BT = sentiments_BT >= 0
        hidden_BTH = torch.where(known_BT[..., None], hidden_BTH, 0.0)
        # D [h_i; h_j] is the sum of a term of i and a term of j.
        of_first_2H, of_second_2H = self.head.weight.chunk(2, dim=1)
        first_BKW2 = self._blocks(functional.linear(hidden_BTH, of_first_2H, self.head.bias), 0)
        second_BKW2 = self._blocks(functional.linear(hidden_BTH, of_second_2H), 0)
        logits_BKWW2 = first_BKW2[:, :, :, None] + second_BKW2[:, :, None]
        sentiments_BKW = self._blocks(sentiments_BT[..., None], -1).squeeze(-1)
        shift_BKWW = sentiments_BKW[:, :, :, None] != sentiments_BKW[:, :, None]
        counted_BKWW = (sentiments_BKW[:, :, :, None] >= 0) & (sentiments_BKW[:, :, None] >= 0)
        return _mean_cross_entropy(logits_BKWW2, shift_BKWW.long().masked_fill(~counted_BKWW, -1))

    def _blocks(self, values_BTX: Tensor, fill: int) -> Tensor:
        """[B, K, W, X] of [B, T, X]; ``fill`` completes the last block."""
        dialogues, steps, width = values_BTX.shape
        window = min(self.window, steps)
        return functional.pad(values_BTX, (0, 0, 0, -steps % window), value=fill).view(dialogues, -1, window, width)


class SentimentDynamics(MERCLoss):
    """Both terms over the batch's utterances that have a sentiment. S, s, D and d are weights of the loss.

    Raises:
        BadSettings: if the emotions of the label set have fewer than two sentiments.
    """

    class Config(Settings):
        """Settings of both terms, one of whose weights must be above 0."""

        sentiment_weight: float = Field(default=1.0, ge=0)
        """λ₁, weight of the sentiment's cross-entropy; published: 0.5 for MELD, 1 for IEMOCAP."""
        shift_weight: float = Field(default=1.0, ge=0)
        """λ₂, weight of the shift's cross-entropy; published: 0.2 for MELD, 0.7 for IEMOCAP."""
        shift_window: int = Field(default=3, ge=1)
        """Number of utterances in a block; published: 3 for MELD, 19 for IEMOCAP."""
        sentiment_of: dict[str, Sentiment | None] = Field(default=SENTIMENT_OF)
        """Emotion → sentiment. Emotions that are null or not named have none, and do not enter the loss."""

        @model_validator(mode="after")
        def _something_is_trained(self) -> Self:
            if not self.sentiment_weight and not self.shift_weight:
                raise ValueError("sentiment_weight and shift_weight are both 0, so that there is no loss")
            return self

    sentiment_by_class: Tensor

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        self.sentiment_weight, self.shift_weight = config.sentiment_weight, config.shift_weight
        found = [config.sentiment_of.get(name) for name in facts.classes]
        if len({one for one in found if one is not None}) < 2:
            raise BadSettings(
                f"losses.sentiment_dynamics.sentiment_of: the emotions of the label set, {', '.join(facts.classes)}, "
                f"must have at least two sentiments; give each emotion one of {', '.join(SENTIMENTS)}"
            )
        index_C = torch.tensor([-1 if one is None else SENTIMENTS.index(one) for one in found])
        self.register_buffer("sentiment_by_class", index_C, persistent=False)
        self.sentiment = nn.Linear(facts.gives.hidden, len(SENTIMENTS)) if config.sentiment_weight else None
        self.shift = SentimentShift(facts.gives.hidden, config.shift_window) if config.shift_weight else None

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        sentiments_BT = torch.where(batch.labelled, self.sentiment_by_class[batch.labels.clamp(min=0)], -1)
        with torch.autocast(output.hidden.device.type, enabled=False):
            hidden_BTH = torch.where(sentiments_BT[..., None] >= 0, at_least_float32(output.hidden), 0.0)
            total = hidden_BTH.new_zeros(())
            if self.sentiment is not None:
                total = total + self.sentiment_weight * _mean_cross_entropy(self.sentiment(hidden_BTH), sentiments_BT)
            if self.shift is not None:
                total = total + self.shift_weight * self.shift(hidden_BTH, sentiments_BT)
        return total


def _mean_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Over the targets that are not -1, [..., C] and [...]; exactly 0 without any."""
    value: Tensor = functional.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=-1, reduction="sum")
    return value / (targets >= 0).sum().clamp(min=1)
