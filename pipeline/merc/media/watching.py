"""Collects what is needed from a file's frames as they pass, and chooses the face of each utterance."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from merc.media import active, faces, following, shots, speaker, tracks
from merc.media.config import Config
from merc.media.container import Pass
from merc.media.faces import FaceFinder, Found, Sighting
from merc.media.following import Followed, Follower
from merc.media.rows import OK, Row, Wish, beyond_the_cap, compare_with_annotation, no_stream_words, tell_cut
from merc.media.speaker import Choice, Glimpse
from merc.media.video import FrameSpan, Picture


class Observer(Protocol):
    """Receives what is seen of an utterance and who is chosen, as it happens. A later report of the same instant or
    utterance replaces an earlier one.
    """

    def look(self, utterance_id: str, seconds: float, picture: Picture) -> None:
        """A frame is searched for faces: ``seconds`` from the utterance's start, the frame or its half. The array must
        be copied, not kept.
        """

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
class Gathered:
    """What was seen of one utterance.

    Attributes:
        follower: follows the faces, with ``active_speaker``; the other attributes serve the other choices.
        looks: seconds from the utterance's start, and the faces found at that time.
        glimpses: small grey frames in between.
        thumbnails: of looks and glimpses, by seconds.
        persons: the faces as tracks; None while more frames may come.
        of_looks: number of the shot that each look belongs to; None if unknown.
        shots: number of shots; 0 if cuts were not searched for.
    """

    follower: Follower | None
    looks: list[tuple[float, list[Sighting]]] = field(default_factory=list)
    glimpses: list[Glimpse] = field(default_factory=list)
    thumbnails: dict[float, shots.Thumbnail] = field(default_factory=dict)
    persons: list[tracks.Track] | None = None
    of_looks: list[int] | None = None
    shots: int = 0

    def number_shots(self) -> None:
        """No more frames: finds the cuts, if there are thumbnails."""
        if self.thumbnails:
            times = sorted(self.thumbnails)
            numbers = dict(
                zip(times, shots.numbers([self.thumbnails[seconds] for seconds in times]).tolist(), strict=True)
            )
            self.of_looks = [numbers[seconds] for seconds, _ in self.looks]
            self.shots = max(numbers.values()) + 1
            self.thumbnails.clear()

    @classmethod
    def joined(cls, parts: "Sequence[Gathered]") -> "Gathered":
        """What was seen of several spans, in order; each span starts a new shot."""
        whole, first, of_looks = cls(None), 0, []
        for part in parts:
            part.number_shots()
            whole.looks += part.looks
            whole.glimpses += part.glimpses
            of_looks += [first + number for number in part.of_looks or [0] * len(part.looks)]
            first += max(1, part.shots)
        whole.of_looks, whole.shots = of_looks, first if any(part.shots for part in parts) else 0
        return whole


class Watcher:
    """Searches the frames that a file's utterances need for faces, and chooses a person as soon as an utterance has all
    its frames and its audio.

    Args:
        config: settings of the stage.
        finder: finds faces; None if no frames are needed.
        rows: of the utterances, in the order of their spans.
        observer: is notified of what is seen and chosen.
    """

    def __init__(
        self, config: Config, finder: FaceFinder | None, rows: Sequence[Row], observer: Observer | None
    ) -> None:
        self._config = config
        self._finder = finder
        self._rows = rows
        self._observer = observer
        self._gathered: dict[int, Gathered] = {}
        self._portraits: dict[int, dict[str, Any] | Followed | Gathered] = {}

    def start_over(self) -> None:
        """See :class:`merc.media.video.Watcher`."""
        self._gathered.clear()
        self._portraits.clear()

    def look(self, picture: Picture, seconds: float, spans: Sequence[FrameSpan]) -> None:
        """Takes one frame for the utterances that need it; each half of it is searched once."""
        if self._finder is None:
            raise ValueError("no utterance of this file needs frames")
        found: dict[str, tuple[list[Sighting], list[Found], list[bytes]]] = {}
        for one in spans:
            part, gathered, since = picture.part(one.region), self._of(one), one.since(seconds)
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
        """The faces with their patches; if they are followed, their places and crops of the largest."""
        if self._config.choice != "active_speaker":
            return finder.find(part), [], []
        located = finder.locate(part)
        return (
            [],
            located,
            [self._crop(one) for one in finder.sightings(part, located[: 2 * self._config.max_speaker_candidates])],
        )

    def _crop(self, sighting: Sighting) -> bytes:
        return faces.jpeg(faces.crop(sighting, self._config), self._config.jpeg_quality_percent)

    def glimpse(self, picture: Picture, seconds: float, spans: Sequence[FrameSpan]) -> None:
        """Takes a small grey frame for the utterances that need it."""
        for one in spans:
            part, gathered, since = picture.part(one.region), self._of(one), one.since(seconds)
            if gathered.follower is not None:
                gathered.follower.add(
                    since, np.ascontiguousarray(part.grey(self._config.speaker_width_pixels)), part.size
                )
                continue
            grey = np.ascontiguousarray(part.grey(self._config.glimpse_width_pixels))
            gathered.glimpses.append(Glimpse(since, grey, grey.shape[1] / part.size[0]))
            self._note_thumbnail(gathered, since, part)

    def _note_thumbnail(self, gathered: Gathered, since: float, part: Picture) -> None:
        if self._config.choice == "speaking" and since not in gathered.thumbnails:
            gathered.thumbnails[since] = shots.thumbnail(
                np.ascontiguousarray(part.grey(self._config.glimpse_width_pixels))
            )

    def _of(self, one: FrameSpan) -> Gathered:
        if one.number not in self._gathered:
            self._gathered[one.number] = Gathered(
                Follower(self._config) if self._config.choice == "active_speaker" else None
            )
        return self._gathered[one.number]

    def complete(self, span: FrameSpan) -> None:
        """Keeps only what the choice needs, or chooses if the audio is also known; one of several spans waits for the
        others.
        """
        gathered = self._of(span)
        if gathered.follower is None and span.place.whole_seconds is None:
            self._link(gathered)
        if gathered.follower is not None or (self._rows[span.number].heard and span.place.whole_seconds is None):
            self.portrait(span)

    def _link(self, gathered: Gathered) -> list[tracks.Track]:
        if gathered.persons is None:
            gathered.number_shots()
            gathered.persons = tracks.link(
                [sightings for _, sightings in gathered.looks], self._config, gathered.of_looks
            )
            if len(gathered.persons) < 2:
                gathered.glimpses.clear()
        return gathered.persons

    def portrait(self, one: FrameSpan) -> dict[str, Any] | Followed | Gathered | None:
        """The face columns of an utterance, or (with ``active_speaker``, and for one of several spans) the data to
        compute them from. None if no frame was shown.
        """
        if one.number in self._gathered:
            gathered, several = self._gathered.pop(one.number), one.place.whole_seconds is not None
            if gathered.follower is not None:
                followed = gathered.follower.finish(one.kept.end - one.begin)
                if followed.searched or (several and followed.seconds):
                    self._portraits[one.number] = followed
            elif several:
                self._portraits[one.number] = gathered
            elif gathered.looks:
                self._portraits[one.number] = self._choose(gathered, self._rows[one.number])
        return self._portraits.get(one.number)

    def portrait_of(self, spans: Sequence[Gathered], row: Row) -> dict[str, Any] | None:
        """The face columns of an utterance of several spans, which other watchers may have seen; None if none of them
        was searched for faces.
        """
        gathered = Gathered.joined(spans)
        return self._choose(gathered, row) if gathered.looks else None

    def _choose(self, gathered: Gathered, row: Row) -> dict[str, Any]:
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
    """The face of one utterance, or of one of its spans, before the choice is made: it may have to wait for audio from
    another file. Can be pickled.

    Attributes:
        wish: what was requested.
        wanted: the frames that it needs; None if the file has no frames.
        seen: the face columns, or the data to compute them from, see :meth:`Watcher.portrait`; None if no frame was
            shown.
        track: which of several video tracks was used, or why there is none.
        trouble: what went wrong in the kept part of the span, including after the last frame; empty if nothing did.
        picture_end: seconds of the file at which the video ends.
    """

    wish: Wish
    wanted: FrameSpan | None
    seen: dict[str, Any] | Followed | Gathered | None
    track: str
    trouble: str
    picture_end: float

    @classmethod
    def of(cls, wish: Wish, wanted: FrameSpan | None, watcher: Watcher, result: Pass, config: Config) -> "Portrait":
        """Called after the last frame and, for the choices that need it, after the audio."""
        seen = None if wanted is None else watcher.portrait(wanted)
        trouble = result.troubles.get("video")
        touched = trouble is not None and trouble.touches(
            wish.wanted.capped(config.max_clip_seconds - wish.place.offset_seconds)
        )
        return cls(
            wish,
            wanted,
            seen,
            result.tracks["video"],
            trouble.words if trouble is not None and touched else "",
            result.picture_end,
        )

    @property
    def lost(self) -> bool:
        """Frames were requested, but none was shown."""
        wanted = self.wanted
        asked = wanted is None or bool(wanted.look_instants or wanted.glimpse_instants)
        return asked and self.seen is None

    def lose(self) -> None:
        """The reason why nothing was shown."""
        if self.wanted is None:
            self.wish.lose("no_video_stream", no_stream_words(self.wish.path, self.track))
        elif self.trouble:
            self.wish.lose("media_undecodable", self.trouble)
        else:
            self.wish.lose(
                "no_video_frames", f"no picture from {self.wanted.kept.start:.3f} to {self.wanted.kept.end:.3f} s"
            )


def settle(
    spans: Sequence[Portrait], config: Config, scorer: active.Scorer | None, observer: Observer | None = None
) -> None:
    """Fills the face columns of a row, and its failures.

    Args:
        spans: of the utterance, in order, at least one; excluding those whose file could not be read.
        config: settings of the stage.
        scorer: needed only with ``active_speaker``.
        observer: is notified of the choice.
    """
    row = spans[0].wish.row
    for one in spans:
        if one.lost:
            one.lose()
    tracks_used = dict.fromkeys(one.track for one in spans if one.wanted is not None)
    if tracks_used:
        row.columns["video_track_used"] = "; ".join(tracks_used)
    shown = [(one, one.wanted) for one in spans if one.wanted is not None and not one.lost]
    columns = _columns([one for one, _ in shown], config, scorer, observer)
    if columns is None:
        return
    row.columns |= columns
    row.columns["duration_seconds"] = row.columns["duration_seconds"] or sum(wanted.kept.seconds for _, wanted in shown)
    _tell_status(row, config)
    compare_with_annotation(
        row, "visual", sum(min(wanted.kept.end, one.picture_end) - wanted.kept.start for one, wanted in shown), config
    )
    first, wanted = shown[0]
    if beyond_the_cap(first.wish, config) or any(of_span.cut for _, of_span in shown):
        tell_cut(first.wish, wanted.wanted.seconds, wanted.kept.seconds, config)
    if troubles := dict.fromkeys(one.trouble for one, _ in shown if one.trouble):
        row.remark("visual", "partly_decoded", "; ".join(troubles))


def _columns(
    shown: Sequence[Portrait], config: Config, scorer: active.Scorer | None, observer: Observer | None
) -> dict[str, Any] | None:
    """The face columns; None if no frame was searched for faces."""
    followed = [one.seen for one in shown if isinstance(one.seen, Followed)]
    gathered = [one.seen for one in shown if isinstance(one.seen, Gathered)]
    if followed:
        whole = following.joined(followed)
        return _judged(whole, shown[0].wish.row, config, scorer, observer) if whole.searched else None
    if gathered:
        return Watcher(config, None, (), observer).portrait_of(gathered, shown[0].wish.row)
    return next((one.seen for one in shown if isinstance(one.seen, dict)), None)


def _judged(
    followed: Followed, row: Row, config: Config, scorer: active.Scorer | None, observer: Observer | None
) -> dict[str, Any]:
    verdict = active.judge(followed, row.waveform, scorer, config)
    if observer is not None:
        observer.judge(row.clip.utterance_id, followed, verdict)
    return active.portrait(followed, verdict, config)


def _tell_status(row: Row, config: Config) -> None:
    columns = row.columns
    if columns["off_screen"]:
        words = (
            f"no one has a logit of {config.off_screen_logit:g} for a second; the likeliest speaker has"
            f" {columns['speaking_logit']:.2f} on average"
        )
        if config.off_screen == "absent":
            row.lose("visual", "off_screen", words)
            return
        row.remark("visual", "off_screen_kept", words)
    if columns["faces"]:
        columns["visual_status"] = OK
    else:
        row.lose(
            "visual",
            "no_face",
            f"{columns['faces_seen']} detections in {columns['frames_seen']} frames, of no one often enough",
        )
