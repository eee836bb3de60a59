"""Any text encoder of Hugging Face transformers, frozen: the transcript, and on request speaker names and earlier turns.

Legend: B utterances, T tokens (padded), D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.encoders.base import Encoded, Encoder, EncoderConfig, UtteranceInput
from pipeline.encoders.batching import by_length, scatter
from pipeline.encoders.checkpoint import Checkpoint
from pipeline.errors import BadSettings

LAST_LAYERS = 4


class TransformerConfig(EncoderConfig):
    """Settings of a transformer.

    Attributes:
        repo: a folder with the model's files, or its name on the hub.
        revision: the hub's commit, 40 hex digits; not used for a folder.
        pooling: ``first`` takes the first token (BERT's [CLS], RoBERTa's <s>); ``mean`` the mean over tokens;
            ``mean_last4`` the mean over tokens of the mean of four layers, ``layer`` and the three before it.
        layer: which layer's output; -1 is the last, 0 the embeddings before the first.
        max_tokens: the most tokens the model is given, special ones included; the rest is cut and recorded.
        tokens_per_batch: the most tokens in a batch, padding included; it changes speed and memory, not the vectors.
        dtype: of the model's arithmetic; pooling is in float32.
        attention: transformers' name of the implementation; ``eager`` for the few models that lack ``sdpa``.
        history_turns: earlier turns of the dialogue that stand before the utterance.
        speaker_names: put ``name: `` before the utterance and before each earlier turn.
        licence, training_data_overlap: words for the shards' metadata: the weights' licence, and whether the model has
            seen the corpora.
    """

    repo: str
    revision: str = ""
    pooling: Literal["first", "mean", "mean_last4"]
    layer: int = -1
    max_tokens: int = Field(ge=4)
    tokens_per_batch: int = Field(ge=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Literal["sdpa", "eager"] = "sdpa"
    history_turns: int = Field(default=0, ge=0)
    speaker_names: bool = False
    licence: str
    training_data_overlap: str


@dataclass(frozen=True)
class TokenisedText:
    """One utterance as the model sees it.

    Attributes:
        ids: (tokens,) int64, special tokens included.
        types: (tokens,) int64, the tokenizer's ``token_type_ids``; zeros if it has none.
        pooled: (tokens,) bool, the tokens that the mean is taken over; at least one is True.
        cut: tokens of the utterance itself that were left out.
        kept: tokens of the utterance itself that were not.
    """

    ids: NDArray[np.int64]
    types: NDArray[np.int64]
    pooled: NDArray[np.bool_]
    cut: int
    kept: int


class Transformer(Encoder):
    """A frozen ``AutoModel``; of an encoder-decoder, the encoder.

    Without context the mean is taken over all tokens, special ones included, as sentence-transformers does it; with
    earlier turns or speaker names, over the utterance's own tokens alone. Batches are padded on the right and the mask
    goes with them.
    """

    Config = TransformerConfig
    MODALITY = "text"
    ACCELERATED = True
    config: TransformerConfig

    def __init__(self, config: EncoderConfig, *, offline: bool = False) -> None:
        super().__init__(config, offline=offline)
        self.history_turns = self.config.history_turns
        self._checkpoint = Checkpoint(self.config.repo, self.config.revision, offline)

    @cached_property
    def _source(self) -> dict[str, str]:
        return self._checkpoint.identity()

    def identity(self) -> dict[str, Any]:
        # `repo` may be a path of this machine, and the size of a batch changes no vector.
        settings = self.config.model_dump(mode="json", exclude={"repo", "revision", "tokens_per_batch"})
        return {**settings, "version": self.VERSION, "checkpoint": self._source}

    def provenance(self) -> dict[str, Any]:
        source, config = self._source, self.config
        folder = "sha256" in source
        return {
            "encoder": f"folder with a {self._checkpoint.configuration().get('model_type', 'nameless')} model" if folder else source["repo"],
            "revision": f"sha256:{source['sha256']}" if folder else source["revision"],
            "layer": config.layer,
            "pooling": config.pooling,
            "sample_rate_hz": None,
            "licence": config.licence,
            "training_data_overlap": config.training_data_overlap,
            "dtype": config.dtype,
            "max_tokens": config.max_tokens,
            "history_turns": config.history_turns,
            "speaker_names": config.speaker_names,
        }

    @property
    def dim(self) -> int:
        return self._dim

    def planned_dim(self) -> int | None:
        configuration = self._checkpoint.configuration()
        return next((int(configuration[key]) for key in ("hidden_size", "d_model", "dim") if key in configuration), None)

    def load(self, device: str) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it is drawn also where there is no terminal
        folder = self._checkpoint.fetch()
        safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
            model = AutoModel.from_pretrained(
                folder, use_safetensors=True, dtype=getattr(torch, self.config.dtype), attn_implementation=self.config.attention, **safe
            )
        except (ValueError, OSError, KeyError, ImportError) as error:
            raise BadSettings(f"{self.config.repo}: transformers cannot load it: {error}") from error
        if not getattr(self._tokenizer, "is_fast", False):
            raise BadSettings(f"{self.config.repo}: its tokenizer gives no offsets (no tokenizer.json), which are needed to find an utterance's tokens")
        if getattr(model.config, "is_encoder_decoder", False):
            model = model.get_encoder()
        self._device = device
        self._model = model.to(device).eval()
        self._check_settings()
        self._dim = int(model.config.hidden_size)
        self._pad_id = next((known for known in (model.config.pad_token_id, self._tokenizer.pad_token_id) if known is not None), 0)
        self._takes_types = "token_type_ids" in self._tokenizer.model_input_names

    def _check_settings(self) -> None:
        """Raises BadSettings for a layer, a pooling or a length that the checkpoint does not have."""
        config = self.config
        layers = int(self._model.config.num_hidden_layers)
        position = config.layer if config.layer >= 0 else layers + 1 + config.layer
        lowest = LAST_LAYERS - 1 if config.pooling == "mean_last4" else 0
        if not lowest <= position <= layers:
            raise BadSettings(f"{config.repo}: layer {config.layer} with pooling {config.pooling}; valid: {lowest} to {layers}, or -1 to {lowest - layers - 1}")
        self._layer, self._layers = position, layers
        limit = _longest_input(self._model, self._tokenizer)
        if limit is not None and config.max_tokens > limit:
            raise BadSettings(f"{config.repo}: max_tokens is {config.max_tokens}, the model takes at most {limit}")
        special = self._tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
        if config.pooling == "first" and not special[0]:
            raise BadSettings(f"{config.repo}: pooling first, but its tokenizer puts no special token at the beginning; valid: mean, mean_last4")
        if config.max_tokens <= sum(special):
            raise BadSettings(f"{config.repo}: max_tokens is {config.max_tokens}, of which {sum(special)} are special tokens")

    def encode(self, utterances: Sequence[UtteranceInput]) -> Encoded:
        filled = [index for index, utterance in enumerate(utterances) if utterance.text.strip()]
        remarks = [(index, "no_text", "the transcript is empty") for index, utterance in enumerate(utterances) if not utterance.text.strip()]
        texts = self._tokenise([utterances[index] for index in filled])
        remarks += [
            (index, "truncated", f"{text.cut} of {text.cut + text.kept} tokens were cut; the model is given at most {self.config.max_tokens}")
            for index, text in zip(filled, texts, strict=True)
            if text.cut
        ]
        vectors = np.zeros((len(filled), self.dim), dtype=np.float32)
        for batch in by_length([len(text.ids) for text in texts], self.config.tokens_per_batch):
            vectors[batch] = self._forward([texts[at] for at in batch])
        finite = np.isfinite(vectors).all(axis=1)
        remarks += [(filled[at], "not_finite", f"the model's output in {self.config.dtype} is not finite") for at in np.flatnonzero(~finite)]
        return scatter(vectors[finite], [filled[at] for at in np.flatnonzero(finite)], len(utterances), remarks)

    def _forward(self, texts: Sequence[TokenisedText]) -> NDArray[np.float32]:
        """(B, D) vectors of one batch."""
        import torch

        from pipeline.encoders import pooling

        ids_BT, types_BT, real_BT, pooled_BT = (torch.from_numpy(array).to(self._device) for array in _pad(texts, self._pad_id))
        inputs = {"input_ids": ids_BT, "attention_mask": real_BT.long()}
        if self._takes_types:
            inputs["token_type_ids"] = types_BT
        last_alone = self._layer == self._layers and self.config.pooling != "mean_last4"
        with torch.inference_mode():
            output = self._model(**inputs, output_hidden_states=not last_alone)
            if last_alone:
                hidden_BTD = output.last_hidden_state
            elif self.config.pooling == "mean_last4":
                hidden_BTD = pooling.mean_of_layers(output.hidden_states[self._layer + 1 - LAST_LAYERS : self._layer + 1])
            else:
                hidden_BTD = output.hidden_states[self._layer]
            vectors_BD = hidden_BTD[:, 0].float() if self.config.pooling == "first" else pooling.masked_mean(hidden_BTD, pooled_BT)
        vectors: NDArray[np.float32] = vectors_BD.cpu().numpy()
        return vectors

    def _tokenise(self, utterances: Sequence[UtteranceInput]) -> list[TokenisedText]:
        if not utterances:
            return []
        contexts = [self._context(utterance) for utterance in utterances]
        # verbose=False: a text beyond the model's length is cut below, and recorded there.
        given = self._tokenizer(
            [context + utterance.text.strip() for context, utterance in zip(contexts, utterances, strict=True)],
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )
        types = given.get("token_type_ids") or [[0] * len(ids) for ids in given["input_ids"]]
        with_context = self.config.history_turns > 0 or self.config.speaker_names
        return [
            cut_to_length(
                np.array(given["input_ids"][at], dtype=np.int64),
                np.array(types[at], dtype=np.int64),
                np.array(given["offset_mapping"][at], dtype=np.int64).reshape(-1, 2),
                np.array(given["special_tokens_mask"][at], dtype=np.bool_),
                begin=len(contexts[at]),
                max_tokens=self.config.max_tokens,
                own_alone=with_context,
            )
            for at in range(len(utterances))
        ]

    def _context(self, utterance: UtteranceInput) -> str:
        """What stands before the utterance's text: earlier turns, divided by the separator token, and the speaker's name."""
        turn = self._tokenizer.sep_token or "\n"
        turns = utterance.history[-self.config.history_turns :] if self.config.history_turns else ()
        earlier = "".join(f"{self._name(speaker)}{text.strip()} {turn} " for speaker, text in turns)
        return earlier + self._name(utterance.speaker)

    def _name(self, speaker: str) -> str:
        return f"{speaker}: " if self.config.speaker_names and speaker else ""


def cut_to_length(
    ids: NDArray[np.int64],
    types: NDArray[np.int64],
    offsets: NDArray[np.int64],
    special: NDArray[np.bool_],
    *,
    begin: int,
    max_tokens: int,
    own_alone: bool,
) -> TokenisedText:
    """Cuts a tokenised text to a length: earlier turns from their beginning first, then the utterance from its end.

        <s>  earlier turns …… Ross:  the utterance's own tokens ……  </s>
             └─ cut first, from here                  cut last, from there ─┘

    Args:
        ids, types: (tokens,) of context and utterance together.
        offsets: (tokens, 2) half-open span of each token in the text, in characters.
        special: (tokens,) bool, tokens that the tokenizer added; only those at the ends count as such.
        begin: where the utterance begins in the text, in characters.
        max_tokens: the most tokens that may stay, special ones included.
        own_alone: pool over the utterance's own tokens, not over all.
    """
    inner = np.flatnonzero(~special)
    if len(inner) == 0:  # nothing that the tokenizer knows, not even as an unknown token
        return TokenisedText(ids, types, np.ones(len(ids), dtype=np.bool_), 0, 0)
    head, tail = np.arange(inner[0]), np.arange(inner[-1] + 1, len(ids))
    body = np.arange(inner[0], inner[-1] + 1)
    # A token belongs to the utterance if they share a character; byte-level tokens hold the space before a word.
    own = body[(offsets[body, 1] > begin) & (offsets[body, 0] < offsets[body, 1])]
    if len(own) == 0:
        own = body[-1:]
    room = max_tokens - len(head) - len(tail)
    kept_own = own[:room]
    context = body[body < own[0]]
    kept_context = context[max(0, len(context) - (room - len(kept_own))) :]
    kept = np.concatenate([head, kept_context, kept_own, tail])
    pooled = np.isin(kept, kept_own) if own_alone else np.ones(len(kept), dtype=np.bool_)
    return TokenisedText(ids[kept], types[kept], pooled, len(own) - len(kept_own), len(kept_own))


def _pad(texts: Sequence[TokenisedText], pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Right-padded ids, types, and masks of real and of pooled tokens, each (B, T)."""
    shape = (len(texts), max(len(text.ids) for text in texts))
    ids_BT, types_BT = np.full(shape, pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    real_BT, pooled_BT = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
    for row, text in enumerate(texts):
        length = len(text.ids)
        ids_BT[row, :length], types_BT[row, :length], real_BT[row, :length], pooled_BT[row, :length] = text.ids, text.types, True, text.pooled
    return ids_BT, types_BT, real_BT, pooled_BT


def _longest_input(model: Any, tokenizer: Any) -> int | None:
    """The most tokens a model has positions for; None if it knows no limit (relative positions).

    RoBERTa and its kin number positions from ``padding_idx + 1``, so that many rows of the table are never used.
    """
    limits = [int(tokenizer.model_max_length)]
    tables = [module for name, module in model.named_modules() if name.endswith("position_embeddings") and hasattr(module, "num_embeddings")]
    for table in tables:
        limits.append(table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1))
    if not tables and (getattr(model.config, "max_position_embeddings", None) or -1) > 0:
        limits.append(int(model.config.max_position_embeddings))
    shortest = min(limits)
    return shortest if shortest < 1_000_000 else None  # tokenizers without a limit say 1e30
