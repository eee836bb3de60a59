"""Which packets of a video are decoded: all of them, or only those that the requested frames need. The resulting frames
are the same.

The packets' time stamps tell which packet holds the frame on the screen at a requested instant, before anything is
decoded:

    decode order   I0   P4   B2   b1   b3   P8   B6   b5   b7   P12  …        b: no other frame needs it
    wanted                        b1                  b5
    decoded        I0   P4   B2   b1   -    P8   B6   b5   -                  -: the decoder skips it

Within an utterance every packet is sent, so that a decoder that cannot read it reports that. Between utterances, whole
groups of frames are not even sent, and decoding restarts at the last possible frame before the next utterance.

:class:`NeededFrames` gives up (:class:`CannotSkip`) as soon as the file violates the assumptions under which this is
known to be correct: then all frames are read again by :class:`EveryFrame`. So damaged files give the same result as
when everything is decoded.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from merc.media.video import Showing, Timeline

# Decoders that can skip, packet by packet, frames that no other frame needs. Others either ignore the request (VP9),
# which only costs time, or decode ahead (AV1), so that the request affects the wrong frame.
_SKIPPING = {"h264", "hevc", "mpeg4", "msmpeg4", "msmpeg4v2", "msmpeg4v3", "mpeg2video", "mpeg1video", "vp8", "vp9"}
# AVI stores no presentation times; FFmpeg infers them from the types of the frames, which is right for these codecs.
_INFERRED_RIGHT = {"mpeg4", "msmpeg4", "msmpeg4v2", "msmpeg4v3", "mpeg2video", "mpeg1video"}
# Maximum number of packets held back until the next keyframe shows that they are not needed; beyond it they are
# decoded.
_MAX_HELD_BYTES = 32 * 2**20
# H.264 and HEVC: an instantaneous decoder refresh; any frame at which decoding may start (Rec. ITU-T H.264 table 7-1,
# H.265 table 7-1).
_H264_IDR, _HEVC_RANDOM_ACCESS = 5, range(16, 22)
_START_CODE = b"\x00\x00\x01"

Show = Callable[[Any, Showing], None]
"""Takes a decoded frame and the utterances that need it."""


class CannotSkip(Exception):
    """The stream must be decoded frame by frame; the message says why."""


class Reader(Protocol):
    """Takes the packets of one video stream in file order and hands out the requested frames.

    Attributes:
        done: whether nothing more is needed.
        end_seconds: end of the last frame so far.
    """

    @property
    def done(self) -> bool: ...

    @property
    def end_seconds(self) -> float: ...

    def feed(self, packet: Any) -> None: ...

    def finish(self) -> None:
        """No packet follows."""


@dataclass(frozen=True)
class Clock:
    """Converts time stamps to seconds from the start of the file.

    Attributes:
        time_base: seconds per unit of the stream's time stamps.
        origin: seconds at which the file starts.
        nominal_seconds: duration of a frame that does not state its own.
    """

    time_base: Any
    origin: float
    nominal_seconds: float

    def seconds(self, pts: int) -> float:
        return float(pts * self.time_base) - self.origin

    def duration(self, ticks: int | None) -> float:
        return float(ticks * self.time_base) if ticks else self.nominal_seconds


class EveryFrame:
    """Decodes every packet up to the last requested frame."""

    def __init__(self, timeline: Timeline[Any], clock: Clock, show: Show) -> None:
        self._timeline = timeline
        self._clock = clock
        self._show = show

    @property
    def done(self) -> bool:
        return self._timeline.done

    @property
    def end_seconds(self) -> float:
        return self._timeline.end_seconds

    def feed(self, packet: Any) -> None:
        for frame in packet.decode():
            wanted = self._timeline.feed(
                frame,
                None if frame.pts is None else self._clock.seconds(frame.pts),
                self._clock.duration(frame.duration),
            )
            if wanted:
                self._show(*wanted)
            if self.done:
                return

    def finish(self) -> None:
        wanted = self._timeline.finish()
        if wanted:
            self._show(*wanted)


@dataclass(eq=False)
class _Held:
    """A packet that has been read and not yet sent to the decoder.

    Attributes:
        wanted: the utterances that need its frame.
        decided: whether no other utterance can need it.
    """

    packet: Any
    pts: int
    wanted: list[Showing] = field(default_factory=list)
    decided: bool = False

    def __lt__(self, other: "_Held") -> bool:
        return self.pts < other.pts


class NeededFrames:
    """Decodes the requested frames and those that they depend on.

    Args:
        stream: the open stream; its decoder has one thread, so that a request to skip applies to the packet sent with
            it.
        timeline: of the file's utterances; its items are packets.
        clock: of the stream.
        show: takes the requested frames.
        complaints: returns the number of messages from the decoder so far.

    Attributes:
        decoded: number of frames that the decoder returned.
    """

    def __init__(
        self, stream: Any, timeline: Timeline[_Held], clock: Clock, show: Show, complaints: Callable[[], int]
    ) -> None:
        self._stream = stream
        self._timeline = timeline
        self._clock = clock
        self._show = show
        self._complaints = complaints
        self._enters = _entry_test(stream)
        self._dts: int | None = None
        self._settled = -math.inf  # no later packet is shown at or before this time stamp
        self._unsettled: list[_Held] = []  # a heap by presentation time
        self._latest: _Held | None = None  # the last settled one
        self._queue: deque[_Held] = deque()  # in decode order
        self._idle: list[_Held] = []  # in decode order: not requested, but perhaps needed by a later requested one
        self._idle_bytes = 0
        self._idle_inside = False  # one of them is within an utterance
        self._entry = -math.inf  # frames shown before it depend on frames that were never decoded
        self._expected: dict[int, list[Showing]] = {}
        self._shown = -math.inf
        self._primed = False  # the decoder may be holding frames back
        self.decoded = 0
        self.done = False

    @staticmethod
    def can_read(stream: Any, container_format: str) -> bool:
        """Whether this kind of stream has time stamps in its packets, and a decoder that skips."""
        codec = stream.codec_context.codec
        if "avi" in container_format.split(","):
            return codec.name in _INFERRED_RIGHT or codec.intra_only
        return codec.name in _SKIPPING or codec.intra_only

    @property
    def end_seconds(self) -> float:
        return self._timeline.end_seconds

    def feed(self, packet: Any) -> None:
        """Takes the next packet.

        Raises:
            CannotSkip: see the module.
        """
        if not packet.size:  # the mark of the end, see `finish`
            return
        self._admit(packet)
        while self._unsettled and self._unsettled[0].pts <= self._settled:
            self._settle(heapq.heappop(self._unsettled))
        self._send_decided()

    def finish(self) -> None:
        """No packet follows. May raise ``CannotSkip``, too."""
        if self.done:
            return
        while self._unsettled:
            self._settle(heapq.heappop(self._unsettled))
        wanted = self._timeline.finish()
        if wanted:
            wanted[0].wanted.append(wanted[1])
        for one in self._queue:
            one.decided = True
        self._send_decided()
        self._drain()

    def _admit(self, packet: Any) -> None:
        pts, dts = packet.pts, packet.dts
        if pts is None or pts <= self._settled:
            raise CannotSkip(f"a packet's presentation time {pts} is missing, or behind others")
        if dts is None:
            if self._dts is not None:
                raise CannotSkip("a packet has no decoding time")
        elif dts > pts or (self._dts is not None and dts <= self._dts):
            raise CannotSkip(f"decoding times are out of order at {dts}")
        else:
            # Later packets have later decoding times, and no frame is shown before it is decoded.
            self._dts = self._settled = dts
        if packet.has_sidedata("new_extradata"):
            raise CannotSkip("the decoder's parameters change")
        if self._stream.codec_context.codec.name == "mpeg4" and bytes(packet).count(_START_CODE + b"\xb6") != 1:
            raise CannotSkip("a packet does not hold one picture")
        held = _Held(packet, pts)
        self._queue.append(held)
        if packet.is_discard:  # decoded only for other frames, never shown
            held.decided = True
        else:
            heapq.heappush(self._unsettled, held)

    def _settle(self, held: _Held) -> None:
        """The next packet in presentation order: it settles who needs the previous one."""
        if self._latest is not None and held.pts == self._latest.pts:
            raise CannotSkip(f"two packets are shown at {held.pts}")
        wanted = self._timeline.feed(held, self._clock.seconds(held.pts), self._clock.duration(held.packet.duration))
        if wanted:
            wanted[0].wanted.append(wanted[1])
        if self._latest is not None:
            self._latest.decided = True
        self._latest = held

    def _send_decided(self) -> None:
        """Sends the packets known to be needed, in decode order."""
        while self._queue and (self._queue[0].decided or self._timeline.done):
            held = self._queue.popleft()
            led = any(one.wanted and one.pts < held.pts for one in self._queue)
            if (
                self._idle
                and not self._idle_inside
                and not led
                and not held.packet.is_discard
                and self._enters(held.packet)
            ):
                # No one needs the packets since the last requested one: decoding restarts here.
                self._drain()
                self._forget_idle()
                self._entry = held.pts
            if held.pts < self._entry:
                continue
            self._idle.append(held)
            self._idle_bytes += held.packet.size
            self._idle_inside = self._idle_inside or self._timeline.within(self._clock.seconds(held.pts))
            if held.wanted or self._idle_bytes > _MAX_HELD_BYTES:
                for one in self._idle:
                    self._send(one)
                self._forget_idle()
        if self._timeline.done and not any(one.wanted for one in self._queue):
            self._drain()
            self.done = True

    def _forget_idle(self) -> None:
        self._idle.clear()
        self._idle_bytes = 0
        self._idle_inside = False

    def _send(self, held: _Held) -> None:
        if held.wanted:
            self._expected[held.pts] = held.wanted
        self._stream.codec_context.skip_frame = "DEFAULT" if held.wanted else "NONREF"
        self._primed = True
        self._take(held.packet)

    def _drain(self) -> None:
        """Flushes the frames that the decoder holds back, and prepares it for a restart."""
        if self._primed:
            self._take(None)
            self._stream.codec_context.flush_buffers()
            self._primed = False
        if self._expected:
            raise CannotSkip(f"the decoder gave no frame for {sorted(self._expected)}")

    def _take(self, packet: Any) -> None:
        before = self._complaints()
        for frame in self._stream.codec_context.decode(packet):
            if frame.pts is None or frame.pts <= self._shown:
                raise CannotSkip(f"the decoder's frames are out of order at {frame.pts}")
            self._shown = frame.pts
            self.decoded += 1
            for showing in self._expected.pop(frame.pts, ()):
                self._show(frame, showing)
        if self._complaints() > before:
            raise CannotSkip("the decoder complains")


def _entry_test(stream: Any) -> Callable[[Any], bool]:
    """A function that tells whether decoding may start at a packet, for everything that is shown after it.

    The bitstream itself is inspected, since containers also mark frames from which decoding recovers only after a
    while.
    """
    codec = stream.codec_context.codec
    if codec.intra_only:
        return lambda packet: bool(packet.is_keyframe)
    extradata = stream.codec_context.extradata or b""
    prefixed = extradata[:1] == b"\x01"
    if codec.name == "h264":
        length_bytes = (extradata[4] & 3) + 1 if prefixed and len(extradata) > 4 else 0
        return lambda packet: (
            packet.is_keyframe and any(head & 0x1F == _H264_IDR for head in _unit_heads(bytes(packet), length_bytes))
        )
    if codec.name == "hevc":
        length_bytes = (extradata[21] & 3) + 1 if prefixed and len(extradata) > 21 else 0
        return lambda packet: (
            packet.is_keyframe
            and any(head >> 1 & 0x3F in _HEVC_RANDOM_ACCESS for head in _unit_heads(bytes(packet), length_bytes))
        )
    if codec.name == "mpeg4":
        return lambda packet: packet.is_keyframe and _bits_after(bytes(packet), b"\xb6", 0, 2) == 0
    if codec.name in ("mpeg1video", "mpeg2video"):
        return lambda packet: packet.is_keyframe and _bits_after(bytes(packet), b"\x00", 10, 3) == 1
    if codec.name == "vp9":  # frame marker 2, profile 0 to 2, not a frame shown again, a key frame
        return lambda packet: packet.is_keyframe and bytes(packet)[0] & 0b11001100 == 0b10000000
    if codec.name == "vp8":
        return lambda packet: packet.is_keyframe and bytes(packet)[0] & 1 == 0
    return lambda packet: False


def _unit_heads(data: bytes, length_bytes: int) -> Iterator[int]:
    """First byte of each unit of an H.264 or HEVC packet; each unit follows its length, or a start code (0)."""
    at = 0
    while length_bytes and at + length_bytes < len(data):
        yield data[at + length_bytes]
        at += length_bytes + int.from_bytes(data[at : at + length_bytes], "big")
    at = -1 if length_bytes else data.find(_START_CODE)
    while 0 <= at < len(data) - 3:
        yield data[at + 3]
        at = data.find(_START_CODE, at + 3)


def _bits_after(data: bytes, code: bytes, skipped: int, count: int) -> int:
    """The ``count`` bits after the start code ``code`` and ``skipped`` further bits; -1 if there is no such code
    (ISO/IEC 13818-2 and 14496-2).
    """
    at = data.find(_START_CODE + code)
    if at < 0:
        return -1
    return int.from_bytes(data[at + 4 : at + 8].ljust(4, b"\x00"), "big") >> (32 - skipped - count) & ((1 << count) - 1)
