"""What is kept of a file's pictures while they pass, and the face that each of its utterances gets in the end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from merc.media import active, faces, shots, speaker, tracks
from merc.media.config import Config
from merc.media.container import Pass, Trouble
from merc.media.faces import FaceFinder, Found, Sighting
from merc.media.following import Followed, Follower
from merc.media.rows import OK, Row, compare_with_annotation, cut_words, no_stream_words
from merc.media.spans import Span
from merc.media.speaker import Choice, Glimpse
from merc.media.video import FrameSpan, Picture


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

    def judge(self, utterance_id: str, followed: Followed, verdict: active.Verdict) -> None:
        """A face is chosen with ``active_speaker``: see :func:`merc.media.active.judge`."""


@dataclass
class _Gathered:
    """What was seen of one utterance.

    Attributes:
        follower: follows the faces, with ``active_speaker``; what else is here is for the other choices.
        looks: seconds from the utterance's begin, and the faces found then.
        glimpses: small grey pictures in between.
        thumbnails: of looks and glimpses, by seconds.
        persons: the faces as tracks; None: more frames are to come.
        shots: how many there are; 0: nobody looked.
    """

    follower: Follower | None
    looks: list[tuple[float, list[Sighting]]] = field(default_factory=list)
    glimpses: list[Glimpse] = field(default_factory=list)
    thumbnails: dict[float, shots.Thumbnail] = field(default_factory=dict)
    persons: list[tracks.Track] | None = None
    shots: int = 0


class Watcher:
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
        self._portraits: dict[int, dict[str, Any] | Followed] = {}

    def start_over(self) -> None:
        """See :class:`merc.media.video.Watcher`."""
        self._gathered.clear()
        self._portraits.clear()

    def look(self, picture: Picture, seconds: float, spans: Sequence[FrameSpan]) -> None:
        """Takes one frame for the utterances that want it; each half of it is searched once."""
        if self._finder is None:
            raise ValueError("no utterance of this file wants pictures")
        found: dict[str, tuple[list[Sighting], list[Found], list[bytes]]] = {}
        for one in spans:
            part, gathered, since = picture.part(one.region), self._of(one), seconds - one.begin
            if one.region not in found:
                found[one.region] = self._search(self._finder, part)
            sightings, located, crops = found[one.region]
            if gathered.follower is not None:
                gathered.follower.search(since, located, crops)
            else:
                gathered.looks.append((since, sightings))
                self._note_thumbnail(gathered, since, part)
            if self._observer is not None:
                self._observer.look(self._rows[one.number].clip.utterance_id, since, part)

    def _search(self, finder: FaceFinder, part: Picture) -> tuple[list[Sighting], list[Found], list[bytes]]:
        """The faces with their patches; or where they are followed, where they are, and crops of the largest."""
        if self._config.choice != "active_speaker":
            return finder.find(part), [], []
        located = finder.locate(part)
        return [], located, [self._crop(one) for one in finder.sightings(part, located[: 2 * self._config.max_speaker_candidates])]

    def _crop(self, sighting: Sighting) -> bytes:
        return faces.jpeg(faces.crop(sighting, self._config), self._config.jpeg_quality_percent)

    def glimpse(self, picture: Picture, seconds: float, spans: Sequence[FrameSpan]) -> None:
        """Takes a small grey picture for the utterances that want it."""
        for one in spans:
            part, gathered, since = picture.part(one.region), self._of(one), seconds - one.begin
            if gathered.follower is not None:
                gathered.follower.add(since, np.ascontiguousarray(part.grey(self._config.speaker_width_pixels)), part.size)
                continue
            grey = np.ascontiguousarray(part.grey(self._config.glimpse_width_pixels))
            gathered.glimpses.append(Glimpse(since, grey, grey.shape[1] / part.size[0]))
            self._note_thumbnail(gathered, since, part)

    def _note_thumbnail(self, gathered: _Gathered, since: float, part: Picture) -> None:
        if self._config.choice == "speaking" and since not in gathered.thumbnails:
            gathered.thumbnails[since] = shots.thumbnail(np.ascontiguousarray(part.grey(self._config.glimpse_width_pixels)))

    def _of(self, one: FrameSpan) -> _Gathered:
        if one.number not in self._gathered:
            self._gathered[one.number] = _Gathered(Follower(self._config) if self._config.choice == "active_speaker" else None)
        return self._gathered[one.number]

    def complete(self, span: FrameSpan) -> None:
        """Keeps only what the choice needs, or chooses if the sound is known, too."""
        gathered = self._of(span)
        if gathered.follower is None:
            self._link(gathered)
        if gathered.follower is not None or self._rows[span.number].heard:
            self.portrait(span)

    def _link(self, gathered: _Gathered) -> list[tracks.Track]:
        if gathered.persons is None:
            times = sorted(gathered.thumbnails)
            numbers = dict(zip(times, shots.numbers([gathered.thumbnails[seconds] for seconds in times]).tolist(), strict=True))
            of_looks = [numbers[seconds] for seconds, _ in gathered.looks] if numbers else None
            gathered.shots = max(numbers.values()) + 1 if numbers else 0
            gathered.persons = tracks.link([sightings for _, sightings in gathered.looks], self._config, of_looks)
            gathered.thumbnails.clear()
            if len(gathered.persons) < 2:
                gathered.glimpses.clear()
        return gathered.persons

    def portrait(self, one: FrameSpan) -> dict[str, Any] | Followed | None:
        """The face columns of an utterance, or with ``active_speaker`` what these are made of; None if it was shown no frame."""
        if one.number in self._gathered:
            gathered = self._gathered.pop(one.number)
            if gathered.follower is not None:
                followed = gathered.follower.finish(one.kept.end - one.begin)
                if followed.searched:
                    self._portraits[one.number] = followed
            elif gathered.looks:
                self._portraits[one.number] = self._choose(gathered, self._rows[one.number])
        return self._portraits.get(one.number)

    def _choose(self, gathered: _Gathered, row: Row) -> dict[str, Any]:
        looks, persons = gathered.looks, self._link(gathered)
        choice = speaker.choose(persons, looks, gathered.glimpses, row.waveform, self._config)
        if self._observer is not None:
            self._observer.choose(row.clip.utterance_id, looks, gathered.glimpses, row.waveform, persons, choice)
        members = persons[choice.track].members if choice.track >= 0 else ()
        chosen = [(looks[frame][0], looks[frame][1][index]) for frame, index in members]
        return {
            "faces": [self._crop(sighting) for _, sighting in chosen],
            "face_seconds": [max(0.0, seconds) for seconds, _ in chosen],
            "face_scores": [sighting.score for _, sighting in chosen],
            "frames_seen": len(looks),
            "faces_seen": sum(len(sightings) for _, sightings in looks),
            "face_tracks": len(persons),
            "face_track": choice.track,
            "face_coverage": len(chosen) / len(looks),
            "face_choice_score": choice.score if chosen else 0.0,
            "face_choice_margin": choice.margin,
            "shots": gathered.shots,
        }


@dataclass(frozen=True)
class Portrait:
    """The face of one utterance, in the making: the choice may wait for sound from another file. Can be pickled.

    Attributes:
        row: whose it is.
        asked: the span as far as it is kept, also behind the last picture.
        wanted: what it wanted of the pictures; None: the file has none.
        seen: the face columns, or what these are made of with ``active_speaker``; None: it was shown no frame.
        track: which of several pictures was taken, or why there is none to take.
        trouble: what went wrong with the pictures.
        picture_end: seconds of the file at which they end.
    """

    row: Row
    asked: Span
    wanted: FrameSpan | None
    seen: dict[str, Any] | Followed | None
    track: str
    trouble: Trouble | None
    picture_end: float

    @classmethod
    def of(cls, row: Row, asked: Span, wanted: FrameSpan | None, watcher: Watcher, result: Pass) -> "Portrait":
        """After the last picture, and with the choices that need it, after the sound."""
        seen = None if wanted is None else watcher.portrait(wanted)
        return cls(row, asked, wanted, seen, result.tracks["video"], result.troubles.get("video"), result.picture_end)


def settle(made: Portrait, config: Config, scorer: active.Scorer | None, observer: Observer | None = None) -> None:
    """Fills the face columns of a row, and its failures.

    Args:
        made: see there.
        config: settings of the stage.
        scorer: needed with ``active_speaker`` alone.
        observer: is shown the choice.
    """
    row, wanted = made.row, made.wanted
    if wanted is None:
        row.lose("visual", "no_video_stream", no_stream_words(row.clip.video_path, made.track))
        return
    row.columns["video_track_used"] = made.track
    touched = made.trouble is not None and made.trouble.touches(made.asked)
    if made.seen is None:
        if touched and made.trouble is not None:
            row.lose("visual", "media_undecodable", made.trouble.words)
        else:
            row.lose("visual", "no_video_frames", f"no picture from {wanted.kept.start:.3f} to {wanted.kept.end:.3f} s")
        return
    row.columns |= _judged(made.seen, row, config, scorer, observer) if isinstance(made.seen, Followed) else made.seen
    row.columns["duration_seconds"] = row.columns["duration_seconds"] or wanted.kept.seconds
    _tell_status(row, config)
    compare_with_annotation(row, "visual", min(wanted.kept.end, made.picture_end) - wanted.kept.start, config)
    if wanted.cut:
        row.columns["truncated"] = True
        row.remark("visual", "truncated", cut_words(wanted.wanted.seconds, wanted.kept.seconds))
    if touched and made.trouble is not None:
        row.remark("visual", "partly_decoded", made.trouble.words)


def _judged(followed: Followed, row: Row, config: Config, scorer: active.Scorer | None, observer: Observer | None) -> dict[str, Any]:
    verdict = active.judge(followed, row.waveform, scorer, config)
    if observer is not None:
        observer.judge(row.clip.utterance_id, followed, verdict)
    return active.portrait(followed, verdict, config)


def _tell_status(row: Row, config: Config) -> None:
    columns = row.columns
    if columns["off_screen"]:
        words = f"nobody has a logit of {config.off_screen_logit:g} for a second; the likeliest speaker has {columns['speaking_logit']:.2f} in the mean"
        if config.off_screen == "absent":
            row.lose("visual", "off_screen", words)
            return
        row.remark("visual", "off_screen_kept", words)
    if columns["faces"]:
        columns["visual_status"] = OK
    else:
        row.lose("visual", "no_face", f"{columns['faces_seen']} detections in {columns['frames_seen']} frames, of no one often enough")
