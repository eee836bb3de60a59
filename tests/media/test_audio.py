import io
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from merc.media import pack
from merc.media.audio import SoundSpan, SoundStream, describe_mix, mix_weights, side_weights
from merc.media.clip import decode_dialogue
from merc.media.spans import Span
from merc.media.tasks import DialogueTask


def heard(row):
    waveform, rate_hz = soundfile.read(io.BytesIO(row["audio"]), dtype="float32")
    assert rate_hz == 16_000
    assert waveform.ndim == 1
    return waveform


def loudness(waveform, edge=2000):
    return float(np.sqrt(np.mean(waveform[edge:-edge] ** 2)))


def tone(hertz, seconds, rate_hz, level=0.3):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def frame_of(values_CS, layout, rate_hz):
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values_CS, dtype=np.float32), format="fltp", layout=layout)
    frame.sample_rate = rate_hz
    return frame


@pytest.mark.parametrize(
    ("channels", "weights"),
    [
        ("FC", [1.0]),
        ("FL FR", [0.5, 0.5]),
        ("FL FR FC LFE BL BR", [0.7071, 0.7071, 1.0, 0.0, 0.5, 0.5]),
        ("FL FR FC LFE SL SR", [0.7071, 0.7071, 1.0, 0.0, 0.5, 0.5]),
        ("FC FL FR", [1.0, 0.7071, 0.7071]),
        ("FL FR BL BR", [0.25, 0.25, 0.25, 0.25]),
        ("FL FR LFE", [0.5, 0.5, 0.0]),
        ("unnamed0 unnamed1 unnamed2 unnamed3", [0.25, 0.25, 0.25, 0.25]),
    ],
)
def test_channels_are_mixed_by_their_names(config, channels, weights):
    assert mix_weights(channels.split(), config) == weights


def test_the_mix_is_described_loudest_first_and_without_what_is_left_out():
    assert (
        describe_mix("FL FR FC LFE BL BR".split(), [0.7071, 0.7071, 1.0, 0.0, 0.5, 0.5])
        == "FC*1+FL*0.7071+FR*0.7071+BL*0.5+BR*0.5"
    )


def test_speech_in_the_front_centre_of_six_channels_keeps_its_loudness(tmp_path: Path, write_media, decode_one):
    sound = np.zeros((6, 48_000), np.float32)
    sound[2] = tone(440, 1.0, 48_000)  # FL FR FC LFE BL BR
    write_media(tmp_path / "six.mp4", layout="5.1", rate_hz=48_000, sound_CS=sound)
    row, failures = decode_one(tmp_path, "six.mp4")
    assert failures == [("visual", "no_face")]
    assert (row["audio_channels"], row["sample_rate_source"]) == (6, 48_000)
    assert row["audio_channel_used"] == "FC*1+FL*0.7071+FR*0.7071+BL*0.5+BR*0.5"
    # a sine of 0.3: AAC changes the level by well under 2 %
    assert loudness(heard(row)) == pytest.approx(0.3 / np.sqrt(2), rel=0.02)


def test_audio_of_22050_hz_keeps_its_pitch_and_length(tmp_path: Path, write_media, decode_one):
    write_media(
        tmp_path / "odd.wav", size=None, sound_codec="pcm_s16le", rate_hz=22_050, sound_CS=tone(1000, 1.0, 22_050)[None]
    )
    row, failures = decode_one(tmp_path, "odd.wav")
    waveform = heard(row)
    assert (row["sample_rate_source"], row["audio_channels"], row["duration_seconds"]) == (22_050, 1, 1.0)
    assert int(np.abs(np.fft.rfft(waveform)).argmax()) == 1000  # one second: the bins are Hertz
    assert failures == [("visual", "no_video_stream")]


def test_channels_without_names_are_averaged(tmp_path: Path, write_media, decode_one):
    sound = np.stack([tone(440, 0.5, 48_000)] * 5 + [np.zeros(24_000, np.float32)])
    write_media(
        tmp_path / "six.mkv", size=None, layout="5.1", rate_hz=48_000, sound_codec="pcm_s16le", sound_CS=sound
    )  # Matroska keeps no names
    row, _ = decode_one(tmp_path, "six.mkv")
    assert row["audio_channel_used"] == "+".join(f"unnamed{index}*0.1667" for index in range(6))
    assert loudness(heard(row)) == pytest.approx(0.3 * 5 / 6 / np.sqrt(2), rel=0.01)


def test_a_16_khz_wav_comes_through_unchanged(tmp_path: Path, decode_one):
    values = np.random.default_rng(0).integers(-(2**15), 2**15, 8000, dtype=np.int16)
    soundfile.write(tmp_path / "noise.wav", values, 16_000, subtype="PCM_16")
    row, _ = decode_one(tmp_path, "noise.wav")
    stored, _ = soundfile.read(io.BytesIO(row["audio"]), dtype="int16")
    np.testing.assert_array_equal(stored, values)


def test_a_span_of_a_longer_file_is_cut_to_the_sample(tmp_path: Path, decode_one):
    values = np.arange(16_000, dtype=np.int16)
    soundfile.write(tmp_path / "ramp.wav", values, 16_000, subtype="PCM_16")
    row, _ = decode_one(tmp_path, "ramp.wav", audio_start_seconds=0.25, audio_end_seconds=0.5)
    stored, _ = soundfile.read(io.BytesIO(row["audio"]), dtype="int16")
    np.testing.assert_array_equal(stored, values[4000:8000])


def test_sixty_milliseconds_of_audio_count_as_audio(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "short.wav", size=None, sound_codec="pcm_s16le", seconds=0.06)
    row, _ = decode_one(tmp_path, "short.wav")
    assert (row["audio_status"], row["duration_seconds"], len(heard(row))) == ("ok", 0.06, 960)


@pytest.mark.parametrize("level", [0.0, 0.25], ids=["zeros", "a constant"])
def test_digital_silence_is_absent_and_said_once(tmp_path: Path, write_media, decode_one, level):
    write_media(
        tmp_path / "still.wav", size=None, sound_codec="pcm_s16le", sound_CS=np.full((1, 16_000), level, np.float32)
    )
    row, failures = decode_one(tmp_path, "still.wav")
    assert (row["audio_status"], row["audio"], row["duration_seconds"]) == ("silence", b"", 1.0)
    assert [reason for modality, reason in failures if modality == "audio"] == ["silence"]


@pytest.mark.parametrize(
    ("sound", "reasons"),
    [
        (tone(440, 1.0, 16_000, level=0.3), []),
        (tone(440, 1.0, 16_000, level=0.0015), []),  # 59.5 dB below full scale
        (tone(440, 1.0, 16_000, level=0.0013), ["nearly_silent"]),  # 60.7
        (np.r_[np.zeros(15_999), 1 / 2**15], ["nearly_silent"]),  # one sample differs by one step
        (tone(440, 0.1, 16_000), []),
        (tone(440, 0.09, 16_000), ["nearly_empty"]),
        (tone(440, 0.09, 16_000, level=0.001), ["nearly_empty", "nearly_silent"]),
        (np.full(1, 0.5), ["silence"]),
    ],
)
def test_audio_that_is_hardly_there_is_kept_and_recorded(tmp_path: Path, write_media, decode_one, sound, reasons):
    write_media(
        tmp_path / "sound.wav", size=None, sound_codec="pcm_s16le", sound_CS=np.asarray(sound, np.float32)[None]
    )
    row, failures = decode_one(tmp_path, "sound.wav")
    assert [reason for modality, reason in failures if modality == "audio"] == reasons
    assert row["audio_status"] == ("silence" if "silence" in reasons else "ok")
    assert row["duration_seconds"] == len(sound) / 16_000


def flattened(level):
    """A tone cut off at full scale: of a sine of 1.25, two fifths are beyond."""
    return np.clip(tone(100, 1.0, 16_000, level=level), -1.0, 32767 / 32768)


@pytest.mark.parametrize(
    ("channels", "layout", "recorded"),
    [
        ([flattened(1.25)], "mono", True),
        ([flattened(0.99)], "mono", False),
        ([np.where(np.arange(16_000) % 50 < 2, 32767 / 32768, 0.1)], "mono", False),  # two in a row are a peak
        ([np.where(np.arange(16_000) % 50 < 3, 32767 / 32768, 0.1)], "mono", True),
        ([np.where(np.arange(16_000) < 15, 32767 / 32768, 0.1)], "mono", False),  # less than one sample in a thousand
        ([flattened(0.2), flattened(1.25)], "stereo", True),
        (
            [flattened(0.2)] * 3 + [flattened(1.25)] + [flattened(0.2)] * 2,
            "5.1",
            False,
        ),  # the low-frequency channel, which is inaudible
    ],
)
def test_a_recording_that_was_too_loud_is_recorded(tmp_path: Path, write_media, decode_one, channels, layout, recorded):
    write_media(
        tmp_path / "loud.wav",
        size=None,
        sound_codec="pcm_s16le",
        layout=layout,
        sound_CS=np.stack(channels).astype(np.float32),
    )
    row, failures = decode_one(tmp_path, "loud.wav")
    assert row["audio_status"] == "ok"
    assert (("audio", "source_clipped") in failures) == recorded


def test_the_share_of_clipped_samples_is_that_of_the_span(config):
    values = np.zeros(1000, np.float32)
    values[100:110] = 1.0
    values[500] = -1.0
    spans = [SoundSpan(Span(0.0, 0.03125), 60.0), SoundSpan(Span(0.03125, 0.0625), 60.0)]
    stream = SoundStream(spans, config)
    stream.feed(frame_of(values[None], "mono", 16_000), 0.0)
    assert [span.flat_share for span in spans] == [10 / 500, 0.0]


def test_one_side_of_stereo_audio_can_be_wanted(tmp_path: Path, decode_one):
    left, right = np.arange(1, 8001, dtype=np.int16), np.arange(-8000, 0, dtype=np.int16)
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], axis=1), 16_000, subtype="PCM_16")
    for side, values, name in (("left", left, "unnamed0*1"), ("right", right, "unnamed1*1")):  # a wav keeps no names
        row, failures = decode_one(tmp_path, "two.wav", audio_channel=side)
        stored, _ = soundfile.read(io.BytesIO(row["audio"]), dtype="int16")
        np.testing.assert_array_equal(stored, values)
        assert (row["audio_channel_used"], row["audio_channels"]) == (name, 2)
        assert ("audio", "channel_missing") not in failures


def test_without_sides_all_channels_are_mixed_and_that_is_recorded(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "one.wav", size=None, sound_codec="pcm_s16le")
    row, failures = decode_one(tmp_path, "one.wav", audio_channel="right")
    assert (row["audio_status"], row["audio_channel_used"]) == ("ok", "unnamed0*1")
    assert ("audio", "channel_missing") in failures


@pytest.mark.parametrize(
    ("channels", "weights"),
    [
        ("FL FR", [0.0, 1.0]),
        ("FL FR FC LFE", [0.0, 1.0, 0.0, 0.0]),
        ("unnamed0 unnamed1", [0.0, 1.0]),
        ("unnamed0 unnamed1 unnamed2", None),
        ("FC", None),
    ],
)
def test_the_right_side_is_found_by_its_name(channels, weights):
    assert side_weights(channels.split(), "right") == weights


def test_utterances_of_one_stereo_file_each_get_their_speakers_side(config):
    values = np.stack([np.full(1600, 0.25), np.full(1600, 0.5)])
    spans = [SoundSpan(Span(0.0, 0.1), 60.0, side) for side in ("left", "right", "mix")]
    stream = SoundStream(spans, config)
    stream.feed(frame_of(values, "stereo", 16_000), 0.0)
    assert [float(span.waveform()[0]) for span in spans] == [0.25, 0.5, 0.375]
    assert [span.mixes for span in spans] == [["FL*1"], ["FR*1"], ["FL*0.5+FR*0.5"]]


@pytest.mark.parametrize(
    ("hertz", "change_db"),
    [(100, 0.0), (1_000, 0.0), (6_000, 0.0), (7_000, 0.0), (9_000, -100.0), (15_000, -100.0), (23_000, -100.0)],
)
def test_resampling_keeps_what_16_khz_can_hold_and_nothing_folds_back(config, hertz, change_db):
    span = SoundSpan(Span(0.0, 10.0), 60.0)
    SoundStream([span], config).feed(frame_of(tone(hertz, 1.0, 48_000)[None], "mono", 48_000), 0.0)
    change = 20 * np.log10(loudness(span.waveform()) / loudness(tone(hertz, 1.0, 48_000)))
    assert change == pytest.approx(change_db, abs=0.05) if change_db == 0 else change < change_db


def test_audio_that_starts_late_is_preceded_by_silence(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "late.mkv", seconds=1.0, sound_begin=0.5, sound_codec="pcm_s16le")
    waveform = heard(decode_one(tmp_path, "late.mkv")[0])
    assert len(waveform) == pytest.approx(24_000, abs=100)
    assert not waveform[:7900].any()
    assert loudness(waveform[8100:]) == pytest.approx(0.3 / np.sqrt(2), rel=0.02)


def test_a_mix_beyond_full_scale_is_limited_and_recorded(tmp_path: Path, write_media, decode_one):
    loud = np.repeat(tone(440, 1.0, 48_000, level=0.9)[None], 6, axis=0)
    write_media(tmp_path / "loud.mp4", layout="5.1", rate_hz=48_000, sound_CS=loud)
    row, failures = decode_one(tmp_path, "loud.mp4")
    assert ("audio", "clipped") in failures
    assert np.abs(heard(row)).max() == pytest.approx(1.0, abs=1e-4)


def test_limiting_counts_only_what_is_beyond_full_scale():
    data, share = pack.flac(np.array([0.0, 1.0, -1.0, 1.5, -2.0, 0.5, 0.25, 0.125], np.float32))
    stored, _ = soundfile.read(io.BytesIO(data), dtype="int16")
    assert share == 0.25
    assert stored.tolist() == [0, 32767, -32768, 32767, -32768, 16384, 8192, 4096]


def test_a_stream_that_changes_layout_and_rate_midway_is_put_together(config):
    span = SoundSpan(Span(0.0, 10.0), 60.0)
    stream = SoundStream([span], config)
    stream.feed(frame_of(np.full((2, 16_000), 0.25), "stereo", 16_000), 0.0)
    stream.feed(frame_of(np.full((1, 48_000), 0.5), "mono", 48_000), 1.0)
    waveform = span.waveform()
    assert len(waveform) == 32_000
    np.testing.assert_allclose(waveform[:16_000], 0.25)
    np.testing.assert_allclose(waveform[17_000:31_000], 0.5, atol=1e-4)
    assert span.mixes == ["FL*0.5+FR*0.5", "FC*1"]
    assert (stream.channels, stream.rate_hz) == (2, 16_000)


def test_overlapping_spans_of_one_stream_each_get_their_samples(config):
    values = np.arange(1000, dtype=np.float32)[None] / 1000
    spans = [SoundSpan(Span(0.02, 0.05), 60.0), SoundSpan(Span(0.0, 0.03), 60.0), SoundSpan(Span(0.06, 0.0625), 60.0)]
    stream = SoundStream(spans, config)
    for begin in range(0, 1000, 160):
        stream.feed(frame_of(values[:, begin : begin + 160], "mono", 16_000), begin / 16_000)
    np.testing.assert_array_equal(spans[0].waveform(), values[0, 320:800])
    np.testing.assert_array_equal(spans[1].waveform(), values[0, 0:480])
    np.testing.assert_array_equal(spans[2].waveform(), values[0, 960:1000])


@pytest.mark.parametrize("rate_hz", [1, 2_000_000_000])
def test_a_sample_rate_that_no_file_has_is_an_error(config, rate_hz):
    stream = SoundStream([SoundSpan(Span(0.0, 10.0), 60.0)], config)
    with pytest.raises(ValueError, match=f"{rate_hz} Hz"):
        stream.feed(frame_of(np.zeros((1, 10)), "mono", rate_hz), 5.0)


def test_a_time_stamp_far_in_the_future_costs_no_memory(config):
    span = SoundSpan(Span(0.0, float("inf")), 2.0)
    stream = SoundStream([span], config)
    stream.feed(frame_of(np.full((1, 160), 0.5), "mono", 16_000), 0.0)
    stream.feed(frame_of(np.full((1, 160), 0.5), "mono", 16_000), 1e9)
    assert stream.done
    assert span.cut
    assert len(span.waveform()) == 32_000


def write_float_wav(path: Path, sound_SC, rate_hz=16_000):
    soundfile.write(path, sound_SC, rate_hz, subtype="FLOAT")


def told(folder: Path, name: str, config, make_clip, **fields):
    """The row, and the failures of the audio as reason → detail."""
    task = DialogueTask(folder, "x", (make_clip(name, **fields),), frozenset({"audio"}), config, None)
    ((row, failures),) = decode_dialogue(task)
    return row, {failure["reason"]: failure["detail"] for failure in failures}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_not_finite_become_zeros_and_are_counted(tmp_path: Path, config, make_clip, bad):
    sound = tone(440, 1.0, 16_000)
    broken = sound.copy()
    broken[4_000:4_400] = bad
    write_float_wav(tmp_path / "a.wav", broken)
    row, failures = told(tmp_path, "a.wav", config, make_clip)
    assert failures == {"not_finite_samples": "400 of 16000 samples (2.500%)"}
    waveform = heard(row)
    assert not waveform[4_000:4_400].any()
    sound[4_000:4_400] = 0
    assert np.abs(waveform - sound).max() < 1e-4


def test_samples_that_are_not_finite_leave_the_other_channel_and_other_spans_alone(tmp_path: Path, config, make_clip):
    sound = np.stack([tone(440, 1.0, 48_000)] * 2, axis=1)
    sound[24_000:24_480, 0] = np.nan
    write_float_wav(tmp_path / "a.wav", sound, 48_000)
    row, failures = told(tmp_path, "a.wav", config, make_clip)
    assert failures == {"not_finite_samples": "480 of 48000 samples (1.000%)"}
    assert loudness(heard(row)[8_020:8_140], 1) == pytest.approx(0.15 / np.sqrt(2), rel=0.1)
    assert told(tmp_path, "a.wav", config, make_clip, audio_start_seconds=0.0, audio_end_seconds=0.4)[1] == {}


def test_audio_without_one_finite_sample_is_broken(tmp_path: Path, config, make_clip):
    write_float_wav(tmp_path / "a.wav", np.full(16_000, np.nan, np.float32))
    row, failures = told(tmp_path, "a.wav", config, make_clip)
    assert (row["audio_status"], row["audio"]) == ("not_finite", b"")
    assert failures == {"not_finite": "none of 16000 samples is a finite number"}


def test_a_channel_without_one_finite_sample_does_not_take_the_other_with_it(tmp_path: Path, config, make_clip):
    right = tone(440, 1.0, 16_000)
    write_float_wav(tmp_path / "a.wav", np.stack([np.full(16_000, np.nan, np.float32), right], axis=1))
    row, failures = told(tmp_path, "a.wav", config, make_clip)
    assert row["audio_status"] == "ok"
    assert failures == {"not_finite_samples": "16000 of 16000 samples (100.000%)"}
    assert np.abs(heard(row) - 0.5 * right).max() < 1e-4


def test_channels_that_cancel_each_other_are_heard_one_at_a_time(tmp_path: Path, config, make_clip):
    left = tone(440, 1.0, 48_000)
    write_float_wav(tmp_path / "a.wav", np.stack([left, -left], axis=1), 48_000)
    row, failures = told(tmp_path, "a.wav", config, make_clip)
    assert (row["audio_status"], row["audio_channel_used"]) == ("ok", "unnamed0*1")
    assert failures == {
        "out_of_phase": "the mix has 0.000% of the energy that one channel brings; unnamed0 alone is used"
    }
    assert loudness(heard(row)) == pytest.approx(0.3 / np.sqrt(2), rel=0.001)


def test_channels_that_nearly_cancel_leave_the_louder_one(tmp_path: Path, config, make_clip):
    rng = np.random.default_rng(0)
    left = rng.normal(0, 0.1, 48_000).astype(np.float32)
    sound = np.stack([-0.95 * left, left], axis=1)
    sound[20_000:30_000] *= 0  # a pause, with a little noise that is in phase
    sound[20_000:30_000] += rng.normal(0, 1e-4, (10_000, 1)).astype(np.float32)
    write_float_wav(tmp_path / "a.wav", sound, 48_000)
    row, failures = told(tmp_path, "a.wav", config, make_clip)
    assert (row["audio_channel_used"], list(failures)) == ("unnamed1*1", ["out_of_phase"])
    assert np.corrcoef(heard(row)[:6_000], heard_alone(tmp_path, sound[:, 1], config, make_clip)[:6_000])[0, 1] > 0.999


def heard_alone(folder, sound_S, config, make_clip):
    write_float_wav(folder / "alone.wav", sound_S, 48_000)
    return heard(told(folder, "alone.wav", config, make_clip)[0])


def test_surround_channels_that_cancel_are_heard_too_and_a_full_centre_is_not_a_loss(
    tmp_path: Path, write_media, config, make_clip
):
    for name, centre, used in (("silent", 0.0, "FL*1"), ("full", 1.0, "FC*1+FL*0.7071+FR*0.7071+BL*0.5+BR*0.5")):
        sound = np.zeros((6, 48_000), np.float32)
        sound[0], sound[1], sound[2] = tone(440, 1.0, 48_000), -tone(440, 1.0, 48_000), centre * tone(300, 1.0, 48_000)
        write_media(
            tmp_path / f"{name}.wav", size=None, layout="5.1", rate_hz=48_000, sound_CS=sound, sound_codec="pcm_s16le"
        )
        row, failures = told(tmp_path, f"{name}.wav", config, make_clip)
        assert row["audio_channel_used"] == used
        assert list(failures) == (["out_of_phase"] if name == "silent" else [])


def test_a_voice_on_one_of_many_channels_is_not_a_loss_of_phase(tmp_path: Path, config, make_clip):
    sound = np.zeros((16_000, 16), np.float32)
    sound[:, 3] = tone(440, 1.0, 16_000)
    write_float_wav(tmp_path / "a.wav", sound)
    assert told(tmp_path, "a.wav", config, make_clip)[1] == {}
