"""One pass over one media file: opened once, every packet decoded at most once, sound and pictures side by side.

Files are not trusted. Only containers that hold media themselves are opened, never playlists or scripts that make FFmpeg read
other files or addresses; and whatever a decoder complains of becomes words in a row, not the end of the run.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import av.logging
import cv2

from pipeline.log import logger
from pipeline.media.audio import SoundSpan, SoundStream
from pipeline.media.config import MediaConfig
from pipeline.media.spans import Span
from pipeline.media.video import FrameSpan, FrameStream, Look

# With the level at ERROR, FFmpeg says what is wrong with a file; by default PyAV would drop a message that repeats the one
# before, perhaps that of another file, so that a clip's row would depend on what was decoded before it.
av.logging.set_level(av.logging.ERROR)
av.logging.set_skip_repeated(False)

_OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,avi,wav,w64,matroska,webm,flac,mp3,aac,ogg,aiff,au,mpeg,mpegvideo,mpegts,asf,flv",
}
# Sound and pictures of a sound file end within a packet of what the header says (an AAC packet: 0.02 to 0.1 s). A stream
# that ends earlier by more than this was cut off.
_EARLY_END_SECONDS = 0.5
# What reading and converting a frame may raise for a file that is broken or odd: FFmpeg's errors, PyAV's and ours for
# a format that cannot be converted (ValueError), OpenCV's for a picture it cannot work on.
_FAULTS = (av.FFmpegError, ValueError, cv2.error)
_MESSAGES_KEPT = 3
# A picture of this size takes 200 MB as RGB with its copies; cameras have a quarter of it. Beyond, FFmpeg gives an error.
_MAX_PIXELS = 8192 * 4320


@dataclass
class Trouble:
    """What went wrong in one stream.

    Attributes:
        since, until: seconds of the file that may be missing; sound or pictures outside are whole.
        words: the decoder's own.
    """

    since: float
    until: float
    words: str

    def touches(self, kept: Span) -> bool:
        return self.since < kept.end and self.until >= kept.start


@dataclass(frozen=True)
class FrameWish:
    """What one utterance wants of the pictures, before the file's length is known."""

    wanted: Span
    region: str


@dataclass
class Pass:
    """What one pass over a file gave.

    Attributes:
        refusal: the file could not be opened at all; the library's words. Empty: it was.
        sound: None if nobody wanted sound or there is none (``has_sound``).
        frame_spans: one per wish, in order; empty if there are no pictures.
        sound_seconds, picture_seconds: length that the header states for the stream; None where it does not.
        troubles: by stream type, ``audio`` and ``video``.
    """

    refusal: str = ""
    sound: SoundStream | None = None
    frame_spans: Sequence[FrameSpan] = ()
    sound_seconds: float | None = None
    picture_seconds: float | None = None
    troubles: dict[str, Trouble] = field(default_factory=dict)

    def note(self, kind: str, since: float, until: float, words: str) -> None:
        """Records trouble in a stream; further trouble widens the span, the first words stay."""
        known = self.troubles.setdefault(kind, Trouble(since, until, words))
        known.since, known.until = min(known.since, since), max(known.until, until)


def read(path: Path, sounds: Sequence[SoundSpan], wishes: Sequence[FrameWish], look: Look, config: MediaConfig) -> Pass:
    """Decodes what is wanted of one file.

    Args:
        path: an existing file.
        sounds: filled with the sound of their spans; may be empty.
        wishes: spans of pictures; may be empty.
        look: see :class:`pipeline.media.video.FrameStream`.
        config: settings of the stage.
    """
    result = Pass()
    with av.logging.Capture() as messages:
        try:
            with av.open(str(path), metadata_errors="replace", options=_OPEN_OPTIONS) as container:
                _read_open(container, path, sounds, wishes, look, config, result, messages)
        except (av.FFmpegError, ValueError) as error:
            result.refusal = _words(error, messages)
    return result


def _read_open(
    container: Any,
    path: Path,
    sounds: Sequence[SoundSpan],
    wishes: Sequence[FrameWish],
    look: Look,
    config: MediaConfig,
    result: Pass,
    messages: list[Any],
) -> None:
    origin = (container.start_time or 0) / av.time_base
    feeders: dict[int, _Feeder] = {}
    sound_stream = _stream(container.streams.audio) if sounds else None
    if sound_stream is not None:
        result.sound = SoundStream(sounds, config)
        result.sound_seconds = _seconds(sound_stream)
        feeders[sound_stream.index] = _Feeder("audio", sound_stream, result.sound, origin)
    picture_stream = _stream(container.streams.video) if wishes else None
    if picture_stream is not None:
        result.picture_seconds = _seconds(picture_stream)
        begin = max(0.0, float((picture_stream.start_time or 0) * picture_stream.time_base) - origin)
        end = begin + (result.picture_seconds or _container_seconds(container) or _scanned_seconds(path, picture_stream.index))
        result.frame_spans = [_frame_span(wish, begin, end, config) for wish in wishes]
        feeders[picture_stream.index] = _Feeder("video", picture_stream, FrameStream(result.frame_spans, look), origin)
    if feeders:
        _demux(container, feeders, result, messages)
        for feeder in feeders.values():
            feeder.finish(result)


class _Feeder:
    """One stream of the file and what takes its frames."""

    def __init__(self, kind: str, stream: Any, taker: SoundStream | FrameStream, origin: float) -> None:
        self.kind = kind
        self.stream = stream
        self.taker = taker
        self._origin = origin
        self._nominal = float(1 / stream.average_rate) if kind == "video" and stream.average_rate else 0.0
        # One thread: the workers are the processes, and FFmpeg's messages come on the thread that called it.
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {**stream.codec_context.options, "max_pixels": str(_MAX_PIXELS)}

    def feed(self, packet: Any) -> None:
        for frame in packet.decode():
            seconds = None if frame.pts is None else float(frame.pts * frame.time_base) - self._origin
            if isinstance(self.taker, SoundStream):
                self.taker.feed(frame, seconds)
            else:
                duration = float(frame.duration * frame.time_base) if frame.duration else self._nominal
                self.taker.feed(frame, seconds, duration)
            if self.taker.done:
                return

    def finish(self, result: Pass) -> None:
        """The file has ended, or nobody wants more of it."""
        satisfied = self.taker.done
        try:
            if isinstance(self.taker, FrameStream):
                self.taker.finish()
        except _FAULTS as error:
            result.note(self.kind, self.taker.end_seconds, math.inf, _words(error, []))
        stated = _seconds(self.stream)
        if stated is None or satisfied:
            return
        end = stated + max(0.0, float((self.stream.start_time or 0) * self.stream.time_base) - self._origin)
        if self.taker.end_seconds < end - _EARLY_END_SECONDS:
            result.note(self.kind, self.taker.end_seconds, math.inf, f"ends at {self.taker.end_seconds:.3f} s; by its header it lasts to {end:.3f} s")


def _demux(container: Any, feeders: dict[int, _Feeder], result: Pass, messages: list[Any]) -> None:
    try:
        for packet in container.demux([feeder.stream for feeder in feeders.values()]):
            feeder = feeders[packet.stream.index]
            if feeder.taker.done:
                if all(one.taker.done for one in feeders.values()):
                    return
                continue
            already = len(messages)
            try:
                feeder.feed(packet)
            except _FAULTS as error:  # the next packet may be whole again
                at = feeder.taker.end_seconds
                result.note(feeder.kind, at, at, _words(error, messages[already:]))
    except av.FFmpegError as error:
        for feeder in feeders.values():
            if not feeder.taker.done:
                result.note(feeder.kind, feeder.taker.end_seconds, math.inf, _words(error, messages))


def _stream(streams: Sequence[Any]) -> Any:
    """The first stream that FFmpeg has a decoder for and that is not a cover picture; None if there is none."""
    for stream in streams:
        if stream.codec_context is not None and not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    return None


def _seconds(stream: Any) -> float | None:
    """The length that the header states for a stream."""
    return float(stream.duration * stream.time_base) if stream.duration and stream.duration > 0 else None


def _container_seconds(container: Any) -> float:
    return max(0.0, (container.duration or 0) / av.time_base)


def _scanned_seconds(path: Path, index: int) -> float:
    """Length of a stream whose file does not state it (a recording that was broken off), from its packets, undecoded."""
    last = first = None
    with av.open(str(path), metadata_errors="replace", options=_OPEN_OPTIONS) as container:
        try:
            for packet in container.demux(container.streams[index]):
                if packet.pts is not None:
                    end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    first = float(packet.pts * packet.time_base) if first is None else first
                    last = end if last is None else max(last, end)
        except av.FFmpegError as error:  # the pass that decodes meets the same end, and records it
            logger.debug("length of a stream is known only up to a fault: %s", error)
    return 0.0 if last is None or first is None else last - first


def _frame_span(wish: FrameWish, begin: float, end: float, config: MediaConfig) -> FrameSpan:
    wanted = wish.wanted
    if math.isinf(wanted.end):
        wanted = Span(max(wanted.start, begin), max(end, wanted.start, begin))
    return FrameSpan(wanted, wish.wanted.start, config.max_clip_seconds, config.frames_per_clip, wish.region)


def _words(error: Exception, messages: Sequence[Any]) -> str:
    """What the library says, without file names and addresses in memory, which differ from machine to machine."""
    said = [getattr(error, "strerror", None) or str(error)]
    for _, source, text in messages[-_MESSAGES_KEPT:]:
        line = f"{source}: {re.sub(r' ?0x[0-9a-f]+', '', text.strip())}"
        if line not in said:
            said.append(line)
    return "; ".join(said)
