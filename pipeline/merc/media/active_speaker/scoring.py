"""How much each of several faces speaks what is heard, frame by frame.

As the authors of Light-ASD apply it: audio and face are cut into windows of 1, 2, ... 6 seconds from a run's start,
each window is judged by itself, the judgements of a frame are averaged over the lengths, and then over the two
frames before and after. What differs:

- The encoders see the whole run rather than each window, which costs a sixth. They look 6 frames far, so that only
  what is near a window's border differs, where the network would take what it does not see for zeros: on 14 real clips
  by 0.18 in the mean (AVA's weights: 0.06), by 1.1 at most, and in 0.3 % of the frames on another side of 0.
- The authors list some lengths twice or three times, but as a set, in which each counts once; so it does here.
- Smoothing takes the last frame in, which theirs leaves out, and nothing is rounded to tenths.
- They cut off what the audio or the video has more than the other. Here every frame is judged, and audio that is
  missing is silence.

Each run is computed by itself, so that its scores are the same to the bit, whatever other faces there are.

What to expect, measured on eleven clips of people who speak to the camera (GRID corpus), with audio of their own, of
another one who speaks, or none:

| weights | own | another's | none | a still face with speech | faces in a noisy street |
| --- | --- | --- | --- | --- | --- |
| TalkSet | 2.7 to 5.4 | 2.5 to 5.1 | 2.6 to 4.7 | -2.2 to -1.2 | -0.8 to 2.6 |
| AVA | 0.9 to 2.2 | 0.3 to 1.9 | -3.7 to -2.9 | -3.2 to -2.6 | -3.3 to -2.8 |

So TalkSet's weights hardly listen: they tell who of several moves the mouth as one does to speak, and not whether this
is who is heard. AVA's notice whether someone speaks at all. Neither tells reliably that a mouth speaks other words
than those heard.
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
# The authors enlarge the box's larger side by 1.4, bring the square to 224 pixels and keep the 112 in the middle: 0.7
# of the side. They place it so that 0.15 of the side lies above the box's middle and 0.55 below.
_CROP_SHARE, _CROP_ABOVE_MIDDLE = 0.7, 0.15


@dataclass(frozen=True, eq=False)
class FaceRun:
    """An unbroken sequence of one face within one shot, 25 frames per second.

    Attributes:
        begin_seconds: of its first frame, from the utterance's start.
        faces_THW: (frames, 112, 112) uint8, grey, cut as :func:`crop_box` says.

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
        device: ``cpu`` or ``cuda:N``. How many threads the CPU may take is left to the caller: with one, a face and
            frame takes 4 ms.
        precision: see ``media.speaker_precision``.

    Raises:
        BadSettings: as :func:`merc.media.active_speaker.weights.load`; also if the processor cannot do with the
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
            runs: of one utterance; their faces may be seen at the same time or not.
            waveform_S: the utterance's, (samples,) at 16 kHz, full scale 1; where a run has no audio there, it hears
                silence.
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
    """The square of a frame that the network sees, of a face's box: its lower part, from the brows to below the chin.

    The authors follow a face by boxes whose middles and larger sides have gone through a median filter of 13 frames.

    Args:
        box: left, top, width, height in pixels.

    Returns:
        left, top, side in pixels, to be brought to 112 x 112; it may reach over the frame's edge, where the authors
        put a grey of 110.
    """
    left, top, width, height = box
    larger = max(width, height)
    side = _CROP_SHARE * larger
    return left + width / 2 - side / 2, top + height / 2 - _CROP_ABOVE_MIDDLE * larger, side


def heard(run: FaceRun, waveform_S: NDArray[np.float32]) -> NDArray[np.float32]:
    """The audio of a run, four frames per video frame; zeros where the utterance has none."""
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
    """Each score's mean with the two before and the two behind it; at the ends, with those that there are."""
    ends = np.concatenate([[0.0], np.cumsum(scores_T)])
    at = np.arange(len(scores_T))
    low, high = np.maximum(at - _SMOOTHING_REACH, 0), np.minimum(at + _SMOOTHING_REACH + 1, len(scores_T))
    return np.asarray((ends[high] - ends[low]) / (high - low), np.float32)
