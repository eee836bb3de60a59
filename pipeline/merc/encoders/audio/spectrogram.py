"""Models that read a mel spectrogram of fixed length: the encoder of Whisper, and AST.

Whisper: Radford et al. 2023 (ICML). AST, a vision transformer on the spectrogram: Gong et al. 2021 (Interspeech).

    clip ─► windows ─► log mel, padded to 30 s (Whisper), 10.24 s (AST) ─► transformer layers
         ─► mean over the positions over real audio

Both have a table of positions and were trained on inputs of that one length, including the padding. So the length is
part of the model, a clip's vector cannot depend on the rest of its batch, and a clip of 3.1 s, MELD's mean, costs as
much as one of 30 s: ten times as much as its audio alone would (AST: three times). ``input_seconds`` gives Whisper a
shorter input: the first rows of its table, and a spectrogram of that length. The model has never seen such inputs, so
its vectors differ from those of the full length; a fine-tuning can get used to them.

Legend: B windows, T positions, P positions in time and frequency, D features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from merc.encoders.engine.base import Encoded, UtteranceInput
from merc.encoders.engine.batching import scatter
from merc.encoders.engine.forward import in_batches
from merc.encoders.engine.layers import LayersConfig, shares
from merc.encoders.engine.sound import why_absent
from merc.encoders.engine.trainable import TrainableEncoder, TrainingItems
from merc.encoders.engine.windows import combine, cut, join_sequences
from merc.errors import BadSettings
from merc.records.media import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import torch

# One window of the Fourier transform, in both families; with fewer samples, AST's spectrogram has no frames at all.
LEAST_SAMPLES = 400
LARGEST_HALF = float(np.finfo(np.float16).max)
_TABLE = "embed_positions.weight"  # Whisper's positions
_SPECIAL_TOKENS = 2  # AST: CLS and distillation, before the patches


@dataclass(frozen=True)
class Geometry:
    """How a model's positions are mapped to its input; in samples unless stated otherwise.

    Attributes:
        window: length of a full spectrogram.
        step: distance between positions.
        first_middle: from the start to the middle of the input of position 0.
        positions: number along the time axis.
        rows: number of positions per time, along the frequency axis.
        spectrogram_frames: columns of the spectrogram.
        layers: number of transformer layers.
        dim: length of a position's vector.
    """

    window: int
    step: int
    first_middle: int
    positions: int
    rows: int
    spectrogram_frames: int
    layers: int
    dim: int


@dataclass(frozen=True)
class Item:
    """A window of a clip.

    Attributes:
        clip: index of the utterance.
        sound: (samples,) float32.
        first, stop: which of its positions count, half-open.
    """

    clip: int
    sound: NDArray[np.float32]
    first: int
    stop: int


class Spectrogram(TrainableEncoder):
    """A Whisper encoder or AST.

    The spectrogram is that of the checkpoint's own preprocessor in transformers, computed separately for each window of
    a clip. The entries of a sequence are the positions in time: every 20 ms for Whisper; for AST, every 100 ms the mean
    over the patches of all frequencies.
    """

    class Config(LayersConfig):
        """Settings of a model that reads a spectrogram.

        ``layer`` and ``layer_weights`` count the last layer as the model's output, after its final norm; the others
        come without a norm.
        """

        ADDED_LATER: ClassVar[tuple[str, ...]] = ("input_seconds",)

        pooling: Literal["mean", "mean_std", "first", "cls_and_distillation"] = "mean"
        """Over the positions whose middle is in real audio: ``mean``, or ``mean_std``, the mean followed by the
        standard deviation, twice as long. For AST also ``first``, its CLS token, and ``cls_and_distillation``, the mean
        of its two tokens, which is what its own classifier reads; these have seen the padding, too.
        """
        input_seconds: float | None = Field(default=None, ge=1)
        """Length of the model's input in seconds, only for Whisper: a multiple of 0.02, from 1 to the checkpoint's own
        length, which None stands for. A tenth of the length is at most a tenth of the time, but the model was not
        trained on such inputs, so the vectors are others; a longer clip is cut into windows of this length, which
        must be at least twice ``overlap_seconds``.
        """
        overlap_seconds: float = Field(default=2.0, ge=0)
        """Minimum overlap of neighbouring windows in seconds, for a clip longer than the model's input; each window
        contributes half of it.
        """
        windows_per_batch: int | Literal["auto"] = "auto"
        """Windows in a batch; ``auto`` is 4 on a CPU and 128 on a GPU, or as many as fit; changes speed and memory,
        not the vectors."""

        @model_validator(mode="after")
        def _agree(self) -> Self:
            if self.windows_per_batch != "auto" and self.windows_per_batch < 1:
                raise ValueError(f"windows_per_batch is {self.windows_per_batch}; expected a number from 1, or auto")
            return self

    MODALITY = "audio"
    HAS_SEQUENCES = True
    BUDGET_KEY = "windows_per_batch"
    UNIT = "windows"
    AUTOMATIC: ClassVar[dict[str, int]] = {"cpu": 4, "cuda": 128}
    config: Config

    def check_configuration(self, configuration: dict[str, Any]) -> None:
        repo, config = self.config.repo, self.config
        model_type = configuration.get("model_type")
        if model_type not in GEOMETRIES:
            raise BadSettings(
                f"{repo}: a model of the type {model_type!r}; the family spectrogram takes {', '.join(GEOMETRIES)}, and"
                " waveform wav2vec2 and its like"
            )
        if model_type == "whisper" and config.pooling not in ("mean", "mean_std"):
            raise BadSettings(
                f"{repo}: pooling {config.pooling}, but Whisper's encoder has no token of that kind; valid: mean,"
                " mean_std"
            )
        geometry = self._geometry(configuration)
        if round(config.overlap_seconds * SAMPLE_RATE_HZ) > geometry.window // 2:
            raise BadSettings(
                f"{repo}: overlap_seconds {config.overlap_seconds} is more than half of its input of"
                f" {geometry.window / SAMPLE_RATE_HZ:.2f} s; valid: 0 to {geometry.window / 2 / SAMPLE_RATE_HZ:.2f}"
            )
        shares(config, geometry.layers)

    @cached_property
    def _at(self) -> Geometry:
        return self._geometry(self.checkpoint.configuration())

    def _geometry(self, configuration: Mapping[str, Any]) -> Geometry:
        """That of the checkpoint, or with the shorter input of the settings."""
        repo, seconds = self.config.repo, self.config.input_seconds
        whole = geometry_of(repo, configuration, self.checkpoint.preprocessor())
        if seconds is None:
            return whole
        if configuration["model_type"] != "whisper":
            raise BadSettings(
                f"{repo}: input_seconds {seconds}, but only Whisper's input can be shortened, and this model is of the"
                f" type {configuration['model_type']!r}; leave input_seconds out"
            )
        return shortened(repo, whole, seconds)

    def further_provenance(self) -> dict[str, Any]:
        config = self.config
        return {
            "layer": config.stated_layer,
            "pooling": config.pooling,
            "sample_rate_hz": SAMPLE_RATE_HZ,
            "window_seconds": self._at.window / SAMPLE_RATE_HZ,
            "overlap_seconds": config.overlap_seconds,
        }

    @property
    def sequence_dim(self) -> int:
        return self._at.dim

    def load(self, device: str) -> None:
        configuration = self.checkpoint.configuration()
        self.check_configuration(configuration)
        folder = self.checkpoint.fetch()
        self._whisper = configuration["model_type"] == "whisper"
        self._weights = shares(self.config, self._at.layers).tolist()
        if self._whisper:
            from transformers import WhisperFeatureExtractor
            from transformers.models.whisper.modeling_whisper import WhisperEncoder

            self._extractor: Any = WhisperFeatureExtractor.from_dict(self.checkpoint.preprocessor())
            # The names of the encoder's weights begin there, so that those of the decoder are never read.
            model = self.model_from(folder, WhisperEncoder, key_mapping={r"^(model\.)?encoder\.": ""})
            self._without_layers_above(model, "layer_norm")
            self._shorten_table(model)
        else:
            from transformers import ASTFeatureExtractor, ASTModel

            self._extractor = ASTFeatureExtractor.from_dict(self.checkpoint.preprocessor())
            model = self.model_from(folder, ASTModel)
            self._without_layers_above(model, "layernorm")
        self._model = self.placed(model, device)
        self.settle(2 * self._at.dim if self.config.pooling == "mean_std" else self._at.dim, device)

    def _without_layers_above(self, model: Any, final_norm: str) -> None:
        """Drops the layers above the highest needed one, and the final norm if the last layer is dropped."""
        from torch import nn

        highest = max(number for number, weight in enumerate(self._weights) if weight)
        if highest < self._at.layers:
            model.layers = model.layers[:highest]
            setattr(model, final_norm, nn.Identity())
        self._weights = self._weights[: highest + 1]

    def _shorten_table(self, model: Any) -> None:
        """Keeps the first rows of the table of positions; the others are needed again when the model is saved."""
        from torch import nn

        table, positions = model.embed_positions, self._at.positions
        self._further_positions = table.weight.detach()[positions:].clone()
        table.weight = nn.Parameter(table.weight.detach()[:positions].clone(), table.weight.requires_grad)
        table.num_embeddings = positions
        # Transformers compares the length of an input with this number.
        model.config.max_source_positions = model.max_source_positions = positions

    def trained_weights(self) -> dict[str, Any]:
        found = super().trained_weights()
        if self._whisper:
            import torch

            found[_TABLE] = torch.cat([found[_TABLE], self._further_positions])
        return found

    def check_trainable(self) -> None:
        if self.config.pooling == "mean_std":  # the gradient of a standard deviation is infinite at 0
            raise BadSettings(
                f"{self.config.repo}: an encoder with pooling mean_std cannot be adapted; valid: mean, and of AST first"
                " and cls_and_distillation"
            )

    def training_items(self, utterances: Sequence[UtteranceInput]) -> TrainingItems:
        items, _ = self._all_items(utterances)
        return TrainingItems(
            utterances=np.array([item.clip for item in items], dtype=np.int64),
            lengths=np.ones(len(items), dtype=np.int64),
            batch=lambda batch: self._prepare([items[at] for at in batch]),
            vectors=lambda inputs: self._compute(inputs)[0],
        )

    def encode(self, utterances: Sequence[UtteranceInput]) -> Encoded:
        items, remarks = self._all_items(utterances)
        means = np.zeros((len(items), self._at.dim), dtype=np.float32)
        variances = np.zeros_like(means)
        kept: list[NDArray[np.float16]] = [np.zeros((0, self._at.dim), dtype=np.float16)] * len(items)

        def take(
            indices: NDArray[np.int64], mean_BD: "torch.Tensor", variance_BD: "torch.Tensor", *frames: "torch.Tensor"
        ) -> None:
            means[indices], variances[indices] = mean_BD.numpy(), variance_BD.numpy()
            for frames_BTD in frames:
                for row, at in enumerate(indices):
                    kept[at] = frames_BTD[row, items[at].first : items[at].stop].numpy().copy()

        in_batches(
            np.ones(len(items), dtype=np.int64), self.budget, self.device,
            lambda batch: self._prepare([items[at] for at in batch]), self._compute, take
        )  # fmt: skip
        clips, numbers = np.unique(np.array([item.clip for item in items], dtype=np.int64), return_inverse=True)
        mean, variance = combine(means, variances, [item.stop - item.first for item in items], numbers.tolist())
        vectors = (
            np.concatenate([mean, np.sqrt(variance)], axis=1) if self.config.pooling == "mean_std" else mean
        ).astype(np.float32)
        finite = np.isfinite(vectors).all(axis=1)
        remarks += [
            (int(clip), "not_finite", f"the model's output in {self.config.dtype} is not finite")
            for clip in clips[~finite]
        ]
        encoded = scatter(vectors[finite], clips[finite].tolist(), len(utterances), remarks)
        if self.sequences:
            encoded.sequences = join_sequences([item.clip for item in items], kept, encoded.present, self._middles)
        return encoded

    def _all_items(self, utterances: Sequence[UtteranceInput]) -> tuple[list[Item], list[tuple[int, str, str]]]:
        """The windows of all clips, and remarks as in :class:`Encoded`."""
        remarks: list[tuple[int, str, str]] = []
        items: list[Item] = []
        for index, utterance in enumerate(utterances):
            waveform = np.zeros(0, dtype=np.float32) if utterance.waveform is None else utterance.waveform
            absent = why_absent(waveform)
            if absent is not None:
                remarks.append((index, *absent))
                continue
            if waveform.size < LEAST_SAMPLES:
                remarks.append(
                    (
                        index,
                        "padded",
                        (
                            f"from {waveform.size / SAMPLE_RATE_HZ:.4f} to {LEAST_SAMPLES / SAMPLE_RATE_HZ:.4f} s with"
                            " zeros"
                        ),
                    )
                )
            items += self._items(index, waveform)
        return items, remarks

    def _items(self, clip: int, waveform: NDArray[np.float32]) -> list[Item]:
        """The windows of a clip."""
        at = self._at
        # After the last position there may be audio too short for another one (AST's patches): the next window must
        # start before it.
        unseen = at.window - at.first_middle - at.positions * at.step
        overlap = max(round(self.config.overlap_seconds * SAMPLE_RATE_HZ), 2 * unseen)
        items = []
        for window in cut(waveform.size, at.window, overlap, at.step):
            first, stop = window.frames(at.first_middle, at.step, at.positions)
            # If a clip ends before the middle of position 0, that position counts nevertheless.
            items.append(Item(clip, waveform[window.start : window.stop], first, max(1, stop)))
        return items

    def _prepare(self, items: Sequence[Item]) -> Mapping[str, Any]:
        """Spectrograms, and which positions count, on the CPU."""
        make = self._log_mel_of_whisper if self._whisper else self._log_mel_of_ast
        spectrograms = [make(np.pad(item.sound, (0, max(0, LEAST_SAMPLES - item.sound.size)))) for item in items]
        numbers = np.arange(self._at.positions)
        first, stop = np.array([[item.first] for item in items]), np.array([[item.stop] for item in items])
        return {
            "spectrograms": np.stack(spectrograms),
            "counts": (numbers >= first) & (numbers < stop),
            "last": int(stop.max()),
        }

    def _log_mel_of_whisper(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        return log_mel_of_whisper(self._extractor, sound, self._at)

    def _log_mel_of_ast(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """(frames, mel) as computed by the checkpoint's preprocessor."""
        return np.asarray(self._extractor(sound, sampling_rate=SAMPLE_RATE_HZ)["input_values"][0], dtype=np.float32)

    def _compute(self, inputs: Mapping[str, Any]) -> "tuple[torch.Tensor, ...]":
        """Mean and variance (B, D) float32 and, if requested, the frames (B, T, D) float16, up to the last counted
        one.
        """
        import torch

        from merc.encoders.engine import pooling

        hidden_BPD = self._hidden(inputs["spectrograms"])
        frames_BTD, counts_BT = self._in_time(hidden_BPD)[:, : inputs["last"]], inputs["counts"][:, : inputs["last"]]
        if self.config.pooling == "first":
            mean_BD = hidden_BPD[:, 0].float()
        elif self.config.pooling == "cls_and_distillation":
            mean_BD = hidden_BPD[:, :_SPECIAL_TOKENS].float().mean(dim=1)
        else:
            mean_BD = pooling.masked_mean(frames_BTD, counts_BT)
        variance_BD = (
            pooling.masked_variance(frames_BTD, counts_BT, mean_BD)
            if self.config.pooling == "mean_std"
            else torch.zeros_like(mean_BD)
        )
        return (
            (mean_BD, variance_BD, frames_BTD.clamp(-LARGEST_HALF, LARGEST_HALF).half())
            if self.sequences
            else (mean_BD, variance_BD)
        )

    def _hidden(self, spectrograms: "torch.Tensor") -> "torch.Tensor":
        """(B, P, D) of the chosen layers, special tokens first."""
        from merc.encoders.engine import pooling

        given = spectrograms.to(self._model.dtype)
        if not any(self._weights[:-1]):
            last: torch.Tensor = self._model(given).last_hidden_state
            return last
        output = self._model(given, output_hidden_states=True)
        return pooling.weighted_layers([*output.hidden_states[:-1], output.last_hidden_state], self._weights)

    def _in_time(self, hidden_BPD: "torch.Tensor") -> "torch.Tensor":
        """(B, T, D): for AST, the mean over the frequencies; its patches are ordered row by row, each row one
        frequency.
        """
        if self._whisper:
            return hidden_BPD
        batch, _, dim = hidden_BPD.shape
        return (
            hidden_BPD[:, _SPECIAL_TOKENS:].float().reshape(batch, self._at.rows, self._at.positions, dim).mean(dim=1)
        )

    def _middles(self, frames: int) -> NDArray[np.float32]:
        """(frames,) seconds from the clip's start."""
        return ((np.arange(frames) * self._at.step + self._at.first_middle) / SAMPLE_RATE_HZ).astype(np.float32)


def geometry_of(repo: str, configuration: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> Geometry:
    """The geometry of the positions of a checkpoint of one of :data:`GEOMETRIES`.

    Args:
        repo: for messages.
        configuration: content of its ``config.json``.
        preprocessor: see :meth:`Checkpoint.preprocessor`.

    Raises:
        BadSettings: if its spectrograms cannot be made from 16 kHz audio, or not reproducibly.
    """
    if not preprocessor:
        raise BadSettings(f"{repo}: has no preprocessor_config.json, so it is unknown how its spectrograms are made")
    if (rate := preprocessor.get("sampling_rate")) != SAMPLE_RATE_HZ:
        raise BadSettings(f"{repo}: takes audio with {rate} samples per second; the pipeline's has {SAMPLE_RATE_HZ}")
    if preprocessor.get("dither"):
        raise BadSettings(
            f"{repo}: its preprocessor adds noise (dither: {preprocessor['dither']}), so no two runs would give the"
            " same numbers"
        )
    return GEOMETRIES[configuration["model_type"]](repo, configuration, preprocessor)


def shortened(repo: str, at: Geometry, seconds: float) -> Geometry:
    """The geometry with an input of another length.

    Args:
        repo: for messages.
        at: that of a Whisper checkpoint, whose positions fill the input without a gap.
        seconds: length of the input.

    Raises:
        BadSettings: if it is longer than the checkpoint's, or not a multiple of the distance between positions.

    >>> at = shortened("", _whisper("", {}, {}), 6.0)
    >>> at.window, at.positions, at.spectrogram_frames
    (96000, 300, 600)
    """
    window = round(seconds * SAMPLE_RATE_HZ)
    step, longest = at.step / SAMPLE_RATE_HZ, at.window / SAMPLE_RATE_HZ
    # A decimal fraction such as 1.02 is not exact in binary; a thousandth of a sample is far above that error.
    if window > at.window or window % at.step or abs(seconds * SAMPLE_RATE_HZ - window) > 1e-3:
        raise BadSettings(
            f"{repo}: input_seconds {seconds}; valid: multiples of {step:g} s, the distance between positions, up to"
            f" the {longest:g} s of the checkpoint"
        )
    positions = window // at.step
    frames = at.spectrogram_frames // at.positions * positions
    return replace(at, window=window, positions=positions, spectrogram_frames=frames)


def log_mel_of_whisper(extractor: Any, sound: NDArray[np.float32], at: Geometry) -> NDArray[np.float32]:
    """(mel, frames) as computed by the checkpoint's preprocessor.

    The audio is followed by only as much silence as a column sees; the last column then sees only silence, as all
    further ones would. For a clip of 3 s that takes a tenth of the time, with the same result except for the rounding
    of a matrix product.

    Args:
        extractor: a ``WhisperFeatureExtractor`` of transformers.
        sound: (samples,) at least :data:`LEAST_SAMPLES` and no more than a window.
        at: the model's geometry.
    """
    hop = extractor.hop_length
    enough = min(-(-(sound.size + extractor.n_fft + hop) // hop) * hop, at.window)
    made = extractor(sound, sampling_rate=SAMPLE_RATE_HZ, padding="max_length", max_length=enough)["input_features"][0]
    return np.pad(np.asarray(made, dtype=np.float32), ((0, 0), (0, at.spectrogram_frames - made.shape[1])), mode="edge")


def _whisper(repo: str, configuration: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> Geometry:
    """A position for every two columns, which are centred at multiples of the hop. Values missing from a file have
    transformers' defaults.
    """
    bands, hop = int(configuration.get("num_mel_bins", 80)), int(preprocessor.get("hop_length", 160))
    window = int(preprocessor.get("chunk_length", 30)) * SAMPLE_RATE_HZ
    positions = int(configuration.get("max_source_positions", 1500))
    _agree(repo, "mel bands", "num_mel_bins", bands, "feature_size", int(preprocessor.get("feature_size", 80)))
    _agree(
        repo,
        "columns of the spectrogram",
        "twice max_source_positions",
        2 * positions,
        "chunk_length over hop_length",
        window // hop,
    )
    return Geometry(
        window,
        2 * hop,
        0,
        positions,
        1,
        2 * positions,
        int(configuration.get("encoder_layers", 4)),
        int(configuration.get("d_model", 384)),
    )


def _ast(repo: str, configuration: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> Geometry:
    """Patches of this many columns of 25 ms, 10 ms apart (Kaldi's defaults). Values missing from a file have
    transformers' defaults.
    """
    bands, columns = int(configuration.get("num_mel_bins", 128)), int(configuration.get("max_length", 1024))
    side, hop, field = int(configuration.get("patch_size", 16)), SAMPLE_RATE_HZ // 100, SAMPLE_RATE_HZ // 40
    time_stride, frequency_stride = (
        int(configuration.get("time_stride", 10)),
        int(configuration.get("frequency_stride", 10)),
    )
    _agree(repo, "mel bands", "num_mel_bins", bands, "num_mel_bins", int(preprocessor.get("num_mel_bins", 128)))
    _agree(
        repo,
        "columns of the spectrogram",
        "max_length",
        columns,
        "max_length",
        int(preprocessor.get("max_length", 1024)),
    )
    return Geometry(
        window=hop * (columns - 1) + field,
        step=hop * time_stride,
        first_middle=(hop * (side - 1) + field) // 2,
        positions=(columns - side) // time_stride + 1,
        rows=(bands - side) // frequency_stride + 1,
        spectrogram_frames=columns,
        layers=int(configuration.get("num_hidden_layers", 12)),
        dim=int(configuration.get("hidden_size", 768)),
    )


def _agree(repo: str, what: str, model_key: str, of_model: int, preprocessor_key: str, of_preprocessor: int) -> None:
    if of_model != of_preprocessor:
        raise BadSettings(
            f"{repo}: config.json and preprocessor_config.json disagree on the {what}: {model_key} is {of_model},"
            f" {preprocessor_key} {of_preprocessor}; take both from one checkpoint"
        )


GEOMETRIES: dict[str, Callable[[str, Mapping[str, Any], Mapping[str, Any]], Geometry]] = {
    "whisper": _whisper,
    "audio-spectrogram-transformer": _ast,
}
