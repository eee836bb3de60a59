"""How much each of several faces speaks what is heard, frame by frame.

As the authors of Light-ASD apply it: audio and face are cut into windows of 1, 2, ... 6 seconds from a run's start,
each window is judged separately, the scores of a frame are averaged over the lengths, and then over the two frames
before and after. Differences:

- The encoders see the whole run rather than each window, which costs a sixth. They look 6 frames ahead and back, so
  scores differ only near a window's border, beyond which the network would see zeros: on 14 real clips by 0.18 on
  average (AVA's weights: 0.06), by at most 1.1, and in 0.3 % of the frames in sign.
- The authors list some lengths two or three times, but in a set, so each counts once; it does here, too.
- Smoothing includes the last frame, which theirs leaves out, and nothing is rounded to tenths.
- They truncate audio and video to the shorter of the two. Here every frame is judged, and missing audio is silence.

Each run is computed separately, so its scores are bit-identical whatever other faces there are.

What to expect, measured on eleven clips of people who speak to the camera (GRID corpus), with their own audio, with
that of another speaker, or without audio:

| weights | own | another's | none | a still face with speech | faces in a noisy street |
| --- | --- | --- | --- | --- | --- |
| TalkSet | 2.7 to 5.4 | 2.5 to 5.1 | 2.6 to 4.7 | -2.2 to -1.2 | -0.8 to 2.6 |
| AVA | 0.9 to 2.2 | 0.3 to 1.9 | -3.7 to -2.9 | -3.2 to -2.6 | -3.3 to -2.8 |

So TalkSet's weights hardly use the audio: they tell which of several people moves the mouth as if speaking, but not
whether that person is the one heard. AVA's weights detect whether anyone speaks at all. Neither reliably detects that a
mouth speaks words other than those heard.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from merc.compute.device import exact
from merc.errors import BadSettings
from merc.media.active_speaker import weights
from merc.media.active_speaker.sound import SAMPLE_RATE_HZ, STEP_SAMPLES, WINDOW_SAMPLES, mfcc
from merc.media.config import SpeakerPrecision

FRAMES_PER_SECOND = 25
SIDE_PIXELS = 112
WINDOW_SECONDS = (1, 2, 3, 4, 5, 6)
_SMOOTHING_REACH = 2
# The authors enlarge the box's larger side by 1.4, resize the square to 224 pixels and keep the 112 in the middle: 0.7
# of the side. They place it so that 0.15 of the side lies above the box's middle and 0.55 below.
_CROP_SHARE, _CROP_ABOVE_MIDDLE = 0.7, 0.15


@dataclass(frozen=True, eq=False)
class FaceRun:
    """An unbroken sequence of one face within one shot, 25 frames per second.

    Attributes:
        begin_seconds: of its first frame, from the utterance's start.
        faces_THW: (frames, 112, 112) uint8, grey, cropped according to :func:`crop_box`.

    Raises:
        ValueError: if ``faces_THW`` is something else, or holds no frame.
    """

    begin_seconds: float
    faces_THW: NDArray[np.uint8]  # noqa: N815

    def __post_init__(self) -> None:
        shape, dtype = self.faces_THW.shape, self.faces_THW.dtype
        if shape[1:] != (SIDE_PIXELS, SIDE_PIXELS) or not shape[0] or dtype != np.uint8:
            raise ValueError(
                f"(frames, {SIDE_PIXELS}, {SIDE_PIXELS}) of uint8 with at least one frame is expected, not {shape} of"
                f" {dtype}"
            )


class Scorer:
    """Light-ASD with the weights of a file.

    Args:
        weights_file: see :func:`merc.media.active_speaker.weights.path`.
        device: ``cpu`` or ``cuda:N``. The number of CPU threads is left to the caller: with one, a face takes 4 ms per
            frame.
        precision: see ``media.speaker_precision``.

    Raises:
        BadSettings: as :func:`merc.media.active_speaker.weights.load`; also if the processor does not support the
            precision.
    """

    def __init__(self, weights_file: Path, device: str = "cpu", precision: SpeakerPrecision = "float32") -> None:
        import torch

        if precision == "bfloat16" and device == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            raise BadSettings("media.speaker_precision: this processor cannot compute in bfloat16; use float32")
        self._network = weights.load(weights_file).faces_in(getattr(torch, precision)).to(device)
        self._device = device

    def logits(self, runs: Sequence[FaceRun], waveform_S: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """How much each face speaks, (frames,) per run; above 0: it does.

        Args:
            runs: of one utterance; they may overlap in time or not.
            waveform_S: the utterance's, (samples,) at 16 kHz, full scale 1; a run without audio is judged with silence.
        """
        import torch

        with torch.inference_mode(), exact(self._device):
            return [self._of_run(run, waveform_S) for run in runs]

    def _of_run(self, run: FaceRun, waveform_S: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        frames = len(run.faces_THW)
        faces_THW, mfcc_FK = (
            torch.tensor(np.ascontiguousarray(one), device=self._device)
            for one in (run.faces_THW, mfcc(heard(run, waveform_S)))
        )
        encoded_TC = self._network.encode_faces(faces_THW) + self._network.encode_sound(mfcc_FK)
        lengths = [windows(frames, seconds) for seconds in WINDOW_SECONDS]
        distinct = sorted({window for length in lengths for window in length})
        found = self._network.logits(encoded_TC, [slice(*window) for window in distinct])
        judged = dict(zip(distinct, (one.cpu().numpy() for one in found), strict=True))
        return smoothed(
            np.mean(
                [np.concatenate([judged[window] for window in length]) for length in lengths], axis=0, dtype=np.float64
            )
        )


def crop_box(box: tuple[float, float, float, float]) -> tuple[float, float, float]:
    """The square of a frame that the network sees for a face's box: the lower part of the face, from the brows to below
    the chin.

    The authors smooth the centres and larger sides of a face's boxes with a median filter of 13 frames.

    Args:
        box: left, top, width, height in pixels.

    Returns:
        left, top, side in pixels, to be resized to 112 x 112; the square may extend beyond the frame's edge, where the
        authors use a grey of 110.
    """
    left, top, width, height = box
    larger = max(width, height)
    side = _CROP_SHARE * larger
    return left + width / 2 - side / 2, top + height / 2 - _CROP_ABOVE_MIDDLE * larger, side


def heard(run: FaceRun, waveform_S: NDArray[np.float32]) -> NDArray[np.float32]:
    """The audio of a run, four frames per video frame; zeros if the utterance has none."""
    first = round(run.begin_seconds * SAMPLE_RATE_HZ)
    length = len(run.faces_THW) * SAMPLE_RATE_HZ // FRAMES_PER_SECOND + WINDOW_SAMPLES - STEP_SAMPLES
    kept_S = waveform_S[max(0, first) : max(0, first + length)]
    return np.pad(kept_S, (before := min(length, max(0, -first)), length - before - len(kept_S)))


def windows(frames: int, seconds: int) -> list[tuple[int, int]]:
    """Start and end of each window of this many seconds, in frames; the last one is what is left.

    >>> windows(60, 1)
    [(0, 25), (25, 50), (50, 60)]
    """
    length = seconds * FRAMES_PER_SECOND
    return [(begin, min(begin + length, frames)) for begin in range(0, frames, length)]


def smoothed(scores_T: NDArray[np.float64]) -> NDArray[np.float32]:
    """The mean of each score with the two before and the two after it; at the ends, with those that exist."""
    ends = np.concatenate([[0.0], np.cumsum(scores_T)])
    at = np.arange(len(scores_T))
    low, high = np.maximum(at - _SMOOTHING_REACH, 0), np.minimum(at + _SMOOTHING_REACH + 1, len(scores_T))
    return np.asarray((ends[high] - ends[low]) / (high - low), np.float32)
