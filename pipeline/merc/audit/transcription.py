"""Speech recognition by any Whisper in transformers: greedy, in one language, independent of the rest of the batch.

Whisper: Radford et al. 2023 (ICML). A clip longer than the model's 30 s is cut into pieces of equal length. Whisper's
own long-form decoding with time stamps is not used: utterances are rarely that long, and no text must depend on the
model's earlier output.

Legend: B pieces in a batch, L tokens.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from merc import files
from merc.audit.config import Config
from merc.encoders.audio.spectrogram import LEAST_SAMPLES, Geometry, geometry_of, log_mel_of_whisper
from merc.encoders.engine import loading
from merc.encoders.engine.checkpoint import Checkpoint
from merc.encoders.engine.forward import Budget, in_batches
from merc.encoders.engine.windows import cut
from merc.errors import BadSettings, nearest
from merc.records.media import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import torch

_BATCH = {"cpu": 8, "cuda": 64}
_SPECIAL = {
    "start": "<|startoftranscript|>",
    "end": "<|endoftext|>",
    "transcribe": "<|transcribe|>",
    "untimed": "<|notimestamps|>",
}
# End-of-text token of English-only models, which have GPT-2's vocabulary; others have a different one.
_END_OF_ENGLISH_ONLY = 50256
# No one says more in 30 s; this stops a model that repeats itself.
_TOKENS_PER_SECOND, _MORE_TOKENS, _MOST_TOKENS = 12, 8, 224
CLIPS_FOR_LANGUAGE = 32
"""Number of clips, of a second or more, that are enough to detect a corpus's language."""
_LEAST_SAMPLES_FOR_LANGUAGE = SAMPLE_RATE_HZ


class Transcriber:
    """A Whisper that transcribes clips.

    Args:
        config: ``asr_dtype``, ``language``, ``windows_per_batch``.
        checkpoint: origin of the model.
    """

    def __init__(self, config: Config, checkpoint: Checkpoint) -> None:
        self.config, self.checkpoint = config, checkpoint

    def identity(self) -> dict[str, Any]:
        """What determines the transcripts, for the fingerprint; fetches at most the configuration.

        Raises:
            BadSettings: if the model is not a Whisper for 16 kHz audio, or does not know the language.
            ModelUnavailable: if it is not on this machine and cannot be fetched.
        """
        source = self._source
        self._check_configuration()
        return {"checkpoint": source, "dtype": self.config.asr_dtype, "language": self.config.language}

    def named(self) -> str:
        """A description of the model that does not depend on the location of its files."""
        found = self._source
        return (
            f"the Whisper of sha256 {found['sha256'][:12]}…"
            if "sha256" in found
            else f"{found['repo']} at revision {found['revision'][:12]}…"
        )

    def _check_configuration(self) -> None:
        kind = self.checkpoint.configuration().get("model_type")
        if kind != "whisper":
            raise BadSettings(
                f"{self.checkpoint.repo}: a model of the type {kind!r}, which does not transcribe; audit.asr takes a"
                " Whisper model"
            )
        _ = self._at

    @cached_property
    def _source(self) -> dict[str, str]:
        return self.checkpoint.identity()

    @cached_property
    def _at(self) -> Geometry:
        return geometry_of(self.checkpoint.repo, self.checkpoint.configuration(), self.checkpoint.preprocessor())

    def load(self, device: str) -> None:
        """Loads model and tokenizer. Raises as :meth:`identity`, and ``BadSettings`` if files are missing or are not a
        model of transformers.
        """
        from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

        self._check_configuration()
        folder = self.checkpoint.fetch()
        self._extractor: Any = WhisperFeatureExtractor.from_dict(self.checkpoint.preprocessor())
        model, _ = loading.load(
            self.checkpoint.repo, folder, WhisperForConditionalGeneration, dtype=self.config.asr_dtype
        )
        if not all(weights.isfinite().all() for weights in model.parameters()):
            raise BadSettings(
                f"{self.checkpoint.repo}: some of its weights are not finite, so its transcripts would be nonsense;"
                " copy or download it again"
            )
        self._model = model.to(device)
        self.device = device
        self._read_tokens(folder)
        given = self.config.windows_per_batch
        self._budget = Budget(
            _BATCH["cpu" if device == "cpu" else "cuda"] if given == "auto" else given, "pieces of audio"
        )

    def _read_tokens(self, folder: Path) -> None:
        from transformers import AutoTokenizer
        from transformers.models.whisper.tokenization_whisper import LANGUAGES

        repo = self.checkpoint.repo
        made = loading.quietly(
            lambda: AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
            f"{repo}: transformers cannot load its tokenizer",
        )
        self._tokenizer = made.backend_tokenizer
        ids = {name: self._tokenizer.token_to_id(word) for name, word in _SPECIAL.items()}
        lacking = [_SPECIAL[name] for name, number in ids.items() if number is None]
        if lacking:
            raise BadSettings(f"{repo}: its tokenizer has no {lacking[0]}, so it is not that of a Whisper model")
        self._ids: dict[str, int] = ids
        known = {code: self._tokenizer.token_to_id(f"<|{code}|>") for code in LANGUAGES}
        self._languages = (
            {}
            if ids["end"] == _END_OF_ENGLISH_ONLY
            else {code: number for code, number in known.items() if number is not None}
        )
        self.check_language(self.config.language)
        own = folder / "generation_config.json"
        self._suppressed = _numbers(files.read_json(own).get("suppress_tokens")) if own.is_file() else []

    def check_language(self, code: str) -> None:
        """Raises ``BadSettings`` if the loaded model does not transcribe a language."""
        known = list(self._languages) or ["en"]
        if code not in ("auto", *known):
            raise BadSettings(f"audit.language: {self.checkpoint.repo} does not know {code!r}; {nearest(code, known)}")

    def language_of(self, clips: Sequence[NDArray[np.float32]]) -> str:
        """The language to transcribe a corpus in: that of the settings, or the most likely one over some of the clips.

        Args:
            clips: (samples,) float32 each; up to 32 evenly spread ones of at least a second are used, or, without any,
                shorter ones.
        """
        if self.config.language != "auto":
            return self.config.language
        if not self._languages:
            return "en"
        heard = [clip for clip in clips if tells_language(clip)] or list(clips)
        chosen = [
            heard[index]
            for index in np.unique(np.linspace(0, len(heard) - 1, min(len(heard), CLIPS_FOR_LANGUAGE)).astype(int))
        ]
        total = np.zeros(len(self._languages))

        def take(_: NDArray[np.int64], shares_BK: "torch.Tensor") -> None:
            nonlocal total
            total = total + shares_BK.numpy().sum(axis=0)

        pieces = [clip[: self._at.window] for clip in chosen]
        in_batches(
            np.ones(len(pieces), np.int64),
            self._budget,
            self.device,
            lambda batch: self._prepare([pieces[at] for at in batch]),
            self._shares,
            take,
        )
        return list(self._languages)[int(total.argmax())]

    def _shares(self, inputs: Mapping[str, Any]) -> "torch.Tensor":
        """(B, languages) log probabilities."""
        import torch

        spectrograms = inputs["spectrograms"].to(self._model.dtype)
        start_B1 = torch.full((len(spectrograms), 1), self._ids["start"], device=spectrograms.device)
        logits_BV = self._model(input_features=spectrograms, decoder_input_ids=start_B1).logits[:, -1].float()
        return torch.log_softmax(logits_BV[:, list(self._languages.values())], dim=-1)

    def transcribe(self, clips: Sequence[NDArray[np.float32]], language: str) -> list[str]:
        """The text of each clip; empty if the model recognises nothing.

        Args:
            clips: (samples,) float32 each, 16 kHz mono.
            language: see :meth:`language_of`.
        """
        pieces = [
            (index, clip[one.own_start : one.own_stop])
            for index, clip in enumerate(clips)
            for one in cut(len(clip), self._at.window, 0, self._at.step)
        ]
        # Clips of similar length end at about the same number of tokens; a batch continues until its last one ends.
        order = sorted(range(len(pieces)), key=lambda at: -len(pieces[at][1]))
        texts = [""] * len(pieces)

        def prepare(batch: NDArray[np.int64]) -> Mapping[str, Any]:
            return self._prepare([pieces[order[at]][1] for at in batch])

        def compute(inputs: Mapping[str, Any]) -> "torch.Tensor":
            return self._generate(inputs, language)

        def take(batch: NDArray[np.int64], tokens_BL: "torch.Tensor") -> None:
            for at, tokens_L in zip(batch, tokens_BL.tolist(), strict=True):
                number = order[at]
                texts[number] = self._text(tokens_L, _most_tokens(len(pieces[number][1])))

        in_batches(np.ones(len(pieces), np.int64), self._budget, self.device, prepare, compute, take)
        found = [""] * len(clips)
        for (index, _), text in zip(pieces, texts, strict=True):
            found[index] = f"{found[index]} {text}".strip()
        return found

    def _prepare(self, sounds: Sequence[NDArray[np.float32]]) -> Mapping[str, Any]:
        padded = [np.pad(sound, (0, max(0, LEAST_SAMPLES - sound.size))) for sound in sounds]
        return {
            "spectrograms": np.stack([log_mel_of_whisper(self._extractor, sound, self._at) for sound in padded]),
            "longest": max(map(len, sounds)),
        }

    def _generate(self, inputs: Mapping[str, Any], language: str) -> "torch.Tensor":
        """(B, L) tokens after the prompt; the end token is repeated after the end of a text."""
        import torch
        from transformers import GenerationConfig
        from transformers.generation.utils import GenerationMixin

        spectrograms = inputs["spectrograms"].to(self._model.dtype)
        end, prompt = self._ids["end"], self._prompt(language)
        blank = self._tokenizer.encode(" ", add_special_tokens=False).ids
        settings = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=min(_most_tokens(inputs["longest"]), self._model.config.max_target_positions - len(prompt)),
            num_beams=1,
            do_sample=False,
            use_cache=True,
            eos_token_id=end,
            pad_token_id=end,
            decoder_start_token_id=self._ids["start"],
            # After the words, a Whisper's vocabulary has the tokens for times and languages.
            suppress_tokens=sorted({*self._suppressed, *range(end + 1, self._model.config.vocab_size)} - {end}),
            begin_suppress_tokens=[*blank[:1], end],
        )
        # Not Whisper's own `generate`, which requires keys of generation_config.json that converted models lack.
        made = GenerationMixin.generate(
            self._model,
            spectrograms,
            generation_config=settings,
            decoder_input_ids=torch.tensor([prompt] * len(spectrograms), device=spectrograms.device),
            attention_mask=torch.ones(
                len(spectrograms), spectrograms.shape[-1], dtype=torch.long, device=spectrograms.device
            ),
        )
        tokens: torch.Tensor = made[:, len(prompt) :]
        return tokens

    def _prompt(self, language: str) -> list[int]:
        if not self._languages:
            return [self._ids["start"], self._ids["untimed"]]
        return [self._ids["start"], self._languages[language], self._ids["transcribe"], self._ids["untimed"]]

    def _text(self, tokens: list[int], most: int) -> str:
        words = tokens[: tokens.index(self._ids["end"])] if self._ids["end"] in tokens else tokens
        return str(self._tokenizer.decode(words[:most], skip_special_tokens=True)).strip()


def tells_language(clip_S: NDArray[np.float32]) -> bool:
    """Whether a clip is long enough to detect its language."""
    return len(clip_S) >= _LEAST_SAMPLES_FOR_LANGUAGE


def _most_tokens(samples: int) -> int:
    return min(_MOST_TOKENS, _MORE_TOKENS + int(_TOKENS_PER_SECOND * samples / SAMPLE_RATE_HZ))


def _numbers(value: Any) -> list[int]:
    return [one for one in value if isinstance(one, int)] if isinstance(value, list) else []
