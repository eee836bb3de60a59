"""Any text encoder of Hugging Face transformers, frozen: the transcript, and on request speaker names and earlier
turns.

Legend: B utterances, T tokens (padded), D features, N tokens of all utterances, concatenated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from merc.encoders.engine.base import Encoded, EncodedSequence, EncoderConfig, UtteranceInput
from merc.encoders.engine.batching import scatter
from merc.encoders.engine.forward import in_batches
from merc.encoders.engine.neural import NeuralConfig, check_layer
from merc.encoders.engine.trainable import TrainableEncoder, TrainingItems
from merc.errors import BadSettings

if TYPE_CHECKING:
    import torch

LAST_LAYERS = 4
_LAYERS = (
    "encoder_layers",
    "num_hidden_layers",
    "n_layers",
    "n_layer",
    "num_layers",
)  # of BART, BERT, DistilBERT, GPT-2, T5 and related models
_WIDTH = ("hidden_size", "d_model", "dim", "n_embd")
# Keys that only image and audio models have; some of these have a vocabulary, too, for the text that they output.
_OTHER_MODALITY = (
    "vision_config",
    "audio_config",
    "image_size",
    "patch_size",
    "num_mel_bins",
    "conv_stride",
    "feat_extract_norm",
)
_NO_LIMIT = 1_000_000  # tokens; tokenizers without a limit say 1e30
_FLOAT16_MAX = 65_504.0


@dataclass(frozen=True, eq=False)
class Tokens:
    """Utterances as the model sees them, concatenated.

        <s>  earlier turns …… Ross:  the utterance's own tokens ……  </s>
        └ start                      └ own_begin                 └ own_end, both counted from start

    Attributes:
        ids: (N,) int64, special tokens included.
        types: (N,) int64, the tokenizer's ``token_type_ids``.
        lengths: (B,) int64, number of tokens of each utterance; 0 for a text that the tokenizer reduces to nothing.
        own_begin, own_end: (B,) int64, half-open range of the utterance's own tokens; all tokens if it has only special
        ones.
        cut: (B,) int64, number of own tokens that were left out.
    """

    ids: NDArray[np.int64]
    types: NDArray[np.int64]
    lengths: NDArray[np.int64]
    own_begin: NDArray[np.int64]
    own_end: NDArray[np.int64]
    cut: NDArray[np.int64]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """(B,) int64, where each utterance's tokens start."""
        return np.cumsum(self.lengths) - self.lengths

    def filled(self) -> "Tokens":
        """The utterances that have tokens."""
        with_tokens = self.lengths > 0
        return Tokens(
            self.ids,
            self.types,
            *(array[with_tokens] for array in (self.lengths, self.own_begin, self.own_end, self.cut)),
        )

    def own(self, batch: NDArray[np.int64], longest: int) -> NDArray[np.bool_]:
        """(len(batch), longest): which tokens of the utterances in ``batch`` are their own."""
        place_T = np.arange(longest)
        own_BT: NDArray[np.bool_] = (place_T >= self.own_begin[batch, None]) & (place_T < self.own_end[batch, None])
        return own_BT


class Transformer(TrainableEncoder):
    """A frozen ``AutoModel``; of an encoder-decoder, the encoder.

    Without context the mean is taken over all tokens, including special ones, as in sentence-transformers; with earlier
    turns or speaker names, only over the utterance's own tokens. Batches are padded on the right and masked. A sequence
    contains the utterance's own tokens, always without the special ones.
    """

    class Config(NeuralConfig):
        """Settings of a transformer; those of an encoder that was adapted here must be the same as in its training."""

        pooling: Literal["first", "mean", "mean_last4"] = "mean"
        """``first`` takes the first token (BERT's [CLS], RoBERTa's <s>); ``mean`` the mean over tokens; ``mean_last4``
        the mean over tokens of the mean of four layers, ``layer`` and the three before it."""
        max_tokens: int = Field(default=256, ge=4)
        """Maximum number of tokens per utterance, including special tokens; the rest is cut and recorded (MiniLM was
        trained with 256).
        """
        tokens_per_batch: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
        """Maximum number of tokens in a batch, including padding; ``auto`` is 1,024 on a CPU, and 65,536 on a GPU until
        its memory runs out; changes speed and memory, not the vectors.
        """
        history_turns: int = Field(default=0, ge=0)
        """Number of earlier turns of the dialogue put before the utterance."""
        speaker_names: bool = False
        """Whether ``name: `` is put before the utterance and before each earlier turn."""

    MODALITY = "text"
    HAS_SEQUENCES = True
    BUDGET_KEY = "tokens_per_batch"
    UNIT = "tokens"
    AUTOMATIC = {"cpu": 1024, "cuda": 65_536}  # noqa: RUF012
    config: Config

    def __init__(self, config: EncoderConfig, *, offline: bool = False, sequences: bool = False) -> None:
        super().__init__(config, offline=offline, sequences=sequences)
        self.history_turns = self.config.history_turns
        self._with_context = self.config.history_turns > 0 or self.config.speaker_names

    def further_provenance(self) -> dict[str, Any]:
        config = self.config
        return {
            "pooling": config.pooling,
            "sample_rate_hz": None,
            "max_tokens": config.max_tokens,
            "history_turns": config.history_turns,
            "speaker_names": config.speaker_names,
        }

    def planned_dim(self) -> int | None:
        return self.config.dim or _first_number(self.checkpoint.configuration(), _WIDTH)

    def check_configuration(self, configuration: dict[str, Any]) -> None:
        config, kind = self.config, configuration.get("model_type", "nameless")
        foreign = [key for key in _OTHER_MODALITY if key in configuration]
        if foreign or not isinstance(configuration.get("vocab_size"), int):
            why = f"its configuration has {', '.join(foreign)}" if foreign else "its configuration has no vocab_size"
            raise BadSettings(
                f"{config.repo}: a {kind} model is not a text encoder ({why}); choose one such as BERT, RoBERTa or"
                " DeBERTa"
            )
        layers = _first_number(configuration, _LAYERS)
        if layers is not None:
            self._check_layer(layers)
        positions = configuration.get("max_position_embeddings")
        if isinstance(positions, int) and 0 < positions < config.max_tokens:
            raise BadSettings(f"{config.repo}: max_tokens is {config.max_tokens}, the model takes at most {positions}")
        width = _first_number(configuration, _WIDTH)
        if config.dim is not None and width is not None:
            self.check_dim(width)

    def _check_layer(self, layers: int) -> int:
        config = self.config
        return check_layer(
            f"{config.repo}, pooling {config.pooling}",
            config.layer,
            layers,
            LAST_LAYERS - 1 if config.pooling == "mean_last4" else 0,
        )

    def load(self, device: str) -> None:
        from transformers import AutoModel, AutoTokenizer

        folder = self.checkpoint.fetch()
        self.check_configuration(self.checkpoint.configuration())
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (ValueError, OSError, KeyError, ImportError) as error:
            raise BadSettings(f"{self.config.repo}: transformers cannot load its tokenizer: {error}") from error
        if not getattr(self._tokenizer, "is_fast", False):
            raise BadSettings(
                f"{self.config.repo}: its tokenizer gives no offsets (no tokenizer.json), which are needed to locate"
                " an utterance's tokens"
            )
        # Some checkpoints, such as MiniLM's, come with their own truncation and padding.
        self._tokenizer.backend_tokenizer.no_truncation()
        self._tokenizer.backend_tokenizer.no_padding()
        model = self.model_from(folder, AutoModel)
        if getattr(model.config, "is_encoder_decoder", False):
            model = model.get_encoder()
        self._model = self.placed(model, device)
        self._pad_id = next(
            (known for known in (model.config.pad_token_id, self._tokenizer.pad_token_id) if known is not None), 0
        )
        self._takes_types = "token_type_ids" in self._tokenizer.model_input_names
        self._layers = int(model.config.num_hidden_layers)
        self._layer = self._check_layer(self._layers)
        self._check_length()
        self.settle(int(model.config.hidden_size), device)
        if self.config.pooling == "first":
            self._check_first_token()

    def _check_length(self) -> None:
        """Raises BadSettings for a length that the model does not support."""
        config = self.config
        limit = _longest_input(self._model, self._tokenizer)
        if limit is not None and config.max_tokens > limit:
            raise BadSettings(f"{config.repo}: max_tokens is {config.max_tokens}, the model takes at most {limit}")
        special = sum(self._tokenizer.backend_tokenizer.encode("a").special_tokens_mask)
        if config.max_tokens <= special:
            raise BadSettings(
                f"{config.repo}: max_tokens is {config.max_tokens}, of which {special} are special tokens"
            )

    def _check_first_token(self) -> None:
        """Raises BadSettings if the first token does not represent the whole text."""
        import torch

        if not self._tokenizer.backend_tokenizer.encode("a").special_tokens_mask[0]:
            raise BadSettings(
                f"{self.config.repo}: pooling first, but its tokenizer puts no special token at the start; valid:"
                " mean, mean_last4"
            )
        first = self._tokenizer.backend_tokenizer.encode("a").ids[0]
        with torch.inference_mode():
            ids_BT = torch.tensor([[first, first], [first, 3 if first == 2 else 2]], device=self.device)
            one_D, other_D = self._hidden({"input_ids": ids_BT})[:, 0].float()
        if torch.dist(one_D, other_D) < 1e-4 * one_D.norm():  # a decoder looks only backwards, and layer 0 nowhere
            raise BadSettings(
                f"{self.config.repo}: pooling first, but at layer {self.config.layer} the first token is the same"
                " whatever follows; valid: mean, mean_last4"
            )

    def encode(self, utterances: Sequence[UtteranceInput]) -> Encoded:
        filled = [at for at, utterance in enumerate(utterances) if utterance.text.strip()]
        tokens = self._tokenise([utterances[at] for at in filled])
        with_tokens = np.flatnonzero(tokens.lengths)
        places = np.array(filled, dtype=np.int64)[with_tokens]
        left = set(places.tolist())
        remarks = [
            (
                at,
                "no_text",
                "the tokenizer leaves nothing of it" if utterance.text.strip() else "the transcript is empty",
            )
            for at, utterance in enumerate(utterances)
            if at not in left
        ]
        own = tokens.own_end - tokens.own_begin
        remarks += [
            (
                filled[at],
                "truncated",
                (
                    f"{tokens.cut[at]} of {tokens.cut[at] + own[at]} tokens were cut; the model is given at most"
                    f" {self.config.max_tokens}"
                ),
            )
            for at in np.flatnonzero(tokens.cut)
        ]
        vectors, sequences = self._vectors(tokens)
        finite = np.isfinite(vectors).all(axis=1)
        if self.sequences:
            finite &= np.array(
                [one is not None and bool(np.isfinite(one.vectors).all()) for one in sequences], dtype=np.bool_
            )
        remarks += [
            (int(places[at]), "not_finite", f"the model's output in {self.config.dtype} is not finite")
            for at in np.flatnonzero(~finite)
        ]
        encoded = scatter(vectors[finite], places[finite].tolist(), len(utterances), remarks)
        if self.sequences:
            encoded.sequences = [None] * len(utterances)
            for at in np.flatnonzero(finite):
                encoded.sequences[places[at]] = sequences[at]
        return encoded

    def _vectors(self, tokens: Tokens) -> tuple[NDArray[np.float32], list[EncodedSequence | None]]:
        """(B, D) vectors of the utterances that have tokens, and their sequences, if requested."""
        import torch

        real = tokens.filled()
        own_lengths = real.own_end - real.own_begin
        vectors = np.zeros((len(real.lengths), self.dim), dtype=np.float32)
        sequences: list[EncodedSequence | None] = [None] * len(real.lengths)
        no_seconds = np.zeros(0, dtype=np.float32)

        def prepare(batch: NDArray[np.int64]) -> dict[str, Any]:
            inputs = self._padded(real, batch)
            if self.sequences:
                inputs["own_n"] = np.flatnonzero(real.own(batch, inputs["input_ids"].shape[1]))
            return inputs

        def compute(inputs: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
            hidden_BTD = self._hidden(inputs)
            vectors_BD = self._pooled(hidden_BTD, inputs)
            if not self.sequences:
                return (vectors_BD,)
            own_nD = hidden_BTD.flatten(0, 1)[inputs["own_n"]]
            return vectors_BD, own_nD.clamp(-_FLOAT16_MAX, _FLOAT16_MAX).half()

        def take(batch: NDArray[np.int64], vectors_BD: torch.Tensor, *own_nD: torch.Tensor) -> None:
            vectors[batch] = vectors_BD.numpy()
            for packed in own_nD:
                pieces = np.split(packed.numpy(), np.cumsum(own_lengths[batch])[:-1])
                for at, piece in zip(batch, pieces, strict=True):
                    sequences[at] = EncodedSequence(piece.copy(), no_seconds)

        in_batches(real.lengths, self.budget, self.device, prepare, compute, take)
        return vectors, sequences

    def training_items(self, utterances: Sequence[UtteranceInput]) -> TrainingItems:
        filled = np.array([at for at, utterance in enumerate(utterances) if utterance.text.strip()], dtype=np.int64)
        tokens = self._tokenise([utterances[at] for at in filled])
        real = tokens.filled()
        return TrainingItems(
            utterances=filled[tokens.lengths > 0],
            lengths=real.lengths,
            batch=lambda batch: self._padded(real, batch),
            vectors=lambda inputs: self._pooled(self._hidden(inputs), inputs),
        )

    def _padded(self, tokens: Tokens, batch: NDArray[np.int64]) -> dict[str, Any]:
        """The model's inputs for a batch: numpy arrays (B, T), and None for a mask that masks nothing.

        Args:
            tokens: tokens of all utterances, at least one each.
            batch: indices of B of them.
        """
        lengths, starts = tokens.lengths[batch], tokens.starts[batch]
        place_T = np.arange(lengths.max())
        real_BT = place_T < lengths[:, None]
        source_BT = np.where(real_BT, starts[:, None] + place_T, 0)
        inputs = {
            "input_ids": np.where(real_BT, tokens.ids[source_BT], self._pad_id),
            # Without a mask, attention may use its fastest kernel.
            "attention_mask": None if real_BT.all() else real_BT.astype(np.int64),
            "pooled_BT": tokens.own(batch, len(place_T)) if self._with_context else real_BT,
        }
        if self._takes_types:
            inputs["token_type_ids"] = np.where(real_BT, tokens.types[source_BT], 0)
        return inputs

    def _pooled(self, hidden_BTD: "torch.Tensor", inputs: Mapping[str, Any]) -> "torch.Tensor":
        """[B, D] float32: the vectors of a batch."""
        from merc.encoders.engine import pooling

        return (
            hidden_BTD[:, 0].float()
            if self.config.pooling == "first"
            else pooling.masked_mean(hidden_BTD, inputs["pooled_BT"])
        )

    def _hidden(self, inputs: Mapping[str, Any]) -> "torch.Tensor":
        """[B, T, D]: what is pooled, of a batch's inputs on the device."""
        from merc.encoders.engine import pooling

        given = {name: inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in inputs}
        last_alone = self._layer == self._layers and self.config.pooling != "mean_last4"
        output = self._model(**given, output_hidden_states=not last_alone)
        if last_alone:
            hidden_BTD = output.last_hidden_state
        elif self.config.pooling == "mean_last4":
            hidden_BTD = pooling.mean_of_layers(output.hidden_states[self._layer + 1 - LAST_LAYERS : self._layer + 1])
        else:
            hidden_BTD = output.hidden_states[self._layer]
        return cast("torch.Tensor", hidden_BTD)

    def _tokenise(self, utterances: Sequence[UtteranceInput]) -> Tokens:
        tokenizer = self._tokenizer.backend_tokenizer
        texts = [utterance.text.strip() for utterance in utterances]
        if not self._with_context:
            return cut_to_length(tokenizer.encode_batch_fast(texts), None, self.config.max_tokens)
        contexts = [self._context(utterance) for utterance in utterances]
        encodings = tokenizer.encode_batch([context + text for context, text in zip(contexts, texts, strict=True)])
        return cut_to_length(
            encodings,
            [(len(context), len(context) + len(text)) for context, text in zip(contexts, texts, strict=True)],
            self.config.max_tokens,
        )

    def _context(self, utterance: UtteranceInput) -> str:
        """The text before the utterance: earlier turns, separated by the separator token, and the speaker's name."""
        turn = self._tokenizer.sep_token or "\n"
        turns = utterance.history[-self.config.history_turns :] if self.config.history_turns else ()
        earlier = "".join(f"{self._name(speaker)}{text.strip()} {turn} " for speaker, text in turns)
        return earlier + self._name(utterance.speaker)

    def _name(self, speaker: str) -> str:
        return f"{speaker}: " if self.config.speaker_names and speaker else ""


def cut_to_length(encodings: Sequence[Any], spans: Sequence[tuple[int, int]] | None, max_tokens: int) -> Tokens:
    """Truncates tokenised texts: first earlier turns from their start, then the utterance from its end.

        <s>  earlier turns …… Ross:  the utterance's own tokens ……  </s>
             └─ cut first, from here                  cut last, from there ─┘

    Args:
        encodings: B outputs of a tokenizer of the package tokenizers, for context and utterance together.
        spans: span of each utterance in its text, half-open, in characters; None if there is no context.
        max_tokens: maximum number of tokens, including special ones; more than the tokenizer adds at the ends.
    """
    lengths = np.fromiter(map(len, encodings), dtype=np.int64, count=len(encodings))
    total = int(lengths.sum())

    def flat(name: str) -> NDArray[np.int64]:
        return np.fromiter(
            chain.from_iterable(getattr(encoding, name) for encoding in encodings), dtype=np.int64, count=total
        )

    ids, types, special = flat("ids"), flat("type_ids"), flat("special_tokens_mask") != 0
    text = np.repeat(np.arange(len(lengths)), lengths)  # of each token, as `place`, its number within the text
    place = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)

    # Only the special tokens at the ends count as such; a transcript may itself contain "</s>".
    inner = np.flatnonzero(~special)
    body_begin, body_end = (
        _first(text[inner], place[inner], lengths),
        _last(text[inner], place[inner], len(lengths)) + 1,
    )
    own_begin, own_end = body_begin, body_end
    if spans is not None:
        found = np.array(
            [_first_token(encoding, *span) for encoding, span in zip(encodings, spans, strict=True)], dtype=np.int64
        )
        own_begin = np.where(found < 0, np.maximum(body_end - 1, 0), found)

    room = max_tokens - (lengths - (body_end - body_begin))
    kept_own = np.minimum(own_end - own_begin, room)
    kept_begin = own_begin - np.minimum(own_begin - body_begin, room - kept_own)
    own_end = own_begin + kept_own
    kept = (
        (place < body_begin[text]) | ((place >= kept_begin[text]) & (place < own_end[text])) | (place >= body_end[text])
    )

    left_out_before = kept_begin - body_begin
    cut = body_end - own_end
    bare = body_end <= body_begin  # nothing that the tokenizer knows, not even as an unknown token: only special tokens
    kept_lengths = np.bincount(text[kept], minlength=len(lengths))
    return Tokens(
        ids[kept],
        types[kept],
        kept_lengths,
        np.where(bare, 0, own_begin - left_out_before),
        np.where(bare, kept_lengths, own_end - left_out_before),
        np.where(bare, 0, cut),
    )


def _first_token(encoding: Any, begin: int, end: int) -> int:
    """The first token with a character of the span (the tokenizer may have removed some); -1 if there is none."""
    return next((token for at in range(begin, end) if (token := encoding.char_to_token(at)) is not None), -1)


def _first(text: NDArray[np.int64], place: NDArray[np.int64], otherwise: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first of the places given for each text; ``otherwise`` if there is none."""
    first = otherwise.copy()
    np.minimum.at(first, text, place)
    return first


def _last(text: NDArray[np.int64], place: NDArray[np.int64], texts: int) -> NDArray[np.int64]:
    """The last of the places given for each text; -1 if there is none."""
    last = np.full(texts, -1, dtype=np.int64)
    np.maximum.at(last, text, place)
    return last


def _first_number(configuration: Mapping[str, Any], keys: Sequence[str]) -> int | None:
    return next((int(configuration[key]) for key in keys if isinstance(configuration.get(key), int)), None)


def _longest_input(model: Any, tokenizer: Any) -> int | None:
    """The number of tokens that a model has positions for; None if it has no limit (relative positions).

    RoBERTa and related models number positions from ``padding_idx + 1``, so that number of table rows is never used.
    """
    limits = [int(tokenizer.model_max_length)]
    tables = [
        module
        for name, module in model.named_modules()
        if name.endswith("position_embeddings") and hasattr(module, "num_embeddings")
    ]
    for table in tables:
        limits.append(table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1))
    if not tables and (getattr(model.config, "max_position_embeddings", None) or -1) > 0:
        limits.append(int(model.config.max_position_embeddings))
    shortest = min(limits)
    return shortest if shortest < _NO_LIMIT else None
