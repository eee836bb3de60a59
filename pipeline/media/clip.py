"""A dialogue's files become its rows of the media table, with a failure row for everything that is missing or was cut."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import files
from pipeline.corpora.failures import Failure
from pipeline.media import container, faces, pack, tracks
from pipeline.media.audio import SoundSpan
from pipeline.media.config import MediaConfig
from pipeline.media.faces import FaceFinder, Sighting
from pipeline.media.spans import Span, span
from pipeline.media.tables import SAMPLE_RATE_HZ
from pipeline.media.tasks import NOT_DECODED, Clip, DialogueTask
from pipeline.media.video import FrameSpan, region_of

OK = "ok"


@dataclass
class Row:
    """One utterance in the making.

    Attributes:
        clip: what the manifest says of it.
        columns: the row of the media table.
        failures: rows of the failure table, JSON-able.
    """

    clip: Clip
    columns: dict[str, Any]
    failures: list[dict[str, Any]] = field(default_factory=list)

    def remark(self, modality: str, reason: str, detail: str) -> None:
        """Adds a failure row."""
        self.failures.append(Failure(self.clip.utterance_id, "media", modality, reason, detail).row())

    def lose(self, modality: str, reason: str, detail: str) -> None:
        """There is nothing of this modality: its status says why, and a failure row says more."""
        self.columns[f"{modality}_status"] = reason
        self.remark(modality, reason, detail)


def decode_dialogue(task: DialogueTask) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Decodes one dialogue; each of its files is opened once, however many utterances lie in it.

    Returns:
        Per utterance, in order: its row of the media table, and its failure rows (sound before pictures).
    """
    rows = [Row(clip, _empty(clip)) for clip in task.clips]
    wishes: dict[str, list[_Wish]] = {}
    for row in rows:
        for modality, path, start, end in (
            ("audio", row.clip.audio_path, row.clip.audio_start_seconds, row.clip.audio_end_seconds),
            ("visual", row.clip.video_path, row.clip.video_start_seconds, row.clip.video_end_seconds),
        ):
            if modality in task.streams:
                try:
                    wishes.setdefault(path, []).append(_Wish(row, modality, span(start, end)))
                except ValueError as error:
                    row.lose(modality, "no_audio_samples" if modality == "audio" else "no_video_frames", str(error))
    for path, of_file in wishes.items():
        _decode_file(task, path, of_file)
    return [(row.columns, sorted(row.failures, key=lambda failure: str(failure["modality"]))) for row in rows]


@dataclass(frozen=True)
class _Wish:
    row: Row
    modality: str
    wanted: Span


def _empty(clip: Clip) -> dict[str, Any]:
    return {
        "utterance_id": clip.utterance_id,
        "dialogue_id": clip.dialogue_id,
        "audio": b"",
        "audio_status": NOT_DECODED,
        "audio_channels": 0,
        "audio_channel_used": "",
        "sample_rate_source": 0,
        "duration_seconds": 0.0,
        "truncated": False,
        "faces": [],
        "face_seconds": [],
        "face_scores": [],
        "visual_status": NOT_DECODED,
        "frames_seen": 0,
        "faces_seen": 0,
        "face_tracks": 0,
        "face_track": -1,
        "face_coverage": 0.0,
    }


def _decode_file(task: DialogueTask, relative: str, wishes: Sequence[_Wish]) -> None:
    path, reason, detail = _locate(task, relative)
    if path is None:
        for wish in wishes:
            wish.row.lose(wish.modality, reason, detail)
        return
    config = task.config
    heard = [(wish.row, SoundSpan(wish.wanted, config.max_clip_seconds)) for wish in wishes if wish.modality == "audio"]
    seen = [wish for wish in wishes if wish.modality == "visual"]
    watcher = _Watcher(config, faces.finder(config, task.model) if seen else None)
    result = container.read(
        path,
        [sound for _, sound in heard],
        [container.FrameWish(wish.wanted, wish.row.clip.video_region) for wish in seen],
        watcher.look,
        config,
    )
    if result.refusal:
        for wish in wishes:
            wish.row.lose(wish.modality, "media_undecodable", result.refusal)
        return
    for row, sound in heard:
        _settle_sound(row, sound, result)
    for index, wish in enumerate(seen):
        _settle_faces(wish.row, result.frame_spans[index] if result.frame_spans else None, watcher, result)


def _locate(task: DialogueTask, relative: str) -> tuple[Path | None, str, str]:
    """The file, or None with reason and detail."""
    if not relative:
        return None, "media_missing", "the corpus has no such file for this utterance"
    try:
        path = files.confined(task.raw, relative, task.dataset)
    except ValueError:
        return None, "media_refused", f"{relative!r} leads out of the raw folder"
    try:
        if not path.is_file():
            return None, "media_missing", relative
        if path.stat().st_size == 0:
            return None, "media_empty", relative
    except OSError as error:
        return None, "media_undecodable", f"{relative}: {error.strerror}"
    return path, "", ""


def _settle_sound(row: Row, sound: SoundSpan, result: container.Pass) -> None:
    stream = result.sound
    if stream is None:
        row.lose("audio", "no_audio_stream", row.clip.audio_path)
        return
    row.columns |= {"audio_channels": stream.channels, "audio_channel_used": "; ".join(stream.mixes), "sample_rate_source": stream.rate_hz}
    waveform = sound.waveform()
    trouble = result.troubles.get("audio")
    touched = trouble is not None and trouble.touches(sound.kept)
    if not len(waveform):
        if touched and trouble is not None:
            row.lose("audio", "media_undecodable", trouble.words)
        else:
            row.lose("audio", "no_audio_samples", f"no sample from {sound.kept.start:.3f} s on; the sound ends at {stream.end_seconds:.3f} s")
        return
    data, clipped = pack.flac(waveform)
    row.columns |= {"audio": data, "audio_status": OK, "duration_seconds": len(waveform) / SAMPLE_RATE_HZ}
    if sound.cut:
        row.columns["truncated"] = True
        whole = sound.wanted.seconds if sound.wanted.end < float("inf") else result.sound_seconds
        row.remark("audio", "truncated", _cut_words(whole, sound.kept.seconds))
    if clipped:
        row.remark("audio", "clipped", f"{clipped:.3%} of the samples")
    if touched and trouble is not None:
        row.remark("audio", "partly_decoded", trouble.words)


def _cut_words(whole_seconds: float | None, kept_seconds: float) -> str:
    whole = "a length that its header does not state" if whole_seconds is None else f"{whole_seconds:.3f} s"
    return f"cut from {whole} to {kept_seconds:.3f} s"


class _Watcher:
    """Looks for faces in the frames that a file's utterances want, and chooses a person as soon as an utterance has all its frames."""

    def __init__(self, config: MediaConfig, finder: FaceFinder | None) -> None:
        self._config = config
        self._finder = finder
        self._looks: dict[int, list[tuple[float, list[Sighting]]]] = {}
        self._portraits: dict[int, dict[str, Any]] = {}

    def look(self, picture_HWC: NDArray[np.uint8], seconds: float, spans: Sequence[FrameSpan]) -> None:
        """Takes one frame for the utterances that want it; each half of it is searched once."""
        if self._finder is None:
            raise ValueError("no utterance of this file wants pictures")
        found: dict[str, list[Sighting]] = {}
        for one in spans:
            if one.region not in found:
                found[one.region] = self._finder.find(region_of(picture_HWC, one.region))
            self._looks.setdefault(id(one), []).append((seconds - one.begin, found[one.region]))
            if one.waiting == 0:
                self._portraits[id(one)] = self._portrait(self._looks.pop(id(one)))

    def portrait(self, one: FrameSpan) -> dict[str, Any] | None:
        """The face columns of an utterance; None if it was shown no frame."""
        if id(one) in self._looks:
            self._portraits[id(one)] = self._portrait(self._looks.pop(id(one)))
        return self._portraits.get(id(one))

    def _portrait(self, looks: Sequence[tuple[float, list[Sighting]]]) -> dict[str, Any]:
        persons = tracks.link([[one.box for one in sightings] for _, sightings in looks], self._config)
        chosen = tracks.largest(persons)
        members = persons[chosen].members if chosen >= 0 else ()
        shots = [(looks[frame][0], looks[frame][1][index]) for frame, index in members]
        return {
            "faces": [faces.jpeg(faces.crop(sighting, self._config), self._config.jpeg_quality_percent) for _, sighting in shots],
            "face_seconds": [max(0.0, seconds) for seconds, _ in shots],
            "face_scores": [sighting.score for _, sighting in shots],
            "frames_seen": len(looks),
            "faces_seen": sum(len(sightings) for _, sightings in looks),
            "face_tracks": len(persons),
            "face_track": chosen,
            "face_coverage": len(shots) / len(looks),
        }


def _settle_faces(row: Row, wanted: FrameSpan | None, watcher: _Watcher, result: container.Pass) -> None:
    if wanted is None:
        row.lose("visual", "no_video_stream", row.clip.video_path)
        return
    portrait = watcher.portrait(wanted)
    trouble = result.troubles.get("video")
    touched = trouble is not None and trouble.touches(wanted.kept)
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
    if wanted.cut:
        row.columns["truncated"] = True
        row.remark("visual", "truncated", _cut_words(wanted.wanted.seconds, wanted.kept.seconds))
    if touched and trouble is not None:
        row.remark("visual", "partly_decoded", trouble.words)
