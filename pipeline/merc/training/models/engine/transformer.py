"""A layer of torch's transformer encoder over dialogues.

Legend: B dialogues, T utterances, N real utterances of the batch, F units, h heads, d = F / h.
"""

from torch import Tensor, nn
from torch.nn import functional

from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.common import Dropout, padded, real_rows


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward layer (Vaswani et al., NeurIPS 2017), a norm after each residual sum.

    It computes the same as ``nn.TransformerEncoderLayer``. Only the attention, which relates utterances, is padded.

    Args:
        units: F, a multiple of ``heads``.
        heads: h.
        feedforward_units: width of the feed-forward layer.
        dropout: rate of the dropout of attention weights, of sublayer outputs and within the feed-forward layer.
    """

    def __init__(self, units: int, heads: int, feedforward_units: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(units, 3 * units)
        self.attended = nn.Linear(units, units)
        self.dropout = Dropout(dropout)
        self.attention_norm = nn.LayerNorm(units)
        self.feedforward = nn.Sequential(
            nn.Linear(units, feedforward_units),
            nn.ReLU(),
            Dropout(dropout),
            nn.Linear(feedforward_units, units),
            Dropout(dropout),
        )
        self.feedforward_norm = nn.LayerNorm(units)

    def forward(self, stream_NF: Tensor, seen: Tensor, batch: DialogueBatch) -> Tensor:
        """Returns [N, F].

        Args:
            stream_NF: the real utterances.
            seen: bool, broadcast to [B, T, T]; whether an utterance (row) attends to another (column); no row is empty.
            batch: the dialogues.
        """
        three_BTX = padded(self.query_key_value(stream_NF), batch)
        query, key, value = three_BTX.view(*three_BTX.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        dropout = self.dropout.p if self.training else 0.0
        found_BhTd = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=seen[:, None], dropout_p=dropout
        )
        attended_NF = self.attended(real_rows(found_BhTd.transpose(1, 2).flatten(2), batch))
        stream_NF = self.attention_norm(stream_NF + self.dropout(attended_NF))
        output_NF: Tensor = self.feedforward_norm(stream_NF + self.feedforward(stream_NF))
        return output_NF
