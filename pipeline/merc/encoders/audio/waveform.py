"""Models that read the waveform itself, frozen: wav2vec 2.0, HuBERT, WavLM, data2vec-audio.

    waveform ─► normalised, cut into windows ─► convolutions: a frame per 20 ms ─► positional convolution ─► transformer layers ─► mean over frames

A clip's vector does not depend on padding. A mask over the frames suffices for the transformer layers; three kinds of
module before them look beyond the end of a clip, and get the batch's real lengths here:

- the group norm of the first convolution (``feat_extract_norm: group``: wav2vec2-base, HuBERT-base, WavLM-base and
  related models) takes mean and variance over the whole row. With only the mask, mean-pooled vectors of such models
  have a cosine of about 0.94;
- data2vec's positional convolutions are stacked, so zeros after the clip's end become other numbers after the first;
- so does the batch norm before the positional convolution of a few HuBERTs (``conv_pos_batch_norm``).

Legend: B windows, N samples, T frames (both padded), C channels of the convolutions, D features.
"""  # noqa: E501

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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

MODEL_TYPES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")
VARIANCE_FLOOR = 1e-7  # of transformers' Wav2Vec2FeatureExtractor
LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Item:
    """A window of a clip, as given to the model.

    Attributes:
        clip: index of the utterance.
        begin, end: samples of the clip, half-open; ``end`` may be after the last one, where zeros are added.
        own_begin, own_end: frames of the window that count, half-open.
    """

    clip: int
    begin: int
    end: int
    own_begin: int
    own_end: int


class Waveform(TrainableEncoder):
    """A frozen wav2vec 2.0, HuBERT, WavLM or data2vec-audio.

    If the checkpoint's preprocessor has ``do_normalize``, a clip is normalised to zero mean and unit variance as a
    whole, before it is padded or cut into windows. The group norm of models that have one sees one window at a time.
    """

    class Config(LayersConfig):
        """Settings of a model that reads the waveform.

        Layer 0 is the input of the first transformer layer; the last one is the model's output, after the final layer
        norm of the models that have one (``last_hidden_state``; in transformers 5, the last of ``hidden_states`` is the
        input of that norm).
        """

        pooling: Literal["mean", "mean_std"] = "mean"
        """Over the clip's frames of 20 ms: ``mean``, or ``mean_std``, the mean followed by the standard deviation,
        twice as long.
        """
        window_seconds: float = Field(default=30.0, gt=0)
        """Seconds; longer clips are cut into overlapping windows of this length, evenly spread, so that no part of a
        clip is left out.
        """
        overlap_seconds: float = Field(default=2.0, ge=0)
        """Minimum overlap of neighbouring windows in seconds; its first half is taken from the left window, its second
        from the right one.
        """
        minimum_seconds: float = Field(default=0.1, ge=0)
        """Seconds; shorter clips are padded with zeros to this length, or to what the convolutions need if that is
        more, and recorded."""
        samples_per_batch: int | Literal["auto"] = "auto"
        """Samples in a batch, padding included; ``auto`` is 30 s of audio on a CPU and 20 minutes on a GPU, or as many
        as fit; changes speed and memory, not the vectors.
        """

        @model_validator(mode="after")
        def _agree(self) -> Self:
            if self.overlap_seconds > self.window_seconds / 2:
                raise ValueError(
                    f"overlap_seconds {self.overlap_seconds} is more than half of window_seconds {self.window_seconds}"
                )
            if self.minimum_seconds > self.window_seconds:
                raise ValueError(
                    f"minimum_seconds {self.minimum_seconds} is more than window_seconds {self.window_seconds}"
                )
            if self.samples_per_batch != "auto" and self.samples_per_batch < 1:
                raise ValueError(f"samples_per_batch is {self.samples_per_batch}; expected a number from 1, or auto")
            return self

    MODALITY = "audio"
    HAS_SEQUENCES = True
    BUDGET_KEY = "samples_per_batch"
    UNIT = "samples"
    # 1,200 s through 512 channels at a fifth of the sampling rate are 2.0e9 numbers, just within the 2^31 that cuDNN's
    # kernels can count.
    AUTOMATIC: ClassVar[dict[str, int]] = {"cpu": 30 * SAMPLE_RATE_HZ, "cuda": 1200 * SAMPLE_RATE_HZ}
    config: Config

    def check_configuration(self, configuration: dict[str, Any]) -> None:
        repo, config = self.config.repo, self.config
        model_type = configuration.get("model_type")
        if model_type not in MODEL_TYPES:
            raise BadSettings(
                f"{repo}: a model of the type {model_type!r}; the family waveform takes {', '.join(MODEL_TYPES)}, and"
                " spectrogram Whisper and AST"
            )
        if configuration.get("add_adapter"):
            raise BadSettings(
                f"{repo}: has convolutions behind its last layer (add_adapter), which this family does not support;"
                " choose a checkpoint without them"
            )
        if model_type == "wavlm" and config.attention != "eager":
            raise BadSettings(f"{repo}: transformers has no attention: {config.attention} for WavLM; valid: eager")
        if "num_hidden_layers" in configuration:
            shares(config, int(configuration["num_hidden_layers"]))
        preprocessor = self.checkpoint.preprocessor()
        if not preprocessor:
            raise BadSettings(
                f"{repo}: has no preprocessor_config.json, so its sampling rate and normalisation are unknown"
            )
        if (rate := preprocessor.get("sampling_rate")) != SAMPLE_RATE_HZ:
            raise BadSettings(
                f"{repo}: takes audio with {rate} samples per second; the pipeline's has {SAMPLE_RATE_HZ}"
            )

    def further_provenance(self) -> dict[str, Any]:
        config = self.config
        return {
            "layer": config.stated_layer,
            "pooling": config.pooling,
            "sample_rate_hz": SAMPLE_RATE_HZ,
            "normalised": self._normalised(),
            "window_seconds": config.window_seconds,
            "overlap_seconds": config.overlap_seconds,
            "minimum_seconds": config.minimum_seconds,
        }

    def _normalised(self) -> bool:
        return bool(self.checkpoint.preprocessor().get("do_normalize", True))  # default of Wav2Vec2FeatureExtractor

    def load(self, device: str) -> None:
        from transformers import AutoModel

        self.check_configuration(self.checkpoint.configuration())
        model = self.model_from(self.checkpoint.fetch(), AutoModel)
        settings = model.config
        self._convolutions = list(zip(settings.conv_kernel, settings.conv_stride, strict=True))
        self._hop = int(np.prod(settings.conv_stride))
        self._field = _receptive_field(self._convolutions)
        self._longest, self._overlap = (
            round(seconds * SAMPLE_RATE_HZ) for seconds in (self.config.window_seconds, self.config.overlap_seconds)
        )
        # Otherwise a frame across the border of two windows would be in neither.
        if self._overlap < self._field or self._longest < self._overlap + self._hop:
            raise BadSettings(
                f"{self.config.repo}: window_seconds {self.config.window_seconds}, overlap_seconds"
                f" {self.config.overlap_seconds}; a frame is made of {self._field / SAMPLE_RATE_HZ} s, so the overlap"
                f" must be at least that, and the window at least {self._hop / SAMPLE_RATE_HZ} s more"
            )
        self._least = max(self._field, round(self.config.minimum_seconds * SAMPLE_RATE_HZ))
        self._normalise = self._normalised()
        self._edges = Edges()
        self._mixture = Mixture(model, shares(self.config, int(settings.num_hidden_layers)))
        respect_edges(model, self._edges)
        gelu_in_place(model)
        self._model = self.placed(model, device)
        self._width = int(settings.hidden_size)
        self.settle(self._width if self.config.pooling == "mean" else 2 * self._width, device)

    @property
    def sequence_dim(self) -> int:
        return self._width

    def _frames(self, samples: int) -> int:
        """The number of frames that the convolutions make of this many samples."""
        return frames_after(samples, self._convolutions)

    def encode(self, utterances: Sequence[UtteranceInput]) -> Encoded:
        items, sounds, remarks = self._all_items(utterances)
        pooled = np.zeros((len(items), self.dim), dtype=np.float32)
        kept: list[NDArray[np.float16]] = [np.zeros((0, 0), dtype=np.float16)] * len(items)

        def take(indices: NDArray[np.int64], vectors: "torch.Tensor", *frames: "torch.Tensor") -> None:
            pooled[indices] = vectors.numpy()
            for sequences in frames:
                for row, at in enumerate(indices):
                    kept[at] = sequences[row, items[at].own_begin : items[at].own_end].numpy().copy()

        in_batches(
            [item.end - item.begin for item in items], self.budget, self.device,
            lambda batch: self._prepare([items[at] for at in batch], sounds),
            self._compute, take,
        )  # fmt: skip
        clips, vectors = self._joined(items, pooled)
        finite = np.isfinite(vectors).all(axis=1)
        remarks += [
            (int(clip), "not_finite", f"the model's output in {self.config.dtype} is not finite")
            for clip in clips[~finite]
        ]
        encoded = scatter(vectors[finite], clips[finite].tolist(), len(utterances), remarks)
        if self.sequences:
            encoded.sequences = join_sequences([item.clip for item in items], kept, encoded.present, self._middles)
        return encoded

    def frozen_part(self) -> Any:
        return self._model.feature_extractor

    def check_trainable(self) -> None:
        if (
            self.config.pooling != "mean"
        ):  # the gradient of a standard deviation is infinite at 0, as in a clip of one frame
            raise BadSettings(
                f"{self.config.repo}: an encoder with pooling {self.config.pooling} cannot be adapted; valid: mean"
            )

    def training_items(self, utterances: Sequence[UtteranceInput]) -> TrainingItems:
        items, sounds, _ = self._all_items(utterances)
        return TrainingItems(
            utterances=np.array([item.clip for item in items], dtype=np.int64),
            lengths=np.array([item.end - item.begin for item in items], dtype=np.int64),
            batch=lambda batch: self._prepare([items[at] for at in batch], sounds),
            vectors=lambda inputs: self._compute(inputs)[0],
        )

    def _all_items(
        self, utterances: Sequence[UtteranceInput]
    ) -> tuple[list[Item], dict[int, NDArray[np.float32]], list[tuple[int, str, str]]]:
        """The windows of all clips, the audio of each clip by its index, and remarks as in :class:`Encoded`."""
        remarks: list[tuple[int, str, str]] = []
        items: list[Item] = []
        sounds: dict[int, NDArray[np.float32]] = {}
        for index, utterance in enumerate(utterances):
            if (absent := why_absent(utterance.waveform)) is not None:
                remarks.append((index, *absent))
                continue
            sounds[index] = np.asarray(utterance.waveform, dtype=np.float32)
            samples = max(sounds[index].size, self._least)
            if sounds[index].size < samples:
                remarks.append(
                    (
                        index,
                        "padded",
                        (
                            f"from {sounds[index].size / SAMPLE_RATE_HZ:.4f} to {samples / SAMPLE_RATE_HZ:.4f} s with"
                            " zeros"
                        ),
                    )
                )
            items += self._items(index, samples)
        return items, sounds, remarks

    def _items(self, clip: int, samples: int) -> list[Item]:
        """The windows of a clip of this many samples."""
        windows = cut(samples, self._longest, self._overlap, self._hop)
        # Frames of the last window that end after it also count by their middles, hence the limit.
        owns = [
            window.frames(self._field // 2, self._hop, self._frames(window.stop - window.start)) for window in windows
        ]
        return [Item(clip, window.start, window.stop, *own) for window, own in zip(windows, owns, strict=True)]

    def _prepare(self, items: Sequence[Item], sounds: Mapping[int, NDArray[np.float32]]) -> Mapping[str, Any]:
        """Padded waveforms and masks of their real parts, on the CPU.

        Args:
            items: windows of the batch.
            sounds: audio (samples,) of each clip, by its index.

        Returns:
            ``waveforms`` (B, N) float32; ``real_frames`` (B, T) bool, or None if there is no padding; ``own_frames``
            (B, T) bool, those to be pooled; ``first_frames`` (B,) float32, real frames of the first convolution, and
            ``first_shortest``, their minimum.
        """
        lengths = [item.end - item.begin for item in items]
        frames = np.array([self._frames(length) for length in lengths])
        own = np.array([(item.own_begin, item.own_end) for item in items])
        numbers = np.arange(frames.max())
        first = np.array([frames_after(length, self._convolutions[:1]) for length in lengths])
        waveforms_BN = np.zeros((len(items), max(lengths)), dtype=np.float32)
        for row_N, item in zip(waveforms_BN, items, strict=True):
            piece = sounds[item.clip][item.begin : item.end]
            if self._normalise:
                mean, deviation = _moments(sounds[item.clip])
                np.subtract(piece, mean, out=row_N[: piece.size])
                row_N[: piece.size] /= deviation
            else:
                row_N[: piece.size] = piece
        return {
            "waveforms": waveforms_BN,
            "real_frames": None if frames.min() == frames.max() else numbers < frames[:, None],
            "own_frames": (numbers >= own[:, :1]) & (numbers < own[:, 1:]),
            "first_frames": first.astype(np.float32),
            "first_shortest": int(first.min()),
        }

    def _compute(self, inputs: Mapping[str, Any]) -> "tuple[torch.Tensor, ...]":
        """Pooled vectors (B, dim) float32 and, if requested, the frames (B, T, D) float16."""
        from merc.encoders.engine import pooling

        hidden_BTD = self._hidden(inputs)
        own_BT = inputs["own_frames"]
        pooled_BD = pooling.masked_mean(hidden_BTD, own_BT)
        if self.config.pooling == "mean_std":
            import torch

            squares_BD = pooling.masked_mean((hidden_BTD.float() - pooled_BD[:, None]).square_(), own_BT)
            pooled_BD = torch.cat([pooled_BD, squares_BD.sqrt()], dim=1)
        return (pooled_BD, hidden_BTD.clamp(-LARGEST_HALF, LARGEST_HALF).half()) if self.sequences else (pooled_BD,)

    def _hidden(self, inputs: Mapping[str, Any]) -> "torch.Tensor":
        """(B, T, D) of the chosen layers; values in padded frames are meaningless.

        Runs the three parts of the model one by one: its own ``forward`` needs a mask over samples, 8 bytes each, to
        compute the one over frames. The convolutions get no gradient, even in training: they stay frozen.
        """
        import torch

        model = self._model
        self._edges.set(inputs["real_frames"], inputs["first_frames"], inputs["first_shortest"])
        self._mixture.begin()
        with torch.no_grad():
            features_BCT = model.feature_extractor(inputs["waveforms"].to(model.dtype))
        projected = model.feature_projection(features_BCT.transpose(1, 2))
        del features_BCT
        projected_BTD = projected[0] if isinstance(projected, tuple) else projected
        with warnings.catch_warnings():
            # WavLM passes torch a bool key mask together with its float position bias, as intended by both.
            warnings.filterwarnings(
                "ignore", message="Support for mismatched key_padding_mask and attn_mask is deprecated"
            )
            last_BTD = model.encoder(projected_BTD, attention_mask=inputs["real_frames"]).last_hidden_state
        return self._mixture.of(last_BTD)

    def _joined(
        self, items: Sequence[Item], pooled: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Combines windows to clips: every frame of a clip has the same weight.

        Returns:
            (clips,) index of each clip among the utterances, and (clips, dim) their vectors.
        """
        clips, positions = np.unique(np.array([item.clip for item in items], dtype=np.int64), return_inverse=True)
        if len(items) == len(clips):
            return clips, pooled
        counts = [item.own_end - item.own_begin for item in items]
        if self.config.pooling == "mean":
            means, _ = combine(pooled, np.zeros_like(pooled), counts, positions.tolist())
            return clips, means.astype(np.float32)
        each, deviations = np.split(pooled, 2, axis=1)
        means, variances = combine(each, deviations**2, counts, positions.tolist())
        return clips, np.concatenate([means, np.sqrt(variances)], axis=1).astype(np.float32)

    def _middles(self, frames: int) -> NDArray[np.float32]:
        """(frames,) seconds from the clip's start."""
        return ((np.arange(frames) * self._hop + self._field / 2) / SAMPLE_RATE_HZ).astype(np.float32)


class Edges:
    """Where the clips of the current batch end, for the modules that look across."""

    def set(self, real_frames: "torch.Tensor | None", first_frames: "torch.Tensor", first_shortest: int) -> None:
        """The results of :meth:`Waveform._prepare`, on the device."""
        self.padded_B1T = None if real_frames is None else ~real_frames[:, None]
        self.first_frames = first_frames
        self.first_shortest = first_shortest

    def clear_padding(self, hidden_BCT: "torch.Tensor") -> "torch.Tensor":
        """Sets the padded frames to zero, in place."""
        return hidden_BCT if self.padded_B1T is None else hidden_BCT.masked_fill_(self.padded_B1T, 0.0)

    def group_norm(self, norm: Any, hidden_BCT: "torch.Tensor") -> "torch.Tensor":
        """Group norm with one channel per group over the real frames, in place (avoiding a copy makes it faster than
        torch's own on a CPU).

        Args:
            norm: module with weight, bias and epsilon.
            hidden_BCT: output of the first convolution.
        """
        import torch

        counts_B1 = self.first_frames[:, None]
        behind_BCT = hidden_BCT[:, :, self.first_shortest :]
        numbers = torch.arange(self.first_shortest, hidden_BCT.shape[2], device=hidden_BCT.device)
        padded_B1T = (numbers >= counts_B1)[:, None]
        behind_BCT.masked_fill_(padded_B1T, 0.0)
        hidden_BCT.sub_((hidden_BCT.sum(dim=2, dtype=torch.float32) / counts_B1)[:, :, None])
        behind_BCT.masked_fill_(padded_B1T, 0.0)
        variance_BC = torch.linalg.vector_norm(hidden_BCT, dim=2, dtype=torch.float32).square() / counts_B1
        scale_BC = norm.weight.float() * torch.rsqrt(variance_BC + norm.eps)
        return hidden_BCT.mul_(scale_BC[:, :, None]).add_(norm.bias[:, None])


def respect_edges(model: Any, edges: Edges) -> None:
    """Makes the modules that look beyond a clip's end respect ``edges``."""
    from torch import nn

    for convolution in model.feature_extractor.conv_layers:
        norm = getattr(convolution, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            if norm.num_groups != norm.num_channels:
                raise BadSettings(
                    f"a group norm of {norm.num_groups} groups over {norm.num_channels} channels; only one channel per"
                    " group is known here"
                )
            norm.forward = partial(edges.group_norm, norm)  # type: ignore[method-assign]
    positions = model.encoder.pos_conv_embed
    for layer in list(getattr(positions, "layers", []))[1:]:  # the encoder gives the first one zeros
        layer.register_forward_pre_hook(lambda _, inputs: (edges.clear_padding(inputs[0]), *inputs[1:]))
    if getattr(positions, "batch_norm", None) is not None:
        positions.batch_norm.register_forward_hook(lambda _, __, output: edges.clear_padding(output))


def gelu_in_place(model: Any) -> None:
    """Avoids the copies of all GELUs: each is the only reader of its input, and on a CPU new memory costs more than the
    function.

    If gradients are needed, a GELU needs its input later, and does not modify it.
    """
    import torch
    from transformers.activations import GELUActivation

    def gelu(hidden: "torch.Tensor") -> "torch.Tensor":
        found: torch.Tensor = (
            torch.nn.functional.gelu(hidden) if torch.is_grad_enabled() else torch.ops.aten.gelu_(hidden)
        )
        return found

    replacement: Any = gelu
    for module in model.modules():
        if type(module) is GELUActivation and module.act is torch.nn.functional.gelu:
            module.forward = replacement  # type: ignore[method-assign]


class Mixture:
    """The chosen layers of a model, and no layer above them.

    Args:
        model: its layers above the highest with a nonzero share are dropped.
        shares: (layers + 1,) share of each layer, with sum one.
    """

    def __init__(self, model: Any, shares: NDArray[np.float64]) -> None:
        from torch import nn

        highest = int(np.flatnonzero(shares)[-1])
        encoder = model.encoder
        if highest < len(encoder.layers):
            encoder.layers = encoder.layers[:highest]
            if model.config.model_type != "data2vec-audio" and model.config.do_stable_layer_norm:
                encoder.layer_norm = nn.Identity()  # it belongs only to the model's output
        self._share = float(shares[highest])
        self._below: torch.Tensor | None = None
        for layer, share in zip(encoder.layers, shares, strict=False):
            if share:
                layer.register_forward_pre_hook(lambda _, inputs, share=float(share): self._add(inputs[0], share))

    def begin(self) -> None:
        """Must be called before the model runs: the previous run may have ended halfway, out of memory."""
        self._below = None

    def _add(self, hidden_BTD: "torch.Tensor", share: float) -> None:
        part_BTD = hidden_BTD.float() * share
        self._below = part_BTD if self._below is None else self._below.add_(part_BTD)

    def of(self, last_BTD: "torch.Tensor") -> "torch.Tensor":
        """The weighted mean, once the model has run.

        Args:
            last_BTD: its output.
        """
        below, self._below = self._below, None
        return last_BTD if below is None else below.add_(last_BTD.float() * self._share)


def frames_after(samples: int, convolutions: Sequence[tuple[int, int]]) -> int:
    """The number of frames that convolutions (kernel, stride) without padding make of this many samples."""
    for kernel, stride in convolutions:
        samples = (samples - kernel) // stride + 1
    return samples


def _receptive_field(convolutions: Sequence[tuple[int, int]]) -> int:
    """Number of samples that one frame depends on: the minimum for one frame."""
    field = 1
    for kernel, stride in reversed(convolutions):
        field = (field - 1) * stride + kernel
    return field


def _moments(clip: NDArray[np.float32]) -> tuple[np.float32, np.float32]:
    """Mean and standard deviation of a clip as computed by Wav2Vec2FeatureExtractor, without loss of precision at any
    length.
    """
    wide = clip.astype(np.float64)
    mean = wide.mean()
    wide -= mean
    return np.float32(mean), np.float32(np.sqrt(np.dot(wide, wide) / wide.size + VARIANCE_FLOOR))
