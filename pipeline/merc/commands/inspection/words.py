"""Descriptions of an utterance, for both the image and the page."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merc.commands.inspection.seen import NO_TRACK, Seen
from merc.media.active_speaker.scoring import FRAMES_PER_SECOND
from merc.records.failures import REASONS
from merc.reports.explorer.face_doubts import LOW_COVERAGE, OK, face_doubts, low_margin

CHOSEN_COLOUR = "#00C853"
# Okabe and Ito's colours, without green, which marks the chosen person.
_OTHER_COLOURS = ("#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")
LOST_COLOUR = "#B8B8B8"
_MOST_CHARACTERS = 2000


@dataclass(frozen=True)
class Remark:
    """One row of the failure table as text; ``broken``: something that should exist is missing."""

    text: str
    broken: bool


def colour_of(track: int, chosen: int) -> str:
    """``#RRGGBB`` of a track's boxes."""
    if track == NO_TRACK:
        return LOST_COLOUR
    return CHOSEN_COLOUR if track == chosen else _OTHER_COLOURS[track % len(_OTHER_COLOURS)]


def on_one_line(text: str) -> str:
    """Text from a corpus or a decoder without line breaks and control characters, which would break a layout; a very
    long one is truncated.
    """
    line = re.sub(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text[:_MOST_CHARACTERS]).strip()
    return line if len(text) <= _MOST_CHARACTERS else f"{line} …"


def heading(utterance: Mapping[str, Any]) -> str:
    """Speaker and emotion of a manifest row."""
    return on_one_line(f"{utterance['speaker']} · {utterance['emotion'] or 'no label'}")


def origin(utterance: Mapping[str, Any]) -> str:
    """The origin of an utterance: file, region and span, or spans in order."""
    place = utterance["video_path"] or utterance["audio_path"] or "no file"
    region = "" if utterance["video_region"] == "full" else f", {utterance['video_region']} half"
    first = f"{place}{region}{_span(utterance['video_start_seconds'], utterance['video_end_seconds'])}"
    further = [
        f"{one['video_path']}{_span(one['start_seconds'], one['end_seconds'])}"
        for one in utterance.get("further_spans") or ()
    ]
    return on_one_line("; then ".join([first, *further]))


def _span(start: float | None, end: float | None) -> str:
    return (
        ""
        if start is None and end is None
        else f", {start or 0.0:.2f} s to {'its end' if end is None else f'{end:.2f} s'}"
    )


def face_facts(seen: Seen, choice: str) -> str:
    """How the face was found."""
    columns = seen.columns
    if columns["visual_status"] != OK and not seen.looks:
        return f"face: {columns['visual_status']}"
    frames, persons, chosen = columns["frames_seen"], columns["face_tracks"], columns["face_track"]
    searched = f"{columns['faces_seen']} detections in {frames} frames"
    if not persons:
        return f"face: {columns['visual_status']} · {searched}"
    covered = (
        f"in {round(frames * columns['face_coverage'])} of {frames} frames ({100 * columns['face_coverage']:.0f} %)"
    )
    who = "one person" if persons == 1 else f"{persons} people, number {chosen} chosen as {choice}"
    return " · ".join(filter(None, [f"face: {who}, {covered}", searched, _shots(columns["shots"]), _score(columns)]))


def _shots(count: int) -> str:
    return f"{count} shot{'s' * (count != 1)}" if count else ""


def _score(columns: Mapping[str, Any]) -> str:
    """The certainty of the choice."""
    if columns["speaking_logit"] is None:
        score = f"score {columns['face_choice_score']:.2f}"
    else:
        score = f"logit {columns['speaking_logit']:+.2f}, speaks in {100 * columns['speaking_share']:.0f} % of the time"
    margin = columns["face_choice_margin"]
    return score if margin is None else f"{score}, {margin:+.2f} against the runner-up"


def sound_facts(seen: Seen) -> str:
    """Description of the audio."""
    columns = seen.columns
    if not columns["audio_channels"]:
        return f"sound: {columns['audio_status']}"
    source = (
        f"{columns['audio_channels']} channel{'s' * (columns['audio_channels'] > 1)} at {columns['sample_rate_source']}"
        f" Hz, {columns['audio_channel_used']}"
    )
    track = f" · track {columns['audio_track_used']}" if columns["audio_track_used"] else ""
    return f"sound: {columns['audio_status']} · {columns['duration_seconds']:.2f} s · {source}{track}"


def person_facts(seen: Seen) -> list[tuple[str, str]]:
    """Colour and text for each of several people, the chosen one first; empty if there is only one."""
    if len(seen.persons) < 2:
        return []
    chosen = int(seen.columns["face_track"])
    lines = []
    for number in sorted(range(len(seen.persons)), key=lambda track: (track != chosen, track)):
        person = seen.persons[number]
        words = f"{number}{' (chosen)' * (number == chosen)}: in {person.frames} of {len(seen.looks)} frames"
        if person.evidence is not None:
            found = person.evidence
            words += (
                f" · mouth moves {found.motion:.2f} · in step with the audio {found.sync:.2f} · size {found.size:.2f}"
            )
        if person.logits:
            words += (
                f" · logit {sum(person.logits) / len(person.logits):+.2f} · speaks"
                f" {sum(one > 0 for one in person.logits) / FRAMES_PER_SECOND:.1f} s"
            )
        elif any(one.logits for one in seen.persons):
            words += " · not judged: too small, seen too rarely or too briefly"
        lines.append((colour_of(number, chosen), words))
    return lines


def remarks(seen: Seen) -> list[Remark]:
    """The failure rows."""
    return [
        Remark(
            on_one_line(f"{row['modality']}: {row['reason']} ({REASONS[row['reason']][1]}) {row['detail']}"),
            row["kind"] == "broken",
        )
        for row in seen.failures
    ]


def doubts(seen: Seen) -> list[str]:
    """Why the face should be checked; empty if there is no reason."""
    return face_doubts(seen.columns)


def totals(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Names and values that summarise many rows of the media table; at least one row."""
    faces = [row for row in rows if row["visual_status"] == OK]
    compared = [row for row in faces if row["face_choice_margin"] is not None]
    margins = sorted(float(row["face_choice_margin"]) for row in compared)
    judged = [row for row in rows if row["off_screen"] is not None]
    coverages = sorted(float(row["face_coverage"]) for row in faces)
    return [
        ("utterances", str(len(rows))),
        ("with a face", _share(len(faces), len(rows))),
        ("with sound", _share(sum(row["audio_status"] == OK for row in rows), len(rows))),
        ("coverage, median", f"{100 * _median(coverages):.0f} %" if coverages else "–"),
        (
            f"coverage below {100 * LOW_COVERAGE:.0f} %",
            _share(sum(one < LOW_COVERAGE for one in coverages), len(faces)),
        ),
        ("with several people", _share(len(compared), len(rows))),
        ("their margin, median", f"{_median(margins):.2f}" if margins else "–"),
        (
            "their margin low",
            _share(sum(row["face_choice_margin"] < low_margin(row) for row in compared), len(compared)),
        ),
        ("speaker off screen", _share(sum(bool(row["off_screen"]) for row in judged), len(judged))),
    ]


def _share(count: int, whole: int) -> str:
    return f"{count} ({100 * count / whole:.0f} %)" if whole else "–"


def _median(values: Sequence[float]) -> float:
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2
