"""Light-ASD, a network that determines in which frames a face speaks what is heard; inference only.

Paper: Liao, Duan, Feng, Zhao, Yang, Chen 2023, "A Light Weight Model for Active Speaker Detection" (CVPR;
arXiv:2303.04439).
Authors' code and weights: https://github.com/Junhua-Liao/Light-ASD (MIT).

Faces and audio are encoded separately, by three blocks each. A block has two branches, with filters of 3 and of 5; in a
branch, a filter within the frame (or over the cepstral coefficients) is followed by one over time. The branches are
added and mixed by a filter of 1. Both encodings are added and passed through two recurrent layers, the second of which
runs backwards, and a linear layer.

Two things make it fast on a CPU, neither of which changes what is computed (measured with one thread of a Xeon with
AVX-512, per face and frame: 3D convolutions over whole runs 7 to 11 ms, as written here 3.5 to 4 ms):

- Each 3D filter of the paper works either within frames or over time, so it is a 2D filter: without a copy, a sequence
  of frames with the channels last in memory is one wide image whose height is time.
- Frames go through all blocks a few at a time, so that intermediate values stay in the processor's cache. A block keeps
  what the filters over time need of the previous frames; nothing is computed twice, and memory does not grow with the
  length of a run.

In bfloat16 (:meth:`Network.faces_in`), the filters over faces take less than half of that if the processor has bfloat16
multiplication.

Dimensions: T frames, H x W pixels, C channels, F frames of audio (four per frame), K cepstral coefficients, B
windows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, max_pool2d, relu_
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

WIDTHS = (32, 64, 128)
"""Channels of the three blocks, as published."""
SOUND_FRAMES = 4
"""Audio frames per video frame."""
SPEAKS = 1
"""Which of the classifier's two outputs the authors use as the score, before any softmax."""
_SIZES = (3, 5)
_REACH = 2
"""Number of video frames that a block's temporal filters see on either side."""
_NORM_EPSILON = 1e-3
_GREY_MEAN, _GREY_DEVIATION = 0.4161, 0.1688
_CHUNK_PICTURES = {"cpu": 32, "cuda": 512}
"""Number of video frames that go through the blocks at a time. On a CPU 16 to 32 are fastest: 3.95 ms per frame in
float32, 1.21 and 1.12 in bfloat16.
"""
_FILTERS = {"visual": ("s_3", "t_3", "s_5", "t_5", "last"), "audio": ("m_3", "t_3", "m_5", "t_5", "last")}


class Network(nn.Module):
    """The network with its batch norms folded into the filters before them.

    Args:
        widths: channels of the three blocks.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        inputs = (1, *widths)
        self.faces = nn.ModuleList(FaceBlock(inputs[n], width, stride=1 if n else 2) for n, width in enumerate(widths))
        self.sound = nn.ModuleList(SoundBlock(inputs[n], width) for n, width in enumerate(widths))
        self.there = nn.GRU(widths[-1], widths[-1], batch_first=True)
        self.back = nn.GRU(widths[-1], widths[-1], batch_first=True)
        self.classifier = nn.Linear(widths[-1], 2)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], widths: Sequence[int] = WIDTHS) -> "Network":
        """The network with the authors' ``tensors``, which are those of :func:`shapes`, in their own precision; ready
        for inference.
        """
        network = cls(widths).to(tensors["lossAV.FC.weight"].dtype)
        with torch.no_grad():
            for kind, blocks in (("visual", network.faces), ("audio", network.sound)):
                for number, block in enumerate(blocks, start=1):
                    for name in _FILTERS[kind]:
                        weight, bias = block.get_parameter(f"{name}.weight"), block.get_parameter(f"{name}.bias")
                        folded, shift = _folded(tensors, f"model.{kind}Encoder.block{number}", name)
                        weight.data = folded.reshape(weight.shape).contiguous(memory_format=torch.channels_last)
                        bias.copy_(shift)
        network.there.load_state_dict(_under("model.GRU.gru_forward.", tensors))
        network.back.load_state_dict(_under("model.GRU.gru_backward.", tensors))
        network.classifier.load_state_dict(_under("lossAV.FC.", tensors))
        return network.eval().requires_grad_(False)

    def faces_in(self, dtype: torch.dtype) -> "Network":
        """The same network, modified in place to filter faces in this precision; everything else is unchanged."""
        self.faces.to(dtype)
        return self

    def encode_faces(self, faces_THW: Tensor) -> Tensor:
        """Encodings (T, C) of one run of grey faces (T, H, W) uint8, T at least 1."""
        chunks: Iterable[Tensor] = map(self._evened, torch.split(faces_THW, _CHUNK_PICTURES[faces_THW.device.type]))
        for block in self.faces:
            chunks = block(chunks) if block is self.faces[-1] else map(_halved, block(chunks))
        return torch.cat([chunk_TCHW.amax((2, 3)) for chunk_TCHW in chunks]).to(self.classifier.weight.dtype)

    def encode_sound(self, mfcc_FK: Tensor) -> Tensor:
        """Encodings (T, C) of the audio (4 T, K) of one run."""
        x_1CKF = mfcc_FK.T[None, None]
        for block in self.sound:
            x_1CKF = block(x_1CKF) if block is self.sound[-1] else max_pool2d(block(x_1CKF), (1, 3), (1, 2), (0, 1))
        return x_1CKF.mean(2)[0].T

    def logits(self, encoded_TC: Tensor, windows: Sequence[slice]) -> list[Tensor]:
        """How much a face speaks in each frame of each window, judged on its own: (frames of the window,) each; above
        0: it speaks.

        Args:
            encoded_TC: the sum of what :meth:`encode_faces` and :meth:`encode_sound` give.
            windows: none of them empty.
        """
        parts = [encoded_TC[window] for window in windows]
        lengths_B = torch.tensor([len(part) for part in parts])
        at_BT = _from_the_end(lengths_B).to(encoded_TC.device)[:, :, None]
        x_BTC = _recurrent(self.there, nn.utils.rnn.pad_sequence(parts, batch_first=True), lengths_B)
        x_BTC = _recurrent(self.back, x_BTC.gather(1, at_BT.expand_as(x_BTC)), lengths_B)
        scores_BT = self.classifier(x_BTC.gather(1, at_BT.expand_as(x_BTC)))[:, :, SPEAKS]
        return [row[:length] for row, length in zip(scores_BT, lengths_B.tolist(), strict=True)]

    def _evened(self, faces_THW: Tensor) -> Tensor:
        grey_THW = (faces_THW.to(self.classifier.weight.dtype) / 255 - _GREY_MEAN) / _GREY_DEVIATION
        # The stride also marks the single channel as last in memory, so that the filters write their output in that
        # layout; otherwise all of it would be copied.
        return grey_THW.to(next(self.faces.parameters()).dtype)[..., None].permute(0, 3, 1, 2)


class FaceBlock(nn.Module):
    """Filters within a frame and over time, for a run of frames that comes in pieces."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        for size in _SIZES:
            self.add_module(f"s_{size}", nn.Conv2d(inputs, outputs, size, stride, padding=size // 2))
            self.add_module(f"t_{size}", nn.Conv2d(outputs, outputs, (size, 1)))
        self.last = nn.Conv2d(outputs, outputs, 1)

    def forward(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yields the output (T', C, H', W') for consecutive pieces (T, c, H, W) of a run, in pieces of different
        lengths; everything outside the run counts as zero.
        """
        rows: list[Tensor] = []
        for chunk_TCHW in chunks:
            filtered = [_rectified(self.get_submodule(f"s_{size}"), chunk_TCHW) for size in _SIZES]
            rows = [torch.cat(pair) for pair in zip(rows or map(_nothing, filtered), filtered, strict=True)]
            if len(rows[0]) > 2 * _REACH:
                yield self._over_time(rows)
                rows = [row[-2 * _REACH :] for row in rows]
        yield self._over_time([torch.cat((row, _nothing(row))) for row in rows])

    def _over_time(self, rows: Sequence[Tensor]) -> Tensor:
        """The output for all frames of ``rows``, from the rows of each branch, except the first and last ``_REACH``."""
        three_1CTP, five_1CTP = (self._timed(size, row_TCHW) for size, row_TCHW in zip(_SIZES, rows, strict=True))
        mixed_1CTP = _rectified(self.last, three_1CTP.add_(five_1CTP))
        return mixed_1CTP.permute(0, 2, 3, 1).reshape(-1, *rows[0].shape[2:], mixed_1CTP.shape[1]).permute(0, 3, 1, 2)

    def _timed(self, size: int, row_TCHW: Tensor) -> Tensor:
        spare = _REACH - size // 2
        return _rectified(self.get_submodule(f"t_{size}"), _as_one_picture(row_TCHW[spare : len(row_TCHW) - spare]))


class SoundBlock(nn.Module):
    """Filters over the coefficients and over time, for (1, C, K, F)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        for size in _SIZES:
            self.add_module(f"m_{size}", nn.Conv2d(inputs, outputs, (size, 1), padding=(size // 2, 0)))
            self.add_module(f"t_{size}", nn.Conv2d(outputs, outputs, (1, size), padding=(0, size // 2)))
        self.last = nn.Conv2d(outputs, outputs, 1)

    def forward(self, x_1CKF: Tensor) -> Tensor:
        three, five = (
            relu_(self.get_submodule(f"t_{size}")(relu_(self.get_submodule(f"m_{size}")(x_1CKF)))) for size in _SIZES
        )
        return relu_(self.last(three.add_(five)))


def shapes(widths: Sequence[int] = WIDTHS) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor of the authors' file that inference needs."""
    found: dict[str, tuple[int, ...]] = {}
    for kind in _FILTERS:
        for number, (inputs, outputs) in enumerate(zip((1, *widths), widths, strict=False), start=1):
            for name in _FILTERS[kind]:
                block = f"model.{kind}Encoder.block{number}"
                found[f"{block}.{name}.weight"] = (
                    outputs,
                    outputs if name[0] in "tl" else inputs,
                    *_extent(kind, name),
                )
                found |= {
                    f"{block}.bn_{name}.{one}": (outputs,) for one in ("weight", "bias", "running_mean", "running_var")
                }
    last = widths[-1]
    for way in ("forward", "backward"):
        found |= {f"model.GRU.gru_{way}.weight_{one}_l0": (3 * last, last) for one in ("ih", "hh")}
        found |= {f"model.GRU.gru_{way}.bias_{one}_l0": (3 * last,) for one in ("ih", "hh")}
    return {**found, "lossAV.FC.weight": (2, last), "lossAV.FC.bias": (2,)}


def _extent(kind: str, name: str) -> tuple[int, ...]:
    """Size of a filter in the file: for faces over time, height and width; for audio over coefficients and time."""
    size = 1 if name == "last" else int(name[-1])
    if kind == "visual":
        return (1, size, size) if name[0] == "s" else (size, 1, 1)
    return (size, 1) if name[0] == "m" else (1, size)


def _folded(tensors: Mapping[str, Tensor], block: str, name: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a filter equivalent to a filter without bias followed by its batch norm."""
    weight = tensors[f"{block}.{name}.weight"]
    scale_C, shift_C, mean_C, variance_C = (
        tensors[f"{block}.bn_{name}.{one}"] for one in ("weight", "bias", "running_mean", "running_var")
    )
    factor_C = scale_C / torch.sqrt(variance_C + _NORM_EPSILON)
    return weight * factor_C.reshape(-1, *[1] * (weight.ndim - 1)), shift_C - mean_C * factor_C


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _rectified(filters: nn.Module, x_NCHW: Tensor) -> Tensor:
    """The filters' output, zero where it is negative.

    On a CPU in bfloat16 both are one step (with equal values; as separate steps, a fifth of the time goes into the
    comparison with zero).
    """
    if not (isinstance(filters, nn.Conv2d) and x_NCHW.dtype == torch.bfloat16 and x_NCHW.device.type == "cpu"):
        return relu_(filters(x_NCHW))
    places = (filters.padding, filters.stride, filters.dilation)
    found: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x_NCHW, filters.weight, filters.bias, *places, filters.groups, "relu", [], ""
    )
    return found


def _nothing(row_TCHW: Tensor) -> Tensor:
    """As many frames of zeros as a filter over time extends to one side."""
    return row_TCHW.new_zeros((_REACH, *row_TCHW.shape[1:])).contiguous(memory_format=torch.channels_last)


def _as_one_picture(row_TCHW: Tensor) -> Tensor:
    """(1, C, T, H W), without a copy where the channels are last in memory."""
    length, channels, height, width = row_TCHW.shape
    return row_TCHW.permute(0, 2, 3, 1).reshape(1, length, height * width, channels).permute(0, 3, 1, 2)


def _halved(chunk_TCHW: Tensor) -> Tensor:
    return max_pool2d(chunk_TCHW, 3, 2, 1)


def _from_the_end(lengths_B: Tensor) -> Tensor:
    """(B, T): for each position of each window, the position mirrored within the window; 0 beyond its end."""
    return (lengths_B[:, None] - 1 - torch.arange(int(lengths_B.max()))[None]).clamp(min=0)


def _recurrent(layer: nn.GRU, x_BTC: Tensor, lengths_B: Tensor) -> Tensor:
    packed, _ = layer(pack_padded_sequence(x_BTC, lengths_B, batch_first=True, enforce_sorted=False))
    return gelu(pad_packed_sequence(packed, batch_first=True)[0])
