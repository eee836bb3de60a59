"""The contact sheet: many utterances on one self-contained HTML page. All text is escaped: it comes from corpora."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from merc import files
from merc.commands.inspection import picture, words
from merc.commands.inspection.seen import Seen
from merc.media import faces
from merc.shown import visible

_TEMPLATE = "sheet.html.j2"
_FRAME_WIDTH_PIXELS, _FRAME_QUALITY_PERCENT = 320, 80
_MAX_FRAMES = 16
_SOUND_SIZE_PIXELS = (1150, 112)
_SCORES_SIZE_PIXELS = (1150, 120)


@dataclass(frozen=True)
class Entry:
    """One utterance of the sheet.

    Attributes:
        seen: result of decoding.
        utterance: its row of the manifest.
        notes: further warnings about it.
    """

    seen: Seen
    utterance: Mapping[str, Any]
    notes: Sequence[str] = ()


def write_sheet(
    path: Path,
    heading: str,
    entries: Sequence[Entry],
    choice: str,
    drawn: str,
    columns: Mapping[str, Sequence[tuple[str, str]]],
    notes: Sequence[str] = (),
) -> None:
    """Writes the sheet, the doubtful ones first.

    Args:
        path: path of the HTML file. heading: heading of the page. entries: in the order that breaks ties.
        choice: how people were chosen, ``media.choice``.
        drawn: text on how the entries were selected and ordered, up to ``by the smallest of three``.
        columns: columns of the table at the top: name → :func:`merc.commands.inspection.words.totals`.
        notes: further warnings about all of them.
    """
    environment = Environment(
        loader=PackageLoader("merc.commands.inspection", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    ordered = sorted(entries, key=lambda entry: entry.seen.doubt)
    names = [name for name, _ in next(iter(columns.values()))]
    totals = [(name, [dict(of_column)[name] for of_column in columns.values()]) for name in names]
    text = environment.get_template(_TEMPLATE).render(
        heading=heading,
        drawn=drawn,
        totals=totals,
        heads=list(columns),
        notes=notes,
        cards=[_card(entry, choice) for entry in ordered],
        chosen_colour=words.CHOSEN_COLOUR,
        lost_colour=words.LOST_COLOUR,
    )
    files.write_text(path, visible(text))


def _card(entry: Entry, choice: str) -> dict[str, Any]:
    seen, utterance = entry.seen, entry.utterance
    chosen = int(seen.columns["face_track"])
    looks = picture.shown(seen.looks, _MAX_FRAMES)
    return {
        "id": seen.utterance_id,
        "heading": words.heading(utterance),
        "split": utterance["split"],
        "text": words.on_one_line(utterance["text"]),
        "origin": words.origin(utterance),
        "doubts": words.doubts(seen),
        "frames": [
            {
                "image": _inline(
                    faces.jpeg(picture.frame_with_boxes(look, chosen, _FRAME_WIDTH_PIXELS), _FRAME_QUALITY_PERCENT),
                    "image/jpeg",
                ),
                "crop": _inline(look.crop, "image/jpeg") if look.crop else "",
                "seconds": f"{look.seconds:.2f} s",
            }
            for look in looks
        ],
        "left_out": len(seen.looks) - len(looks),
        "no_picture": "" if looks else str(seen.columns["visual_status"]),
        "audio": _inline(seen.columns["audio"], "audio/flac") if seen.columns["audio"] else "",
        "sound": _inline(picture.sound_png(seen, *_SOUND_SIZE_PIXELS), "image/png") if picture.has_time(seen) else "",
        "scores": _inline(picture.scores_png(seen, *_SCORES_SIZE_PIXELS), "image/png")
        if picture.has_scores(seen)
        else "",
        "facts": [words.face_facts(seen, choice), words.sound_facts(seen)],
        "persons": words.person_facts(seen),
        "remarks": words.remarks(seen),
        "notes": entry.notes,
    }


def _inline(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
