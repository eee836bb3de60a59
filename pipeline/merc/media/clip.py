"""A dialogue's files become its rows of the media table, with a failure row for everything that is missing or was cut.

An utterance is a file, a span of one, or several spans of one or more files, which are put behind one another:

    files       A: ....|--1--|....|-2-|..       B: |---3---|......
    utterance   |--1--|-2-|---3---|             its seconds count from its begin; a border is a cut, across which no face is followed
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from merc import files
from merc.media import container, faces, pack, speaker, tracks
from merc.media.audio import Sound, SoundSpan, doubts, is_silence
from merc.media.config import Config
from merc.media.faces import FaceFinder, Sighting
from merc.media.spans import Place, Span, sample, span
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
        awaited: spans whose sound has still to be read.
        sounds: those that have been, until the last one has.
        lost: spans, of several, of which nothing can be used.
        waveform: (samples,) float32 at 16 kHz, as far as there is any.
    """

    clip: Clip
    columns: dict[str, Any]
    failures: list[dict[str, Any]] = field(default_factory=list)
    awaited: int = 0
    sounds: "list[_HeardSpan]" = field(default_factory=list)
    lost: "list[_LostSpan]" = field(default_factory=list)
    waveform: NDArray[np.float32] | None = None

    @property
    def heard(self) -> bool:
        """The sound has been read, or there is none."""
        return self.awaited == 0

    def remark(self, modality: str, reason: str, detail: str) -> None:
        """Adds a failure row."""
        self.failures.append(Failure(self.clip.utterance_id, "media", modality, reason, detail).row())

    def lose(self, modality: str, reason: str, detail: str) -> None:
        """There is nothing of this modality: its status says why, and a failure row says more."""
        self.columns[f"{modality}_status"] = reason
        self.remark(modality, reason, detail)

    def lost_seconds(self, modality: str) -> float:
        """How much of the utterance is in lost spans."""
        return sum(one.seconds for one in self.lost if one.modality == modality)

    def tell_lost(self) -> None:
        """Records lost spans, once all that was decoded is in the columns; where all are lost, there is nothing of the modality."""
        for modality in dict.fromkeys(one.modality for one in self.lost):
            lost = [one for one in self.lost if one.modality == modality]
            if self.columns[f"{modality}_status"] == NOT_DECODED:
                self.lose(modality, lost[0].reason, "; ".join(dict.fromkeys(one.detail for one in lost)))
            else:
                words = "; ".join(dict.fromkeys(f"{one.reason}: {one.detail}" for one in lost))
                self.remark(modality, "spans_missing", f"{self.lost_seconds(modality):.3f} s of {self.clip.whole_seconds:.3f} s ({words})")


@dataclass(frozen=True)
class _LostSpan:
    """One of several spans, of which nothing can be used."""

    modality: str
    seconds: float
    reason: str
    detail: str


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
    portraits: dict[str, list[_Portrait]] = {}
    for of_pass in sorted(passes, key=lambda one: any(wish.modality == "visual" for wish in one)):
        for portrait in _decode_file(task, of_pass[0].path, of_pass, observer) if of_pass else ():
            portraits.setdefault(portrait.wish.row.clip.utterance_id, []).append(portrait)
    for of_row in portraits.values():
        _settle_faces(sorted(of_row, key=lambda one: one.wish.place.offset_seconds), task.config)
    for row in rows:
        row.tell_lost()
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
        place: where the span lies in the utterance.
        stored: it goes into the row; sound that nobody asked for is still heard, to see whose mouth moves with it.
    """

    row: Row
    modality: str
    path: str
    wanted: Span
    place: Place
    stored: bool = True

    @property
    def one_of_several(self) -> bool:
        return self.place.whole_seconds is not None

    def lose(self, reason: str, detail: str) -> None:
        """See :meth:`Row.lose`; one of several spans is noted, and the others are used."""
        if self.stored and self.one_of_several:
            self.row.lost.append(_LostSpan(self.modality, self.wanted.seconds, reason, detail))
        elif self.stored:
            self.row.lose(self.modality, reason, detail)


def _wishes_of(row: Row, task: DialogueTask) -> list[_Wish]:
    clip, listening = row.clip, "visual" in task.streams and task.config.choice == "speaking"
    found = []
    for modality, stored in (("audio", "audio" in task.streams), ("visual", True)):
        for piece in clip.pieces(modality) if modality in task.streams or (modality == "audio" and listening) else ():
            try:
                wanted = span(piece.start_seconds, piece.end_seconds)
            except ValueError as error:
                if stored:
                    row.lose(modality, "no_audio_samples" if modality == "audio" else "no_video_frames", str(error))
                continue
            if piece.offset_seconds < task.config.max_clip_seconds:
                found.append(_Wish(row, modality, piece.path, wanted, Place(piece.offset_seconds, clip.whole_seconds), stored))
    row.awaited = sum(wish.modality == "audio" for wish in found)
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
        (wish, SoundSpan(wish.wanted, config.max_clip_seconds - wish.place.offset_seconds, wish.row.clip.audio_channel, config.min_mix_share))
        for wish in wishes
        if wish.modality == "audio"
    ]
    seen = [wish for wish in wishes if wish.modality == "visual"]
    watcher = _Watcher(config, faces.finder(config, task.model) if seen else None, [wish.row for wish in seen], observer)
    if path is not None:
        result = container.read(
            path,
            [sound for _, sound in heard],
            [container.FrameWish(wish.wanted, wish.row.clip.video_region, wish.place) for wish in seen],
            watcher,
            config,
        )
        reason, detail = "media_undecodable", result.refusal
    refused = path is None or bool(result.refusal)
    if refused:
        for wish in wishes:
            wish.lose(reason, detail)
    for wish, sound in heard:
        wish.row.awaited -= 1
        if not refused:
            wish.row.sounds.append(_HeardSpan(wish, sound, result))
        if wish.row.heard and wish.row.sounds:
            _settle_sound(wish.row, config)
    if refused:
        return []
    spans: Sequence[FrameSpan | None] = result.frame_spans or [None] * len(seen)
    return [_Portrait(wish, one, watcher, result) for wish, one in zip(seen, spans, strict=True)]


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


@dataclass(frozen=True)
class _HeardSpan:
    """A span whose file has been read.

    Attributes:
        wish: whose it is.
        sound: what was heard of it.
        result: of reading the file.
    """

    wish: _Wish
    sound: SoundSpan
    result: container.Pass

    @property
    def trouble(self) -> str:
        """What went wrong in the span; empty: nothing did."""
        trouble = self.result.troubles.get("audio")
        return trouble.words if trouble is not None and trouble.touches(self.sound.kept) else ""

    def lose_empty(self) -> None:
        """Not one sample lies in it."""
        if self.trouble:
            self.wish.lose("media_undecodable", self.trouble)
        else:
            end = 0.0 if self.result.sound is None else self.result.sound.end_seconds
            self.wish.lose("no_audio_samples", f"no sample from {self.sound.kept.start:.3f} s on; the sound ends at {end:.3f} s")


def _settle_sound(row: Row, config: Config) -> None:
    """The last span of the utterance has been read."""
    read, row.sounds = sorted(row.sounds, key=lambda one: one.wish.place.offset_seconds), []
    streams = [one.result.sound for one in read if one.result.sound is not None]
    heard = [one for one in read if one.result.sound is not None]
    for one in read:
        if one.result.sound is None:
            one.wish.lose("no_audio_stream", _no_stream_words(one.wish.path, one.result.tracks["audio"]))
    waveforms = [one.sound.waveform() for one in heard]
    row.waveform = _in_place(heard, waveforms, config)
    if not heard or not heard[0].wish.stored:
        return
    sound, waveform = Sound([one.sound for one in heard]), np.concatenate(waveforms)
    row.columns |= {"audio_channels": streams[0].channels, "audio_channel_used": "; ".join(sound.mixes), "sample_rate_source": streams[0].rate_hz}
    row.columns["audio_track_used"] = "; ".join(dict.fromkeys(one.result.tracks["audio"] for one in heard))
    for one, of_span in zip(heard, waveforms, strict=True):
        if not len(of_span):
            one.lose_empty()
    if not len(waveform):
        return
    row.columns["duration_seconds"] = len(waveform) / SAMPLE_RATE_HZ
    clipped = _store_sound(row, sound, waveform, config)
    _compare_with_annotation(row, "audio", len(waveform) / SAMPLE_RATE_HZ, config)
    if any(one.sound.cut for one in heard) or _beyond_the_cap(heard[0].wish, config):
        whole = heard[0].sound.wanted.seconds if heard[0].sound.wanted.end < float("inf") else heard[0].result.sound_seconds
        _tell_cut(heard[0].wish, whole, heard[0].sound.kept.seconds, config)
    if clipped:
        row.remark("audio", "clipped", f"{clipped:.3%} of the samples")
    if troubles := dict.fromkeys(one.trouble for one, of_span in zip(heard, waveforms, strict=True) if one.trouble and len(of_span)):
        row.remark("audio", "partly_decoded", "; ".join(troubles))


def _in_place(heard: Sequence[_HeardSpan], waveforms: Sequence[NDArray[np.float32]], config: Config) -> NDArray[np.float32] | None:
    """(samples,) the utterance's sound with silence where a span has less than it should, so that it fits the pictures; None if there is none."""
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
    """Puts the sound into the row, with what is doubtful about it; returns the share of samples that had to be limited to full scale."""
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
        row.remark("audio", "not_finite_samples", f"{sound.undefined_samples} of {sound.samples} samples ({sound.undefined_samples / sound.samples:.3%})")
    return clipped


def _beyond_the_cap(wish: _Wish, config: Config) -> bool:
    """Whether several spans are together longer than the cap, so that the last ones may not even have been asked for."""
    return (wish.place.whole_seconds or 0.0) > config.max_clip_seconds


def _tell_cut(wish: _Wish, whole_seconds: float | None, kept_seconds: float, config: Config) -> None:
    """Records what the cap cut off; lengths are those of the span, where it is all of the utterance."""
    if wish.place.whole_seconds is not None:
        whole_seconds, kept_seconds = wish.place.whole_seconds, config.max_clip_seconds
    wish.row.columns["truncated"] = True
    wish.row.remark(wish.modality, "truncated", _cut_words(whole_seconds, kept_seconds))


def _compare_with_annotation(row: Row, modality: str, seconds: float, config: Config) -> None:
    """Records what is shorter than the corpus says: a file that was cut off without a trace, or one that is another utterance's. Lost spans are told apart."""
    annotated = min(row.clip.annotated_seconds, config.max_clip_seconds) - row.lost_seconds(modality)
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
        spans: number of the span in which each look lies; None: there is one alone.
    """

    looks: list[tuple[float, list[Sighting]]] = field(default_factory=list)
    glimpses: list[Glimpse] = field(default_factory=list)
    persons: list[tracks.Track] | None = None
    spans: list[int] | None = None

    @classmethod
    def joined(cls, parts: "Sequence[_Gathered]") -> "_Gathered":
        """What was seen of several spans, in their order."""
        looks, glimpses = [look for part in parts for look in part.looks], [glimpse for part in parts for glimpse in part.glimpses]
        return cls(looks, glimpses, spans=[number for number, part in enumerate(parts) for _ in part.looks])


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
        """Keeps only what the choice needs, or chooses if the sound is known, too; of one of several spans all is kept."""
        if self._rows[span.number].clip.further_spans:
            return
        self._link(self._of(span))
        if self._rows[span.number].heard:
            self.portrait(span)

    def _link(self, gathered: _Gathered) -> list[tracks.Track]:
        if gathered.persons is None:
            gathered.persons = tracks.link([sightings for _, sightings in gathered.looks], self._config, gathered.spans)
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

    def gathered(self, one: FrameSpan) -> _Gathered:
        """What was seen of one of several spans."""
        return self._gathered.get(one.number, _Gathered())

    def portrait_of(self, gathered: _Gathered, row: Row) -> dict[str, Any] | None:
        """The face columns of an utterance of several spans, which other watchers may have seen; None if nobody looked for faces in any."""
        return self._choose(gathered, row) if gathered.looks else None

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
    """The face of one utterance, or of one of its spans, in the making: the choice may wait for sound from another file.

    Attributes:
        wish: whose it is.
        wanted: what it wanted of the pictures; None: the file has none.
        watcher: saw them.
        result: of reading the file.
    """

    wish: _Wish
    wanted: FrameSpan | None
    watcher: _Watcher
    result: container.Pass

    def trouble(self, config: Config) -> str:
        """What went wrong in the span as far as it is kept, also behind the last picture; empty: nothing did."""
        trouble = self.result.troubles.get("video")
        asked = self.wish.wanted.capped(config.max_clip_seconds - self.wish.place.offset_seconds)
        return trouble.words if trouble is not None and trouble.touches(asked) else ""

    def lose_empty(self, wanted: FrameSpan, config: Config) -> None:
        """Not one picture lies in it."""
        if words := self.trouble(config):
            self.wish.lose("media_undecodable", words)
        else:
            self.wish.lose("no_video_frames", f"no picture from {wanted.kept.start:.3f} to {wanted.kept.end:.3f} s")


def _settle_faces(made: Sequence[_Portrait], config: Config) -> None:
    """Fills the face columns of an utterance.

    Args:
        made: one per span, in their order; without those whose file could not be read.
        config: settings of the stage.
    """
    row = made[0].wish.row
    for one in made:
        if one.wanted is None:
            one.wish.lose("no_video_stream", _no_stream_words(one.wish.path, one.result.tracks["video"]))
    shown = [(one, one.wanted) for one in made if one.wanted is not None and not (one.wish.one_of_several and _lost_pictures(one, one.wanted, config))]
    if not shown:
        return
    (first, wanted), watcher = shown[0], shown[0][0].watcher
    row.columns["video_track_used"] = "; ".join(dict.fromkeys(one.result.tracks["video"] for one, _ in shown))
    if first.wish.one_of_several:
        portrait = watcher.portrait_of(_Gathered.joined([one.watcher.gathered(of_span) for one, of_span in shown]), row)
    else:
        portrait = watcher.portrait(wanted)
    if portrait is None:
        if not first.wish.one_of_several:
            first.lose_empty(wanted, config)
        return
    row.columns |= portrait
    row.columns["duration_seconds"] = row.columns["duration_seconds"] or sum(of_span.kept.seconds for _, of_span in shown)
    if portrait["faces"]:
        row.columns["visual_status"] = OK
    else:
        row.lose("visual", "no_face", f"{portrait['faces_seen']} detections in {portrait['frames_seen']} frames, of no one often enough")
    _compare_with_annotation(row, "visual", sum(min(of_span.kept.end, one.result.picture_end) - of_span.kept.start for one, of_span in shown), config)
    if any(of_span.cut for _, of_span in shown) or _beyond_the_cap(first.wish, config):
        _tell_cut(first.wish, wanted.wanted.seconds, wanted.kept.seconds, config)
    if troubles := dict.fromkeys(words for one, _ in shown if (words := one.trouble(config))):
        row.remark("visual", "partly_decoded", "; ".join(troubles))


def _lost_pictures(one: _Portrait, wanted: FrameSpan, config: Config) -> bool:
    """Whether one of several spans showed nothing, though something was wanted of it: then it is lost."""
    gathered = one.watcher.gathered(wanted)
    lost = bool(wanted.look_instants or wanted.glimpse_instants) and not (gathered.looks or gathered.glimpses)
    if lost:
        one.lose_empty(wanted, config)
    return lost
