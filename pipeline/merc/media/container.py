"""One pass over one media file: every packet decoded at most once, audio and video side by side.

Only if skipping frames turns out to be impossible (:mod:`merc.media.decoding`), as in a damaged file, are all of them
read again.

Files are not trusted. Only containers that hold media themselves are opened, never playlists or scripts that make
FFmpeg read other files or addresses; and a decoder's complaint is recorded in a row instead of ending the run.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import av
import av.logging
import cv2

from merc.files import stand_in
from merc.log import logger
from merc.media.audio import SoundSpan, SoundStream
from merc.media.config import Config
from merc.media.decoding import CannotSkip, Clock, EveryFrame, NeededFrames
from merc.media.promised import shortfall
from merc.media.spans import Place, Span
from merc.media.streams import choose
from merc.media.video import ALONE, FrameSpan, Showing, Timeline, Watcher

# With the level at ERROR, FFmpeg says what is wrong with a file. By default, PyAV drops a message that repeats the
# previous one, perhaps that of another file, and a clip's row would depend on what was decoded before it.
av.logging.set_level(av.logging.ERROR)
av.logging.set_skip_repeated(False)

_OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": (
        "mov,mp4,m4a,3gp,3g2,mj2,avi,wav,w64,matroska,webm,flac,mp3,aac,ogg,aiff,au,mpeg,mpegvideo,mpegts,asf,flv"
    ),
}
# Audio and video of an audio file end within a packet of what the header says (an AAC packet: 0.02 to 0.1 s). A
# stream that ends earlier by more than this was cut off.
_EARLY_END_SECONDS = 0.5
# What reading and converting a frame may raise for a file that is broken or odd: FFmpeg's errors, PyAV's and ours for
# a format that cannot be converted (ValueError), OpenCV's for a frame it cannot work on.
_FAULTS = (av.FFmpegError, ValueError, cv2.error)
_MESSAGES_KEPT = 3
# A frame of this size takes 200 MB as RGB with its copies; camera frames take a quarter of that. For larger frames,
# FFmpeg reports an error.
_MAX_PIXELS = 8192 * 4320


@dataclass
class Trouble:
    """What went wrong in one stream.

    Attributes:
        since, until: seconds of the file that may be missing; outside them, audio or video is intact.
        words: the decoder's message.
    """

    since: float
    until: float
    words: str

    def touches(self, kept: Span) -> bool:
        return self.since < kept.end and self.until >= kept.start


@dataclass(frozen=True)
class FrameWish:
    """Which frames one utterance needs, before the file's length is known."""

    wanted: Span
    region: str
    place: Place = ALONE


@dataclass
class Pass:
    """Result of one pass over a file.

    Attributes:
        refusal: the library's message if the file could not be opened at all; else empty.
        sound: None if no audio was requested or there is none (``has_sound``).
        frame_spans: one per wish, in order; empty if there are no frames.
        sound_seconds: length of the audio by the header; None if not stated.
        picture_end: seconds of the file at which the video ends; infinite if the last frames were not requested.
        tracks: by stream type, ``audio`` and ``video``: which of several was taken, or why there is none to take; see
            :class:`merc.media.streams.Chosen`.
        troubles: by stream type.
    """

    refusal: str = ""
    sound: SoundStream | None = None
    frame_spans: Sequence[FrameSpan] = ()
    sound_seconds: float | None = None
    picture_end: float = math.inf
    tracks: dict[str, str] = field(default_factory=dict)
    troubles: dict[str, Trouble] = field(default_factory=dict)

    def note(self, kind: str, since: float, until: float, words: str) -> None:
        """Records trouble in a stream; further trouble widens the span, and the first message is kept."""
        known = self.troubles.setdefault(kind, Trouble(since, until, words))
        known.since, known.until = min(known.since, since), max(known.until, until)


def read(
    path: Path, sounds: Sequence[SoundSpan], wishes: Sequence[FrameWish], watcher: Watcher, config: Config
) -> Pass:
    """Decodes the requested parts of one file.

    Args:
        path: an existing file.
        sounds: filled with the audio of their spans; may be empty.
        wishes: spans of frames; may be empty.
        watcher: receives the frames.
        config: settings of the stage.
    """
    result = Pass()
    with av.logging.Capture() as messages:
        try:
            with av.open(str(path), metadata_errors="replace", options=_OPEN_OPTIONS) as container:
                pictures = _read_open(container, path, sounds, wishes, watcher, config, result, messages)
            if pictures is not None and pictures.given_up:
                logger.debug("every frame is decoded: %s", pictures.given_up)
                watcher.start_over()
                with av.open(str(path), metadata_errors="replace", options=_OPEN_OPTIONS) as container:
                    _read_open(container, path, (), wishes, watcher, config, result, messages, skipping=False)
        except (av.FFmpegError, ValueError) as error:
            result.refusal = stand_in(path) or _words(error, messages)
    return result


def _read_open(
    container: Any,
    path: Path,
    sounds: Sequence[SoundSpan],
    wishes: Sequence[FrameWish],
    watcher: Watcher,
    config: Config,
    result: Pass,
    messages: list[Any],
    *,
    skipping: bool = True,
) -> "_Pictures | None":
    """One pass. Returns the object that took the frames, if any."""
    origin = (container.start_time or 0) / av.time_base
    feeders: dict[int, _Sound | _Pictures] = {}
    if sounds:
        stream = _taken(container.streams.audio, "audio", config, result)
        if stream is not None:
            result.sound = SoundStream(sounds, config)
            result.sound_seconds = _seconds(stream)
            feeders[stream.index] = _Sound(stream, result.sound, origin)
    pictures = None
    if wishes:
        stream = _taken(container.streams.video, "video", config, result)
        if stream is not None:
            begin, end = (
                _extent(stream, origin, path)
                if any(math.isinf(wish.wanted.end) for wish in wishes)
                else (0.0, math.inf)
            )
            result.frame_spans = [_frame_span(number, wish, begin, end, config) for number, wish in enumerate(wishes)]
            skipping = skipping and NeededFrames.can_read(stream, container.format.name)
            pictures = _Pictures(stream, result.frame_spans, watcher, origin, end, messages, skipping)
            feeders[stream.index] = pictures
    if feeders:
        _demux(container, feeders, result, messages)
        missing = shortfall(path)
        for feeder in feeders.values():
            _finish(feeder, origin, missing, result)
    return pictures


def _taken(streams: Sequence[Any], kind: Literal["audio", "video"], config: Config, result: Pass) -> Any:
    chosen = choose(streams, config.audio_track if kind == "audio" else config.video_track)
    result.tracks[kind] = chosen.words
    return chosen.stream


class _Sound:
    """Takes the packets of the audio."""

    kind = "audio"
    end = math.inf
    given_up = ""

    def __init__(self, stream: Any, taker: SoundStream, origin: float) -> None:
        self.stream = stream
        self.skipping = False
        self._taker = taker
        self._origin = origin
        _limit(stream)

    @property
    def done(self) -> bool:
        return self._taker.done

    @property
    def end_seconds(self) -> float:
        return self._taker.end_seconds

    def feed(self, packet: Any) -> None:
        for frame in packet.decode():
            self._taker.feed(frame, None if frame.pts is None else float(frame.pts * frame.time_base) - self._origin)
            if self.done:
                return

    def finish(self) -> None:
        """No packet follows."""


class _Pictures:
    """Takes the packets of the video.

    Attributes:
        end: seconds at which the video ends, by the header or by all packets; infinite if not requested.
        skipping: only the needed frames are decoded.
        given_up: why skipping is impossible; empty if it is possible.
    """

    kind = "video"

    def __init__(
        self,
        stream: Any,
        spans: Sequence[FrameSpan],
        watcher: Watcher,
        origin: float,
        end: float,
        messages: Sequence[Any],
        skipping: bool,
    ) -> None:
        self.stream = stream
        self.end = end
        self.skipping = skipping
        self.given_up = ""
        _limit(stream)
        aspect = float(stream.sample_aspect_ratio or 1)
        clock = Clock(stream.time_base, origin, float(1 / stream.average_rate) if stream.average_rate else 0.0)

        def show(frame: av.VideoFrame, showing: Showing) -> None:
            showing.show(frame, aspect, watcher)

        timeline: Timeline[Any] = Timeline(spans)
        self._reader = (
            NeededFrames(stream, timeline, clock, show, lambda: len(messages))
            if skipping
            else EveryFrame(timeline, clock, show)
        )

    @property
    def done(self) -> bool:
        return bool(self.given_up) or self._reader.done

    @property
    def end_seconds(self) -> float:
        return self._reader.end_seconds

    def feed(self, packet: Any) -> None:
        self._reader.feed(packet)

    def finish(self) -> None:
        """No packet follows."""
        if not self.given_up:
            self._reader.finish()


def _limit(stream: Any) -> None:
    # One thread: parallelism comes from the worker processes, and FFmpeg's messages arrive on the calling thread.
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {**stream.codec_context.options, "max_pixels": str(_MAX_PIXELS)}


def _demux(container: Any, feeders: "dict[int, _Sound | _Pictures]", result: Pass, messages: list[Any]) -> None:
    try:
        for packet in _packets(container, [feeder.stream for feeder in feeders.values()]):
            feeder = feeders[packet.stream.index]
            if feeder.done:
                if all(one.done for one in feeders.values()):
                    return
                continue
            already = len(messages)
            try:
                feeder.feed(packet)
            except (CannotSkip, *_FAULTS) as error:  # the next packet may be intact
                _note(feeder, error, result, messages[already:])
    except av.FFmpegError as error:
        for feeder in feeders.values():
            if not feeder.done:
                _note(feeder, error, result, messages, until=math.inf)


def _packets(container: Any, streams: Sequence[Any]) -> Iterator[Any]:
    """The packets of some streams, followed by an empty one per stream.

    Where further streams start in the middle of the file (FLV, MPEG), PyAV raises an IndexError at the first of these,
    after the empty packets of the streams it knows.
    """
    packets = container.demux(streams)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, IndexError):
            return
        yield packet


def _note(
    feeder: "_Sound | _Pictures", error: Exception, result: Pass, messages: Sequence[Any], until: float | None = None
) -> None:
    """Records what went wrong; if frames are being skipped, all frames are decoded first, and it is recorded then."""
    words = _words(error, messages)
    if feeder.skipping:
        feeder.given_up = words
    else:
        result.note(feeder.kind, feeder.end_seconds, feeder.end_seconds if until is None else until, words)


def _finish(feeder: "_Sound | _Pictures", origin: float, missing: str, result: Pass) -> None:
    """The file has ended, or no more of the stream is needed; ``missing``: the message of
    :func:`merc.media.promised.shortfall`.
    """
    satisfied = feeder.done
    try:
        feeder.finish()
    except (CannotSkip, *_FAULTS) as error:
        _note(feeder, error, result, [], until=math.inf)
    if feeder.given_up:
        return
    if missing:
        result.note(feeder.kind, feeder.end if satisfied else feeder.end_seconds, math.inf, missing)
    if satisfied:
        return
    if feeder.kind == "video":
        result.picture_end = feeder.end_seconds
    stated = _seconds(feeder.stream)
    end = -math.inf if stated is None else _begin(feeder.stream, origin) + stated
    if feeder.end_seconds < end - _EARLY_END_SECONDS:
        result.note(
            feeder.kind,
            feeder.end_seconds,
            math.inf,
            f"ends at {feeder.end_seconds:.3f} s; by its header it lasts to {end:.3f} s",
        )


def stated_seconds(path: Path, config: Config) -> float | None:
    """The length that a file's header states for its audio or its video, whichever is longer; None if the file cannot
    be opened or states no length.
    """
    with av.logging.Capture():
        try:
            with av.open(str(path), metadata_errors="replace", options=_OPEN_OPTIONS) as container:
                streams = [
                    choose(container.streams.audio, config.audio_track).stream,
                    choose(container.streams.video, config.video_track).stream,
                ]
                return max(
                    (seconds for stream in streams if stream is not None and (seconds := _seconds(stream)) is not None),
                    default=None,
                )
        except (av.FFmpegError, ValueError):  # the decoding pass meets and records the same error
            return None


def _seconds(stream: Any) -> float | None:
    """The length that the header states for a stream."""
    return float(stream.duration * stream.time_base) if stream.duration and stream.duration > 0 else None


def _begin(stream: Any, origin: float) -> float:
    """Seconds from the start of the file to the start of the stream."""
    return max(0.0, float((stream.start_time or 0) * stream.time_base) - origin)


def _extent(stream: Any, origin: float, path: Path) -> tuple[float, float]:
    """Where a stream starts and ends, in seconds from the start of the file.

    By its header, if that states the length of this very stream and the index does not contradict it. Otherwise by all
    packets, undecoded: the length of the whole container may count from 0 where the time stamps do not (Matroska), and
    may be that of a longer stream.
    """
    begin, stated = _begin(stream, origin), _seconds(stream)
    if stated is not None and _last_indexed(stream) - origin < begin + stated:
        return begin, begin + stated
    scanned = _scanned(path, stream.index)
    if scanned is None:
        return begin, begin + (stated or 0.0)
    return max(0.0, round(scanned[0] - origin, 6)), round(scanned[1] - origin, 6)


def _last_indexed(stream: Any) -> float:
    """The time stamp of the last shown packet in the container's index; minus infinity if there is none."""
    entries = stream.index_entries
    shown = (entries[number].timestamp for number in range(len(entries) - 1, -1, -1) if not entries[number].is_discard)
    last = next(shown, None)
    return -math.inf if last is None else float(last * stream.time_base)


def _scanned(path: Path, index: int) -> tuple[float, float] | None:
    """The first time stamp of a stream, and where its last packet ends, in seconds; undecoded. None if it has none."""
    begins: list[float] = []
    last_end = -math.inf
    with av.open(str(path), metadata_errors="replace", options=_OPEN_OPTIONS) as container:
        try:
            for packet in _packets(container, [container.streams[index]]):
                if packet.pts is not None:
                    begins.append(float(packet.pts * packet.time_base))
                    last_end = max(last_end, begins[-1] + float((packet.duration or 0) * packet.time_base))
        except av.FFmpegError as error:  # the decoding pass meets and records the same error
            logger.debug("the length of a stream is known only up to a fault: %s", error)
    if not begins:
        return None
    first, last = min(begins), max(begins)
    # A last packet without a duration is shown for as long as the others.
    return first, last_end if last_end > last else last + (last - first) / max(1, len(begins) - 1)


def _frame_span(number: int, wish: FrameWish, begin: float, end: float, config: Config) -> FrameSpan:
    wanted = wish.wanted
    if math.isinf(wanted.end):
        wanted = Span(max(wanted.start, begin), max(end, wanted.start, begin))
    return FrameSpan(number, wanted, wish.wanted.start - wish.place.offset_seconds, wish.region, config, wish.place)


def _words(error: Exception, messages: Sequence[Any]) -> str:
    """The library's message without file names and memory addresses, which differ between machines."""
    said = [getattr(error, "strerror", None) or str(error)]
    for _, source, text in messages[-_MESSAGES_KEPT:]:
        line = f"{source}: {re.sub(r' ?0x[0-9a-f]+', '', text.strip())}"
        if line not in said:
            said.append(line)
    return "; ".join(said)
