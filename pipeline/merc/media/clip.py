"""A dialogue's files become its rows of the media table, with a failure row for everything that is missing or was cut."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from merc import files
from merc.media import container, faces, pack, speaker, tracks
from merc.media.audio import SoundSpan, doubts, is_silence
from merc.media.config import Config
from merc.media.faces import FaceFinder, Sighting
from merc.media.spans import Span, span
from merc.media.speaker import Choice, Glimpse
from merc.media.tasks import NOT_DECODED, Clip, DialogueTask
from merc.media.video import FrameSpan, Picture
from merc.records.failures import Failure
from merc.records.media import SAMPLE_RATE_HZ

OK = "ok"


@dataclass
class Row:
    """One utterance in the making.

    Attributes:
        clip: what the manifest says of it.
        columns: the row of the media table.
        failures: rows of the failure table, JSON-able.
        heard: the sound has been read, or there is none.
        waveform: (samples,) float32 at 16 kHz, as far as there is any.
    """

    clip: Clip
    columns: dict[str, Any]
    failures: list[dict[str, Any]] = field(default_factory=list)
    heard: bool = False
    waveform: NDArray[np.float32] | None = None

    def remark(self, modality: str, reason: str, detail: str) -> None:
        """Adds a failure row."""
        self.failures.append(Failure(self.clip.utterance_id, "media", modality, reason, detail).row())

    def lose(self, modality: str, reason: str, detail: str) -> None:
        """There is nothing of this modality: its status says why, and a failure row says more."""
        self.columns[f"{modality}_status"] = reason
        self.remark(modality, reason, detail)


class Observer(Protocol):
    """Is shown what is seen of an utterance, and who is chosen, as it happens. What comes later of the same instant or utterance replaces the earlier."""

    def look(self, utterance_id: str, seconds: float, picture: Picture) -> None:
        """A frame is searched for faces: ``seconds`` from the utterance's begin, the picture or its half; to be copied from, not kept."""

    def choose(
        self,
        utterance_id: str,
        looks: Sequence[tuple[float, Sequence[Sighting]]],
        glimpses: Sequence[Glimpse],
        waveform_S: NDArray[np.float32] | None,
        persons: Sequence[tracks.Track],
        choice: Choice,
    ) -> None:
        """A face is chosen: arguments and result of :func:`merc.media.speaker.choose`."""


def decode_dialogue(task: DialogueTask, observer: Observer | None = None) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Decodes utterances of one dialogue; no part of a file is decoded twice, however many utterances lie in it.

    Args:
        task: what is wanted.
        observer: is shown what the rows do not keep; changes nothing.

    Returns:
        Per utterance, in order: its row of the media table, and its failure rows (sound before pictures).
    """
    rows = [Row(clip, _empty(clip)) for clip in task.clips]
    for row in rows:
        _cut_to_annotation(row, task)
    wishes: dict[str, list[_Wish]] = {}
    for row in rows:
        for wish in _wishes_of(row, task):
            wishes.setdefault(wish.path, []).append(wish)
    # Sound first, where several utterances share a file: each one's face can be chosen as soon as its last frame has been seen, and
    # its pictures need not be kept. (The packets are read twice then, but decoded once.) The clip of one utterance is read in one pass.
    passes: list[list[_Wish]] = []
    for of_file in wishes.values():
        if len({wish.row.clip.utterance_id for wish in of_file}) > 1:
            passes += [[wish for wish in of_file if wish.modality == modality] for modality in ("audio", "visual")]
        else:
            passes.append(of_file)
    portraits: list[_Portrait] = []
    for of_pass in sorted(passes, key=lambda one: any(wish.modality == "visual" for wish in one)):
        if of_pass:
            portraits += _decode_file(task, of_pass[0].path, of_pass, observer)
    for portrait in portraits:
        _settle_faces(portrait, task.config)
    return [(row.columns, sorted(row.failures, key=lambda failure: str(failure["modality"]))) for row in rows]


def without_result(task: DialogueTask, reason: str, detail: str) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The rows of a task whose worker did not survive it: nothing of any stream, and why."""
    rows = [Row(clip, _empty(clip)) for clip in task.clips]
    for row in rows:
        for modality in sorted(task.streams):
            row.lose(modality, reason, detail)
    return [(row.columns, row.failures) for row in rows]


@dataclass(frozen=True)
class _Wish:
    """What one utterance wants of one file.

    Attributes:
        stored: it goes into the row; sound that nobody asked for is still heard, to see whose mouth moves with it.
    """

    row: Row
    modality: str
    path: str
    wanted: Span
    stored: bool = True

    def lose(self, reason: str, detail: str) -> None:
        """See :meth:`Row.lose`."""
        if self.stored:
            self.row.lose(self.modality, reason, detail)


def _wishes_of(row: Row, task: DialogueTask) -> list[_Wish]:
    clip, listening = row.clip, "visual" in task.streams and task.config.choice == "speaking"
    found = []
    for modality, path, start, end, stored in (
        ("audio", clip.audio_path, clip.audio_start_seconds, clip.audio_end_seconds, "audio" in task.streams),
        ("visual", clip.video_path, clip.video_start_seconds, clip.video_end_seconds, True),
    ):
        if modality in task.streams or (modality == "audio" and listening):
            try:
                found.append(_Wish(row, modality, path, span(start, end), stored))
            except ValueError as error:
                if stored:
                    row.lose(modality, "no_audio_samples" if modality == "audio" else "no_video_frames", str(error))
    row.heard = all(wish.modality != "audio" for wish in found)
    return found


def _cut_to_annotation(row: Row, task: DialogueTask) -> None:
    """Where a file is longer than it should be, only its beginning is taken: the corpus cut it at the utterance's begin, and the next one's end."""
    clip = row.clip
    if clip.expected_seconds is None:
        return
    ends: dict[str, Any] = {}
    for modality, path, end in (("audio", "audio_path", "audio_end_seconds"), ("visual", "video_path", "video_end_seconds")):
        located, _, _ = _locate(task, getattr(clip, path))
        seconds = None if located is None else container.stated_seconds(located, task.config)
        if seconds is not None and seconds > clip.expected_seconds + task.config.max_overlong_seconds:
            ends[end] = clip.expected_seconds
            if modality in task.streams:
                row.remark(modality, "cut_to_annotation", _cut_words(seconds, clip.expected_seconds))
    row.clip = replace(clip, **ends)


def _empty(clip: Clip) -> dict[str, Any]:
    return {
        "utterance_id": clip.utterance_id,
        "dialogue_id": clip.dialogue_id,
        "audio": b"",
        "audio_status": NOT_DECODED,
        "audio_channels": 0,
        "audio_channel_used": "",
        "sample_rate_source": 0,
        "audio_track_used": "",
        "duration_seconds": 0.0,
        "truncated": False,
        "faces": [],
        "face_seconds": [],
        "face_scores": [],
        "visual_status": NOT_DECODED,
        "video_track_used": "",
        "frames_seen": 0,
        "faces_seen": 0,
        "face_tracks": 0,
        "face_track": -1,
        "face_coverage": 0.0,
        "face_choice_score": 0.0,
        "face_choice_margin": 0.0,
    }


def _decode_file(task: DialogueTask, relative: str, wishes: Sequence[_Wish], observer: Observer | None) -> "list[_Portrait]":
    """Reads a file once; settles its sounds and returns the portraits in the making."""
    path, reason, detail = _locate(task, relative)
    config = task.config
    heard = [
        (wish, SoundSpan(wish.wanted, config.max_clip_seconds, wish.row.clip.audio_channel, config.min_mix_share))
        for wish in wishes
        if wish.modality == "audio"
    ]
    seen = [wish for wish in wishes if wish.modality == "visual"]
    watcher = _Watcher(config, faces.finder(config, task.model) if seen else None, [wish.row for wish in seen], observer)
    if path is not None:
        result = container.read(
            path,
            [sound for _, sound in heard],
            [container.FrameWish(wish.wanted, wish.row.clip.video_region) for wish in seen],
            watcher,
            config,
        )
        reason, detail = "media_undecodable", result.refusal
    for wish, _ in heard:
        wish.row.heard = True
    if path is None or result.refusal:
        for wish in wishes:
            wish.lose(reason, detail)
        return []
    for wish, sound in heard:
        _settle_sound(task, wish, sound, result)
    spans: Sequence[FrameSpan | None] = result.frame_spans or [None] * len(seen)
    return [_Portrait(wish.row, wish.wanted.capped(config.max_clip_seconds), one, watcher, result) for wish, one in zip(seen, spans, strict=True)]


def _locate(task: DialogueTask, relative: str) -> tuple[Path | None, str, str]:
    """The file, or None with reason and detail."""
    if not relative:
        return None, "media_missing", "the corpus has no such file for this utterance"
    try:
        path = files.confined(task.raw, relative, task.dataset, follow_links=task.follow_links)
    except ValueError:
        return None, "media_refused", f"{relative!r} leads out of the raw folder"
    try:
        if not path.is_file():
            if path.exists():
                files.check_kind(path)
            broken = files.broken_link(path)
            return None, "media_missing", f"{relative}: {broken}" if broken else relative
        if path.stat().st_size == 0:
            return None, "media_empty", relative
    except OSError as error:
        return None, "media_undecodable", f"{relative}: {error.strerror}"
    return path, "", ""


def _settle_sound(task: DialogueTask, wish: _Wish, sound: SoundSpan, result: container.Pass) -> None:
    row, stream = wish.row, result.sound
    if stream is None:
        wish.lose("no_audio_stream", _no_stream_words(wish.path, result.tracks["audio"]))
        return
    waveform = sound.waveform()
    if len(waveform):
        row.waveform = waveform
    if not wish.stored:
        return
    row.columns |= {"audio_channels": stream.channels, "audio_channel_used": "; ".join(sound.mixes), "sample_rate_source": stream.rate_hz}
    row.columns["audio_track_used"] = result.tracks["audio"]
    trouble = result.troubles.get("audio")
    touched = trouble is not None and trouble.touches(sound.kept)
    if not len(waveform):
        if touched and trouble is not None:
            row.lose("audio", "media_undecodable", trouble.words)
        else:
            row.lose("audio", "no_audio_samples", f"no sample from {sound.kept.start:.3f} s on; the sound ends at {stream.end_seconds:.3f} s")
        return
    row.columns["duration_seconds"] = len(waveform) / SAMPLE_RATE_HZ
    clipped = 0.0
    if sound.lost_samples == sound.samples:
        row.lose("audio", "not_finite", f"none of {sound.samples} samples is a finite number")
    elif is_silence(waveform):
        row.lose("audio", "silence", f"all of {len(waveform)} samples are the same")
    else:
        row.columns["audio"], clipped = pack.flac(waveform)
        row.columns["audio_status"] = OK
        for reason, detail in doubts(waveform, sound, task.config):
            row.remark("audio", reason, detail)
    if sound.undefined_samples and sound.lost_samples < sound.samples:
        row.remark("audio", "not_finite_samples", f"{sound.undefined_samples} of {sound.samples} samples ({sound.undefined_samples / sound.samples:.3%})")
    _compare_with_annotation(row, "audio", len(waveform) / SAMPLE_RATE_HZ, task.config)
    if sound.cut:
        row.columns["truncated"] = True
        whole = sound.wanted.seconds if sound.wanted.end < float("inf") else result.sound_seconds
        row.remark("audio", "truncated", _cut_words(whole, sound.kept.seconds))
    if clipped:
        row.remark("audio", "clipped", f"{clipped:.3%} of the samples")
    if touched and trouble is not None:
        row.remark("audio", "partly_decoded", trouble.words)


def _compare_with_annotation(row: Row, modality: str, seconds: float, config: Config) -> None:
    """Records what is shorter than the corpus says: a file that was cut off without a trace, or one that is another utterance's."""
    annotated = min(row.clip.annotated_seconds, config.max_clip_seconds)
    if seconds < max(annotated - config.max_short_seconds, annotated / 2):
        row.remark(modality, "shorter_than_annotation", f"{max(0.0, seconds):.3f} s of the annotated {row.clip.annotated_seconds:.3f} s")


def _no_stream_words(path: str, why: str) -> str:
    return f"{path}: {why}" if why else path


def _cut_words(whole_seconds: float | None, kept_seconds: float) -> str:
    whole = "a length that its header does not state" if whole_seconds is None else f"{whole_seconds:.3f} s"
    return f"cut from {whole} to {kept_seconds:.3f} s"


@dataclass
class _Gathered:
    """What was seen of one utterance.

    Attributes:
        looks: seconds from the utterance's begin, and the faces found then.
        glimpses: small grey pictures in between.
        persons: the faces as tracks; None: more frames are to come.
    """

    looks: list[tuple[float, list[Sighting]]] = field(default_factory=list)
    glimpses: list[Glimpse] = field(default_factory=list)
    persons: list[tracks.Track] | None = None


class _Watcher:
    """Looks for faces in the frames that a file's utterances want, and chooses a person as soon as an utterance has all its frames and its sound.

    Args:
        config: settings of the stage.
        finder: of faces; None where no pictures are wanted.
        rows: of the utterances, in the order of their spans.
        observer: looks over its shoulder.
    """

    def __init__(self, config: Config, finder: FaceFinder | None, rows: Sequence[Row], observer: Observer | None) -> None:
        self._config = config
        self._finder = finder
        self._rows = rows
        self._observer = observer
        self._gathered: dict[int, _Gathered] = {}
        self._portraits: dict[int, dict[str, Any]] = {}

    def start_over(self) -> None:
        """See :class:`merc.media.video.Watcher`."""
        self._gathered.clear()
        self._portraits.clear()

    def look(self, picture: Picture, seconds: float, spans: Sequence[FrameSpan]) -> None:
        """Takes one frame for the utterances that want it; each half of it is searched once."""
        if self._finder is None:
            raise ValueError("no utterance of this file wants pictures")
        found: dict[str, list[Sighting]] = {}
        for one in spans:
            if one.region not in found:
                found[one.region] = self._finder.find(picture.part(one.region))
            self._of(one).looks.append((seconds - one.begin, found[one.region]))
            if self._observer is not None:
                self._observer.look(self._rows[one.number].clip.utterance_id, seconds - one.begin, picture.part(one.region))

    def glimpse(self, picture: Picture, seconds: float, spans: Sequence[FrameSpan]) -> None:
        """Takes a small grey picture for the utterances that want it."""
        for one in spans:
            part = picture.part(one.region)
            grey = np.ascontiguousarray(part.grey(self._config.glimpse_width_pixels))
            self._of(one).glimpses.append(Glimpse(seconds - one.begin, grey, grey.shape[1] / part.size[0]))

    def _of(self, one: FrameSpan) -> _Gathered:
        return self._gathered.setdefault(one.number, _Gathered())

    def complete(self, span: FrameSpan) -> None:
        """Keeps only what the choice needs, or chooses if the sound is known, too."""
        self._link(self._of(span))
        if self._rows[span.number].heard:
            self.portrait(span)

    def _link(self, gathered: _Gathered) -> list[tracks.Track]:
        if gathered.persons is None:
            gathered.persons = tracks.link([sightings for _, sightings in gathered.looks], self._config)
            if len(gathered.persons) < 2:
                gathered.glimpses.clear()
        return gathered.persons

    def portrait(self, one: FrameSpan) -> dict[str, Any] | None:
        """The face columns of an utterance; None if it was shown no frame."""
        if one.number in self._gathered:
            gathered = self._gathered.pop(one.number)
            if gathered.looks:
                self._portraits[one.number] = self._choose(gathered, self._rows[one.number])
        return self._portraits.get(one.number)

    def _choose(self, gathered: _Gathered, row: Row) -> dict[str, Any]:
        looks, persons = gathered.looks, self._link(gathered)
        choice = speaker.choose(persons, looks, gathered.glimpses, row.waveform, self._config)
        if self._observer is not None:
            self._observer.choose(row.clip.utterance_id, looks, gathered.glimpses, row.waveform, persons, choice)
        members = persons[choice.track].members if choice.track >= 0 else ()
        shots = [(looks[frame][0], looks[frame][1][index]) for frame, index in members]
        return {
            "faces": [faces.jpeg(faces.crop(sighting, self._config), self._config.jpeg_quality_percent) for _, sighting in shots],
            "face_seconds": [max(0.0, seconds) for seconds, _ in shots],
            "face_scores": [sighting.score for _, sighting in shots],
            "frames_seen": len(looks),
            "faces_seen": sum(len(sightings) for _, sightings in looks),
            "face_tracks": len(persons),
            "face_track": choice.track,
            "face_coverage": len(shots) / len(looks),
            "face_choice_score": choice.score if shots else 0.0,
            "face_choice_margin": choice.margin if shots else 0.0,
        }


@dataclass(frozen=True)
class _Portrait:
    """The face of one utterance, in the making: the choice may wait for sound from another file.

    Attributes:
        row: whose it is.
        asked: the span as far as it is kept, also behind the last picture.
        wanted: what it wanted of the pictures; None: the file has none.
        watcher: saw them.
        result: of reading the file.
    """

    row: Row
    asked: Span
    wanted: FrameSpan | None
    watcher: _Watcher
    result: container.Pass


def _settle_faces(made: _Portrait, config: Config) -> None:
    row, wanted, result = made.row, made.wanted, made.result
    if wanted is None:
        row.lose("visual", "no_video_stream", _no_stream_words(row.clip.video_path, result.tracks["video"]))
        return
    row.columns["video_track_used"] = result.tracks["video"]
    portrait = made.watcher.portrait(wanted)
    trouble = result.troubles.get("video")
    touched = trouble is not None and trouble.touches(made.asked)
    if portrait is None:
        if touched and trouble is not None:
            row.lose("visual", "media_undecodable", trouble.words)
        else:
            row.lose("visual", "no_video_frames", f"no picture from {wanted.kept.start:.3f} to {wanted.kept.end:.3f} s")
        return
    row.columns |= portrait
    row.columns["duration_seconds"] = row.columns["duration_seconds"] or wanted.kept.seconds
    if portrait["faces"]:
        row.columns["visual_status"] = OK
    else:
        row.lose("visual", "no_face", f"{portrait['faces_seen']} detections in {portrait['frames_seen']} frames, of no one often enough")
    _compare_with_annotation(row, "visual", min(wanted.kept.end, result.picture_end) - wanted.kept.start, config)
    if wanted.cut:
        row.columns["truncated"] = True
        row.remark("visual", "truncated", _cut_words(wanted.wanted.seconds, wanted.kept.seconds))
    if touched and trouble is not None:
        row.remark("visual", "partly_decoded", trouble.words)
