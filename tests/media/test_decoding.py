"""Skipping gives the same frames as decoding everything; where that is not certain, everything is decoded."""

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from merc.media import container
from merc.media.container import FrameWish
from merc.media.decoding import EveryFrame, NeededFrames
from merc.media.spans import span

# file, encoder, its options, time stamps of the frames in 1/100 s (None: 25 per second), encoder's B-frames
KINDS = {
    "h264, B-frames": ("a.mp4", "libx264", {}, None),
    "h264, open GOP and pyramid": (
        "a.mp4",
        "libx264",
        {"x264-params": "open-gop=1:keyint=24:min-keyint=24:b-pyramid=normal:bframes=4:scenecut=0"},
        None,
    ),
    "h264, closed short GOP": (
        "a.mkv",
        "libx264",
        {"x264-params": "keyint=12:min-keyint=12:bframes=3:scenecut=0"},
        None,
    ),
    "h264, intra refresh": ("a.mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=20:bframes=2"}, None),
    "h264, no B-frames": ("a.mp4", "libx264", {"x264-params": "bframes=0:keyint=30"}, None),
    "h264, transport stream": ("a.ts", "libx264", {"x264-params": "keyint=20:min-keyint=20:scenecut=0"}, None),
    "h264, variable frame rate": ("a.mkv", "libx264", {"x264-params": "keyint=25:bframes=3"}, "varying"),
    "h264, AVI without times": ("a.avi", "libx264", {}, None),
    "hevc, open GOP": (
        "a.mp4",
        "libx265",
        {"x265-params": "log-level=none:keyint=24:min-keyint=24:open-gop=1:bframes=4:scenecut=0"},
        None,
    ),
    "hevc, matroska": ("a.mkv", "libx265", {"x265-params": "log-level=none:keyint=250"}, "varying"),
    "mpeg4, B-frames": ("a.mp4", "mpeg4", {"bf": "2", "g": "20", "b": "800k"}, None),
    "mpeg4, B-frames, AVI": ("a.avi", "mpeg4", {"bf": "2", "g": "20", "b": "800k"}, None),
    "mpeg4, AVI": ("a.avi", "mpeg4", {"g": "15", "b": "800k"}, None),
    "msmpeg4, AVI": ("a.avi", "msmpeg4", {"g": "15", "b": "800k"}, None),
    "mpeg2, B-frames": ("a.mpg", "mpeg2video", {"bf": "2", "g": "15", "b": "800k"}, None),
    "vp8": ("a.webm", "libvpx", {"deadline": "realtime", "cpu-used": "8", "g": "20"}, None),
    "vp9, hidden frames": (
        "a.webm",
        "libvpx-vp9",
        {"deadline": "good", "cpu-used": "8", "g": "30", "lag-in-frames": "16", "auto-alt-ref": "1"},
        None,
    ),
    "av1": ("a.mp4", "libsvtav1", {"preset": "12", "g": "30", "svtav1-params": "lp=1"}, None),
    "mjpeg": ("a.avi", "mjpeg", {}, None),
}
# What is wanted: spans, frames in each. Few in long stretches; a few near each other, far from the start; overlapping;
# many.
WISHES = [([(None, None)], 5), ([(2.5, 2.8)], 2), ([(0.3, 2.0), (0.9, 1.4), (3.0, 9.0)], 3), ([(None, None)], 60)]
FRAMES = 100


@contextlib.contextmanager
def ordinary_priority() -> Iterator[None]:
    """SVT-AV1 gives the thread that starts encoding real-time priority if it runs as root, and everything started later
    inherits it: a browser with it kept everything else from running.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    yield
    os.sched_setscheduler(0, policy, parameters)


def write(
    path: Path, encoder: str, options: dict[str, str], times: str | None = None, *, seed: int = 0, sound: bool = False
) -> None:
    """Moving frames with a cut, so that frames reference each other in all ways."""
    if encoder not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no encoder {encoder}")
    rng = np.random.default_rng(seed)
    scenes = [cv2.GaussianBlur(rng.integers(0, 256, (160, 224, 3), dtype=np.uint8), (0, 0), 3) for _ in range(2)]
    scenes = [cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX) for scene in scenes]
    ticks = np.cumsum(rng.integers(1, 12, FRAMES)) if times else 4 * np.arange(FRAMES)
    options = dict(options)
    with ordinary_priority(), av.open(str(path), "w") as out:
        stream = out.add_stream(encoder, rate=100 if times else 25)
        stream.width, stream.height = 96, 64
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        stream.codec_context.max_b_frames = int(options.pop("bf", stream.codec_context.max_b_frames))
        stream.codec_context.gop_size = int(options.pop("g", stream.codec_context.gop_size))
        stream.codec_context.options = options
        for number in range(FRAMES):
            x, y = number % 128, (3 * number) % 96 if number % 40 > 20 else 10
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(scenes[number > 45][y : y + 64, x : x + 96]), format="rgb24"
            )
            frame.pts, frame.time_base = int(ticks[number]), Fraction(1, 100)
            if not times:
                frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


class Recorder:
    """Records times and bytes of the frames it is shown."""

    def __init__(self) -> None:
        self.shown: dict[int, list[tuple[float, bytes]]] = {}
        self.begun_over = 0

    def look(self, picture, seconds, spans):
        for one in spans:
            self.shown.setdefault(one.number, []).append((seconds, picture.rgb().tobytes()))

    def glimpse(self, picture, seconds, spans):
        raise AssertionError("none was wanted")

    def complete(self, span):
        pass

    def start_over(self):
        self.shown = {}
        self.begun_over += 1


def read(path, config, spans, frames, **settings):
    recorder = Recorder()
    settings = config.model_copy(update={"frames_per_clip": frames, "choice": "largest", **settings})
    result = container.read(path, [], [FrameWish(span(*one), "full") for one in spans], recorder, settings)
    return recorder, result


def every_frame(path: Path) -> list[tuple[float, bytes]]:
    """Time from the file's start and bytes of each frame, all decoded, in the decoder's order."""
    with av.open(str(path)) as opened:
        stream = opened.streams.video[0]
        stream.codec_context.thread_count = 1
        origin = (opened.start_time or 0) / av.time_base
        return [
            (
                float(frame.pts * frame.time_base) - origin,
                frame.reformat(format="rgb24", interpolation="AREA", threads=1).to_ndarray().tobytes(),
            )
            for frame in opened.decode(stream)
        ]


def on_screen(frames, kept, count) -> list[tuple[float, bytes]]:
    """The slow way: for each instant the last frame that starts at or before it; each frame once."""
    found = []
    for number in range(count):
        instant = kept.start + (number + 0.5) * (kept.end - kept.start) / count
        begun = [frame for frame in frames if frame[0] <= instant] or frames[:1]
        if begun[-1][0] < kept.end and begun[-1] not in found:
            found.append(begun[-1])
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Writes a kind of file once: its path and all its frames."""
    known = {}

    def make(kind):
        if kind not in known:
            name, *rest = KINDS[kind]
            path = tmp_path_factory.mktemp("kind") / name
            write(path, *rest)
            known[kind] = path, every_frame(path)
        return known[kind]

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_the_frames_are_those_of_decoding_everything(made, config, kind):
    path, frames = made(kind)
    assert len(frames) == FRAMES
    if (
        "AVI without times" in kind
    ):  # the decoder returns frames in order whose times may not be: each counts from the latest so far
        frames = [(max(time for time, _ in frames[: number + 1]), data) for number, (_, data) in enumerate(frames)]
    for spans, count in WISHES:
        recorder, result = read(path, config, spans, count)
        assert not result.troubles
        assert recorder.begun_over == 0
        for number, one in enumerate(result.frame_spans):
            assert recorder.shown.get(number, []) == on_screen(frames, one.kept, count), (spans, count)


def frames_decoded(path, config, monkeypatch, spans, count):
    """How many frames came out of the decoder."""
    readers = []
    begin = NeededFrames.__init__
    monkeypatch.setattr(NeededFrames, "__init__", lambda self, *rest: (readers.append(self), begin(self, *rest))[1])
    recorder, _ = read(path, config, spans, count)
    assert recorder.begun_over == 0
    return readers[-1].decoded


@pytest.mark.parametrize(
    ("kind", "spans", "count", "most"),
    [
        ("h264, B-frames", [(None, None)], 5, 75),
        ("h264, closed short GOP", [(None, None)], 5, 60),
        ("h264, closed short GOP", [(0.0, 0.2), (3.0, 3.2)], 2, 20),
        ("h264, closed short GOP", [(3.4, 3.5)], 1, 12),
        ("hevc, open GOP", [(3.4, 3.5)], 1, 24),
        ("mpeg4, B-frames, AVI", [(None, None)], 5, 40),
        ("mpeg2, B-frames", [(3.4, 3.5)], 1, 10),
        ("vp9, hidden frames", [(3.4, 3.5)], 1, 30),
        ("mjpeg", [(0.5, 0.6), (3.0, 3.2)], 5, 9),
    ],
)
def test_what_no_one_needs_is_not_decoded(made, config, monkeypatch, kind, spans, count, most):
    assert frames_decoded(made(kind)[0], config, monkeypatch, spans, count) <= most


def test_decoding_stops_behind_the_last_frame_that_is_wanted(made, config, monkeypatch):
    for kind in ("h264, no B-frames", "vp8"):
        assert frames_decoded(made(kind)[0], config, monkeypatch, [(0.0, 1.0)], 4) <= 26
    fed = []
    feed = EveryFrame.feed
    monkeypatch.setattr(EveryFrame, "feed", lambda self, packet: (fed.append(packet.pts), feed(self, packet))[1])
    read(made("av1")[0], config, [(0.0, 1.0)], 4)
    assert len(fed) < 60


def packets_of(path: Path) -> list[tuple[int, int]]:
    """Place in the file and size of each packet of the video."""
    with av.open(str(path)) as opened:
        return [(packet.pos, packet.size) for packet in opened.demux(opened.streams.video[0]) if packet.size]


def both_ways(path, config, monkeypatch, spans, count):
    """Recorder and result of the pass that skips, and of one that decodes everything."""
    skipped = read(path, config, spans, count)
    with monkeypatch.context() as patch:
        patch.setattr(NeededFrames, "can_read", staticmethod(lambda *_: False))
        return skipped, read(path, config, spans, count)


@pytest.mark.parametrize("damage", ["whole packet", "middle of a packet", "file cut off"])
@pytest.mark.parametrize(
    "kind", ["h264, B-frames", "h264, closed short GOP", "hevc, open GOP", "mpeg4, B-frames, AVI", "vp9, hidden frames"]
)
def test_a_damaged_file_gives_what_it_gives_when_everything_is_decoded(
    made, config, monkeypatch, tmp_path, kind, damage
):
    path, frames = made(kind)
    content = bytearray(path.read_bytes())
    packets = packets_of(path)
    noise = np.random.default_rng(1)
    # The packet of the single wanted frame in the middle is damaged, and some around it.
    for number in range(49, 54):
        at, size = packets[number]
        if damage == "whole packet":
            content[at : at + size] = noise.bytes(size)
        elif damage == "middle of a packet":
            content[at + size // 2 : at + size] = noise.bytes(size - size // 2)
    if damage == "file cut off":
        del content[packets[60][0] + packets[60][1] // 2 :]
    broken = tmp_path / path.name
    broken.write_bytes(content)
    (recorder, result), (reference, whole) = both_ways(broken, config, monkeypatch, [(1.9, 2.3), (None, None)], 9)
    assert (result.refusal, result.troubles) == (whole.refusal, whole.troubles)
    assert recorder.shown == reference.shown
    with contextlib.suppress(av.FFmpegError):  # damaged enough
        assert every_frame(broken) != frames


def test_damage_in_the_middle_is_reported_in_the_decoders_words(made, config, tmp_path):
    path, _ = made("h264, B-frames")
    content = bytearray(path.read_bytes())
    at, size = packets_of(path)[50]
    content[at : at + size] = b"\xff" * size
    (tmp_path / "a.mp4").write_bytes(content)
    recorder, result = read(tmp_path / "a.mp4", config, [(None, None)], 5)
    assert recorder.begun_over == 1
    assert result.troubles["video"].words.startswith("Invalid data found when processing input")
    assert result.troubles["video"].since == pytest.approx(2.0, abs=0.2)


def test_packets_with_two_frames_make_every_frame_decoded(made, config, monkeypatch, tmp_path):
    """DivX "packed bitstreams": a B-frame in the packet of the previous frame, followed by an empty placeholder
    packet.
    """
    path, _ = made("mpeg4, B-frames")
    packed = tmp_path / "packed.avi"
    with av.open(str(path)) as opened, av.open(str(packed), "w") as out:
        stream = out.add_stream_from_template(opened.streams.video[0])
        held = [bytes(packet) for packet in opened.demux(opened.streams.video[0]) if packet.size]
        for number in range(0, 60, 2):
            for offset, data in enumerate((held[number] + held[number + 1], b"\x00\x00\x01\xb6\x57\xff")):
                packet = av.Packet(data)
                packet.stream, packet.pts, packet.dts = stream, number + offset, number + offset
                packet.time_base = Fraction(1, 25)
                packet.is_keyframe = number == 0
                out.mux(packet)
    (recorder, _), (reference, _) = both_ways(packed, config, monkeypatch, [(None, None)], 5)
    assert recorder.begun_over == 1
    assert recorder.shown == reference.shown


def test_packets_without_times_make_every_frame_decoded(made, config, monkeypatch):
    path, frames = made("h264, B-frames")

    class Timeless:
        """A packet without a presentation time stamp."""

        def __init__(self, packet):
            self._packet = packet

        def __getattr__(self, name):
            return None if name == "pts" else getattr(self._packet, name)

    feed = NeededFrames.feed
    monkeypatch.setattr(NeededFrames, "feed", lambda self, packet: feed(self, Timeless(packet)))
    recorder, result = read(path, config, [(None, None)], 5)
    assert recorder.begun_over == 1
    assert recorder.shown[0] == on_screen(frames, result.frame_spans[0].kept, 5)
