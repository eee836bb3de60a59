"""The audio of an utterance: one span, or several spans in sequence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from merc.media import pack
from merc.media.audio import Sound, SoundSpan, doubts, is_silence
from merc.media.config import Config
from merc.media.container import Pass
from merc.media.rows import OK, Row, Wish, beyond_the_cap, compare_with_annotation, no_stream_words, tell_cut
from merc.media.spans import sample
from merc.records.media import SAMPLE_RATE_HZ


@dataclass(frozen=True)
class HeardSpan:
    """A span whose file has been read.

    Attributes:
        wish: what was requested of it.
        sound: its audio.
        result: the result of reading the file.
    """

    wish: Wish
    sound: SoundSpan
    result: Pass

    @property
    def trouble(self) -> str:
        """What went wrong in the span; empty if nothing did."""
        trouble = self.result.troubles.get("audio")
        return trouble.words if trouble is not None and trouble.touches(self.sound.kept) else ""

    def lose_empty(self) -> None:
        """It has no samples."""
        if self.trouble:
            self.wish.lose("media_undecodable", self.trouble)
        else:
            end = 0.0 if self.result.sound is None else self.result.sound.end_seconds
            self.wish.lose(
                "no_audio_samples", f"no sample from {self.sound.kept.start:.3f} s on; the sound ends at {end:.3f} s"
            )


def settle(row: Row, config: Config) -> None:
    """Fills the audio columns of a row, and its failures, once the last span of the utterance has been read."""
    read, row.sounds = sorted(row.sounds, key=lambda one: one.wish.place.offset_seconds), []
    streams = [one.result.sound for one in read if one.result.sound is not None]
    heard = [one for one in read if one.result.sound is not None]
    for one in read:
        if one.result.sound is None:
            one.wish.lose("no_audio_stream", no_stream_words(one.wish.path, one.result.tracks["audio"]))
    waveforms = [one.sound.waveform() for one in heard]
    row.waveform = _in_place(heard, waveforms, config)
    if not heard or not heard[0].wish.stored:
        return
    sound, waveform = Sound([one.sound for one in heard]), np.concatenate(waveforms)
    row.columns |= {
        "audio_channels": streams[0].channels,
        "audio_channel_used": "; ".join(sound.mixes),
        "sample_rate_source": streams[0].rate_hz,
    }
    row.columns["audio_track_used"] = "; ".join(dict.fromkeys(one.result.tracks["audio"] for one in heard))
    for one, of_span in zip(heard, waveforms, strict=True):
        if not len(of_span):
            one.lose_empty()
    if not len(waveform):
        return
    row.columns["duration_seconds"] = len(waveform) / SAMPLE_RATE_HZ
    clipped = _store_sound(row, sound, waveform, config)
    compare_with_annotation(row, "audio", len(waveform) / SAMPLE_RATE_HZ, config)
    if any(one.sound.cut for one in heard) or beyond_the_cap(heard[0].wish, config):
        whole = (
            heard[0].sound.wanted.seconds if heard[0].sound.wanted.end < float("inf") else heard[0].result.sound_seconds
        )
        tell_cut(heard[0].wish, whole, heard[0].sound.kept.seconds, config)
    if clipped:
        row.remark("audio", "clipped", f"{clipped:.3%} of the samples")
    if troubles := dict.fromkeys(
        one.trouble for one, of_span in zip(heard, waveforms, strict=True) if one.trouble and len(of_span)
    ):
        row.remark("audio", "partly_decoded", "; ".join(troubles))


def _in_place(
    heard: Sequence[HeardSpan], waveforms: Sequence[NDArray[np.float32]], config: Config
) -> NDArray[np.float32] | None:
    """(samples,) the utterance's audio, with silence where a span is too short, so that it matches the frames; None if
    there is none.
    """
    if not any(map(len, waveforms)):
        return None
    whole = heard[0].wish.place.whole_seconds
    if whole is None:
        return waveforms[0]
    laid_S = np.zeros(sample(min(whole, config.max_clip_seconds), SAMPLE_RATE_HZ), np.float32)
    for one, waveform in zip(heard, waveforms, strict=True):
        begin = sample(one.wish.place.offset_seconds, SAMPLE_RATE_HZ)
        laid_S[begin : begin + len(waveform)] = waveform[: len(laid_S) - begin]
    return laid_S


def _store_sound(row: Row, sound: Sound, waveform_S: NDArray[np.float32], config: Config) -> float:
    """Stores the audio in the row and records doubts about it; returns the share of samples that were limited to full
    scale.
    """
    clipped = 0.0
    if sound.lost_samples == sound.samples:
        row.lose("audio", "not_finite", f"none of {sound.samples} samples is a finite number")
    elif is_silence(waveform_S):
        row.lose("audio", "silence", f"all of {len(waveform_S)} samples are the same")
    else:
        row.columns["audio"], clipped = pack.flac(waveform_S)
        row.columns["audio_status"] = OK
        for reason, detail in doubts(waveform_S, sound, config):
            row.remark("audio", reason, detail)
    if sound.undefined_samples and sound.lost_samples < sound.samples:
        row.remark(
            "audio",
            "not_finite_samples",
            f"{sound.undefined_samples} of {sound.samples} samples ({sound.undefined_samples / sound.samples:.3%})",
        )
    return clipped
