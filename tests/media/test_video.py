import gc
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from merc.media import container
from merc.media.container import FrameWish
from merc.media.spans import span
from merc.media.video import Picture, Pose


class Notes:
    """Records for each span the (seconds, grey level / 5) of the frames it is shown."""

    def __init__(self):
        self.looks, self.glimpses, self.begun_over = {}, {}, 0
        self.sizes, self.last = set(), None

    def look(self, picture, seconds, spans):
        self.sizes.add(picture.size)
        for one in spans:
            self.last = picture.rgb().copy()
            self.looks.setdefault(one.number, []).append((round(seconds, 3), round(float(picture.rgb().mean()) / 5)))

    def glimpse(self, picture, seconds, spans):
        for one in spans:
            self.glimpses.setdefault(one.number, []).append(
                (round(seconds, 3), round(float(picture.grey(32).mean()) / 5))
            )

    def complete(self, span):
        assert span.complete

    def start_over(self):
        self.looks, self.glimpses, self.begun_over = {}, {}, self.begun_over + 1


def watched(path: Path, config, *wishes, **settings):
    """The notes and the result of reading a file."""
    notes = Notes()
    result = container.read(
        path,
        [],
        [FrameWish(span(start, end), "full") for start, end in wishes],
        notes,
        config.model_copy(update=settings),
    )
    assert not result.refusal
    return notes


def shown(path: Path, config, wishes, frames, **settings):
    """For each request the (seconds, grey level / 5) of the frames it was shown."""
    notes = Notes()
    settings = config.model_copy(update={"frames_per_clip": frames, "choice": "largest", **settings})
    result = container.read(path, [], [FrameWish(span(start, end), "full") for start, end in wishes], notes, settings)
    assert not result.refusal
    return [notes.looks.get(number, []) for number in range(len(wishes))], result


def test_frames_are_those_on_the_screen_at_the_centres_of_the_slices(tmp_path: Path, write_media, config):
    write_media(tmp_path / "a.mp4", seconds=2.0, fps=10, layout=None)
    (frames,), _ = shown(tmp_path / "a.mp4", config, [(None, None)], 4)
    assert frames == [(0.2, 2), (0.7, 7), (1.2, 12), (1.7, 17)]


def test_variable_frame_rates_are_sampled_by_time_not_by_number(tmp_path: Path, write_media, config):
    # ten frames in the first second, then one that stays for three
    write_media(tmp_path / "vfr.mp4", picture_times=[*(n / 10 for n in range(10)), 1.0, 3.99], layout=None)
    (frames,), _ = shown(tmp_path / "vfr.mp4", config, [(0.0, 4.0)], 4)
    assert frames == [(0.5, 5), (1.0, 10)]


def test_a_clip_with_fewer_frames_than_asked_for_gives_each_once(tmp_path: Path, write_media, config):
    write_media(tmp_path / "few.mp4", seconds=0.3, fps=10, layout=None)
    (frames,), _ = shown(tmp_path / "few.mp4", config, [(None, None)], 8)
    assert [number for _, number in frames] == [0, 1, 2]


def test_overlapping_spans_are_served_in_one_pass_regardless_of_their_order(tmp_path: Path, write_media, config):
    write_media(tmp_path / "long.avi", seconds=4.0, fps=10, layout=None, codec="mpeg4")
    served, result = shown(tmp_path / "long.avi", config, [(2.0, 3.0), (0.0, 2.0), (1.5, 2.5), (3.9, 4.0)], 2)
    assert [[number for _, number in frames] for frames in served] == [[22, 27], [5, 15], [17, 22], [39]]
    assert not result.troubles


def test_seconds_count_from_the_file_s_begin_where_frames_start_late(tmp_path: Path, write_media, config):
    write_media(tmp_path / "late.mkv", picture_times=[1.0, 1.5, 1.99], seconds=2.0)
    (frames,), result = shown(tmp_path / "late.mkv", config, [(None, None)], 4)
    assert frames[0] == (1.0, 0)
    assert result.frame_spans[0].begin == 0.0


def test_a_span_behind_the_end_is_shown_nothing(tmp_path: Path, write_media, config):
    write_media(tmp_path / "a.mp4", seconds=1.0, layout=None)
    served, _ = shown(tmp_path / "a.mp4", config, [(5.0, 6.0), (0.5, 6.0)], 4)
    assert served[0] == []
    assert served[1]


def test_a_recording_without_a_stated_length_is_sampled_to_its_end(tmp_path: Path, write_media, config):
    write_media(tmp_path / "live.mkv", seconds=4.0, fps=10, layout=None, options={"live": "1"})
    with av.open(str(tmp_path / "live.mkv")) as opened:
        assert opened.duration is None
    (frames,), _ = shown(tmp_path / "live.mkv", config, [(None, None)], 4)
    assert [number for _, number in frames] == [5, 15, 25, 35]


@pytest.mark.parametrize(("region", "columns"), [("full", [0, 1, 2, 3, 4]), ("left", [0, 1]), ("right", [2, 3, 4])])
def test_a_region_is_the_half_of_the_frame(region, columns):
    picture = Picture.from_rgb(np.tile(np.arange(5, dtype=np.uint8)[None, :, None], (2, 1, 3))).part(region)
    assert picture.rgb()[0, :, 0].tolist() == columns
    assert picture.size == (len(columns), 2)


def test_a_square_that_leaves_the_frame_repeats_its_border():
    picture = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    square, scale, corner = Picture.from_rgb(picture).square(-40, 60, 120, 336)
    assert (square.shape, scale, corner) == ((120, 120, 3), 1.0, (-40, 60))
    np.testing.assert_array_equal(square[:60, 40:], picture[60:, :80])
    np.testing.assert_array_equal(square[:, :40], np.repeat(square[:, 40:41], 40, axis=1))
    np.testing.assert_array_equal(square[60:], np.repeat(square[59:60], 60, axis=0))
    for (x, y), nearest in (
        ((-500, -500), picture[:1, :1]),
        ((500, 10), picture[10:20, -1:]),
        ((10, 500), picture[-1:, 10:20]),
    ):
        outside, _, _ = Picture.from_rgb(picture).square(x, y, 10, 336)
        np.testing.assert_array_equal(outside, np.broadcast_to(nearest, (10, 10, 3)))


def test_a_large_square_is_reduced_and_knows_its_place():
    picture = np.zeros((1080, 1920, 3), np.uint8)
    picture[500:580, 900:980] = 255
    square, scale, corner = Picture.from_rgb(picture).square(200, -100, 1200, 336)
    assert square.shape == (336, 336, 3)
    assert scale == pytest.approx(336 / 1200, rel=0.002)
    rows, columns = np.nonzero(square[..., 0] > 128)
    assert columns.mean() / scale + corner[0] == pytest.approx(939.5, abs=3)
    assert rows.mean() / scale + corner[1] == pytest.approx(539.5, abs=3)


def test_frames_are_counted_per_clip_or_per_second(tmp_path: Path, write_media, config):
    write_media(tmp_path / "a.mp4", seconds=4.0, fps=10, layout=None)
    (frames,), _ = shown(tmp_path / "a.mp4", config, [(None, None)], 8, sampling="rate", frames_per_second=1.0)
    assert [number for _, number in frames] == [5, 15, 25, 35]
    (frames,), _ = shown(
        tmp_path / "a.mp4", config, [(None, None)], 8, sampling="rate", frames_per_second=5.0, max_frames_per_clip=2
    )
    assert [number for _, number in frames] == [10, 30]
    (frames,), _ = shown(tmp_path / "a.mp4", config, [(1.0, 1.1)], 8, sampling="rate", frames_per_second=1.0)
    assert [number for _, number in frames] == [10]


def test_glimpses_are_taken_for_the_speaking_choice_alone(tmp_path: Path, write_media, config):
    write_media(tmp_path / "a.mp4", seconds=2.0, fps=10, layout=None)
    wish = (0.0, 1.0)
    notes = watched(tmp_path / "a.mp4", config, wish, choice="speaking", frames_per_clip=2, glimpses_per_second=5.0)
    assert [number for _, number in notes.looks[0]] == [2, 7]
    assert [number for _, number in notes.glimpses[0]] == [1, 3, 5, 7, 9]
    assert watched(tmp_path / "a.mp4", config, wish, choice="largest").glimpses == {}


def test_a_small_frame_is_that_of_the_full_one_reduced():
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 255, (9, 16, 3), dtype=np.uint8), (640, 360), interpolation=cv2.INTER_LINEAR)
    for region, columns in (("full", slice(None)), ("left", slice(320)), ("right", slice(320, None))):
        part = Picture.from_rgb(picture).part(region)
        expected = cv2.resize(picture[:, columns], (160, 360 * 160 // part.size[0]), interpolation=cv2.INTER_AREA)
        small, grey = part.reduced(160), part.grey(160)
        assert np.abs(small.astype(int) - expected).mean() < 2
        # brightness by Rec. ITU-R BT.601
        assert np.abs(grey - expected @ np.array([0.299, 0.587, 0.114])).mean() < 2
    assert Picture.from_rgb(picture).reduced(1000).shape == (360, 640, 3)  # never enlarged


def turned(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Writes a display matrix (a, b, c, d of ISO/IEC 14496-12, 8.3.2) into the header of the only track."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    a, b, c, d = (struct.pack(">i", value << 16) for value in matrix)
    content[at : at + 36] = a + b + bytes(4) + c + d + bytes(4) + bytes(8) + struct.pack(">i", 1 << 30)
    path.write_bytes(content)


@pytest.mark.parametrize(
    # x' = a x + c y, y' = b x + d y, y downwards: where the stored frame's upper left and upper right corners end up
    ("matrix", "bright", "grey"),
    [
        ((1, 0, 0, 1), "upper left", "upper right"),
        ((0, 1, -1, 0), "upper right", "lower right"),
        ((-1, 0, 0, -1), "lower right", "lower left"),
        ((0, -1, 1, 0), "lower left", "upper left"),
        ((-1, 0, 0, 1), "upper right", "upper left"),
        ((1, 0, 0, -1), "lower left", "lower right"),
        ((0, 1, 1, 0), "upper left", "lower left"),
        ((0, -1, -1, 0), "lower right", "upper right"),
        ((0, 0, 0, 0), "upper left", "upper right"),
    ],
)
def test_a_turned_or_mirrored_video_is_put_upright(tmp_path: Path, write_media, config, matrix, bright, grey):
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, :48], picture[:32, 48:] = 250, 125
    write_media(tmp_path / "a.mp4", size=(96, 64), layout=None, pictures_HWC=[picture])
    turned(tmp_path / "a.mp4", matrix)
    notes = watched(tmp_path / "a.mp4", config, (None, None), choice="largest")
    upright = notes.last[..., 0]
    assert notes.sizes == {(64, 96) if matrix[1] else (96, 64)}
    height, width = upright.shape
    levels = {
        f"{row} {column}": round(float(upright[rows, columns].mean()) / 125)
        for row, rows in (("upper", slice(0, height // 2)), ("lower", slice(height // 2, None)))
        for column, columns in (("left", slice(0, width // 2)), ("right", slice(width // 2, None)))
    }
    assert {place: level for place, level in levels.items() if level} == {bright: 2, grey: 1}


@pytest.mark.parametrize(
    ("aspect", "size"),
    [(Fraction(2), (128, 48)), (Fraction(1, 2), (64, 96)), (Fraction(16, 15), (68, 48)), (Fraction(50), (64, 48))],
)
def test_pixels_that_are_not_square_are_made_so(tmp_path: Path, write_media, config, aspect, size):
    circle = np.zeros((48, 64, 3), np.uint8)
    circle[16:32, 24:40] = 250
    write_media(tmp_path / "a.mp4", layout=None, pixel_aspect=aspect, pictures_HWC=[circle])
    notes = watched(tmp_path / "a.mp4", config, (None, None), choice="largest")
    assert notes.sizes == {size}
    rows, columns = np.nonzero(notes.last[..., 0] > 128)
    believed = aspect if aspect < 3 else 1
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(float(believed), rel=0.15)


@pytest.mark.parametrize(
    ("pixel_format", "size"),
    # Odd sizes with 8 bits only: FFmpeg's conversion from RGB to 10 bits, with which the file is made, reads past the
    # end of odd lines.
    [
        *((name, size) for name in ("gray", "yuv444p", "yuv420p", "bgr0") for size in ((64, 48), (33, 17))),
        *((name, (64, 48)) for name in ("gray10le", "yuv420p10le", "yuv444p10le")),
    ],
)
def test_frames_of_any_format_and_size_are_read(tmp_path: Path, write_media, config, pixel_format, size):
    write_media(tmp_path / "a.mkv", size=size, layout=None, codec="ffv1", pixel_format=pixel_format)
    notes = watched(tmp_path / "a.mkv", config, (0.0, 1.0), frames_per_clip=5, choice="largest")
    assert notes.sizes == {size}
    assert [number for _, number in notes.looks[0]] == [1, 3, 5, 7, 9]


def shifted(source_path: Path, path: Path, seconds: float) -> None:
    """Writes the same packets, shifted in time."""
    with av.open(str(source_path)) as source, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                shift = round(seconds / packet.time_base)
                index, packet.pts, packet.dts = packet.stream.index, packet.pts + shift, packet.dts + shift
                packet.stream = streams[index]
                out.mux(packet)


@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4"])
def test_time_stamps_that_begin_later_show_the_same_frames(tmp_path: Path, write_media, config, suffix):
    write_media(tmp_path / "plain.mp4", seconds=2.0, rate_hz=44_100)
    seen = []
    for seconds in (0.0, 0.3, 30.0, 100.0):
        path = tmp_path / f"later{seconds}.{suffix}"
        shifted(tmp_path / "plain.mp4", path, seconds)
        (frames,), result = shown(path, config, [(None, None)], 4)
        seen.append([number for _, number in frames])
        assert not result.frame_spans[0].cut
        assert result.frame_spans[0].wanted.seconds == pytest.approx(2.0, abs=0.03)
        assert not result.troubles
    assert seen == [[2, 7, 12, 17]] * 4


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_frames_that_end_before_the_audio_are_looked_at_to_their_own_end(tmp_path: Path, write_media, config, suffix):
    write_media(tmp_path / f"a.{suffix}", seconds=1.0, fps=20, sound_CS=np.zeros((1, 64_000), np.float32))
    (frames,), _ = shown(tmp_path / f"a.{suffix}", config, [(None, None)], 4)
    assert [number for _, number in frames] == [2, 7, 12, 17]


def test_a_stated_length_that_the_packets_belie_is_not_believed(tmp_path: Path, write_media, config):
    write_media(tmp_path / "a.mp4", seconds=4.0, layout=None, options={"use_editlist": "0"})
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    at = content.index(b"mdhd") + 20
    content[at : at + 4] = struct.pack(">I", struct.unpack(">I", content[at : at + 4])[0] // 10)
    (tmp_path / "a.mp4").write_bytes(content)
    with av.open(str(tmp_path / "a.mp4")) as opened:
        assert float(opened.streams.video[0].duration * opened.streams.video[0].time_base) == pytest.approx(0.4)
    (frames,), _ = shown(tmp_path / "a.mp4", config, [(None, None)], 4)
    assert [number for _, number in frames] == [5, 15, 25, 35]


@pytest.mark.parametrize(
    ("suffix", "wish", "frames"),
    [
        # an edit list: what comes before zero is decoded and not shown
        ("mp4", (0.0, 1.2), [(0.1, 9), (0.4, 12), (0.7, 15), (1.0, 18)]),
        # the file begins with its audio, 0.064 s before the first frame
        ("ts", (0.0, 2.0), [(0.164, 1), (0.664, 6), (1.164, 11), (1.664, 16)]),
    ],
)
def test_times_before_zero_are_understood(tmp_path: Path, write_media, config, suffix, wish, frames):
    write_media(tmp_path / "plain.mp4", seconds=2.0)
    path = tmp_path / f"shifted.{suffix}"
    shifted(tmp_path / "plain.mp4", path, -0.75)
    notes = watched(path, config, wish, frames_per_clip=4, choice="largest")
    assert notes.looks[0] == frames
    assert notes.begun_over == 0


def test_a_frame_that_was_shown_goes_at_once(tmp_path: Path, write_media):
    write_media(tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as opened:
        frame = next(opened.decode(video=0))
    gc.disable()
    try:
        picture = Picture(frame, Pose.of(frame))
        alive = len([one for one in gc.get_objects() if type(one) is av.VideoFrame])
        del picture, frame
        assert len([one for one in gc.get_objects() if type(one) is av.VideoFrame]) == alive - 1
    finally:
        gc.enable()
