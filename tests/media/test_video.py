from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.media import container
from pipeline.media.container import FrameWish
from pipeline.media.spans import span
from pipeline.media.video import region_of


def shown(path: Path, config, wishes, frames):
    """For each wish the (seconds, grey level / 5) of the frames it was shown."""
    seen = {}

    def look(picture, seconds, spans):
        for one in spans:
            seen.setdefault(id(one), []).append((round(seconds, 3), round(float(picture.mean()) / 5)))

    settings = config.model_copy(update={"frames_per_clip": frames})
    result = container.read(path, [], [FrameWish(span(start, end), "full") for start, end in wishes], look, settings)
    assert not result.refusal
    return [seen.get(id(one), []) for one in result.frame_spans], result


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


def test_overlapping_spans_are_served_in_one_pass_whatever_their_order(tmp_path: Path, write_media, config):
    write_media(tmp_path / "long.avi", seconds=4.0, fps=10, layout=None, codec="mpeg4")
    served, result = shown(tmp_path / "long.avi", config, [(2.0, 3.0), (0.0, 2.0), (1.5, 2.5), (3.9, 4.0)], 2)
    assert [[number for _, number in frames] for frames in served] == [[22, 27], [5, 15], [17, 22], [39]]
    assert not result.troubles


def test_seconds_count_from_the_file_s_begin_where_pictures_start_late(tmp_path: Path, write_media, config):
    write_media(tmp_path / "late.mkv", picture_times=[1.0, 1.5, 1.99], seconds=2.0)
    (frames,), result = shown(tmp_path / "late.mkv", config, [(None, None)], 4)
    assert frames[0] == (1.0, 0)
    assert result.frame_spans[0].begin == 0.0


def test_a_span_behind_the_end_is_shown_nothing(tmp_path: Path, write_media, config):
    write_media(tmp_path / "a.mp4", seconds=1.0, layout=None)
    served, _ = shown(tmp_path / "a.mp4", config, [(5.0, 6.0), (0.5, 6.0)], 4)
    assert served[0] == []
    assert served[1]


def test_decoding_stops_behind_the_last_frame_that_is_wanted(tmp_path: Path, write_media, config, monkeypatch):
    write_media(tmp_path / "long.mp4", seconds=30.0, fps=10, layout=None, size=(32, 32))
    decoded = []
    feed = container.FrameStream.feed
    monkeypatch.setattr(container.FrameStream, "feed", lambda self, *rest: (decoded.append(1), feed(self, *rest)))
    shown(tmp_path / "long.mp4", config, [(0.0, 2.0)], 4)
    assert len(decoded) < 25


def test_a_recording_without_a_stated_length_is_sampled_to_its_end(tmp_path: Path, write_media, config):
    write_media(tmp_path / "live.mkv", seconds=4.0, fps=10, layout=None, options={"live": "1"})
    with av.open(str(tmp_path / "live.mkv")) as opened:
        assert opened.duration is None
    (frames,), _ = shown(tmp_path / "live.mkv", config, [(None, None)], 4)
    assert [number for _, number in frames] == [5, 15, 25, 35]


@pytest.mark.parametrize(("region", "columns"), [("full", [0, 1, 2, 3, 4]), ("left", [0, 1]), ("right", [2, 3, 4])])
def test_a_region_is_the_half_of_the_picture(region, columns):
    picture = np.tile(np.arange(5, dtype=np.uint8)[None, :, None], (2, 1, 3))
    assert region_of(picture, region)[0, :, 0].tolist() == columns
