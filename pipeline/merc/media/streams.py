"""Which of a file's streams of one kind is taken: the one that was requested, else the one marked default, else the
first that can be decoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import av.stream

from merc.media.config import Track

_DEFAULT, _COVER = av.stream.Disposition.default, av.stream.Disposition.attached_pic


@dataclass(frozen=True)
class Chosen:
    """A stream, or none.

    Attributes:
        stream: a stream that FFmpeg can decode; None if there is none.
        words: which of several it is, empty if there is only one; without a stream, why there is none.
    """

    stream: Any
    words: str


def choose(streams: Sequence[Any], wanted: Track) -> Chosen:
    """Chooses one stream.

    Args:
        streams: of one kind, in the file's order; cover images do not count.
        wanted: an index from 0, or a language as the file names it; None: whichever is marked default.
    """
    tracks = [stream for stream in streams if not stream.disposition & _COVER]
    there = ", ".join(_name(number, stream) for number, stream in enumerate(tracks))
    if not tracks:
        return Chosen(None, "")
    allowed = [
        number
        for number, stream in enumerate(tracks)
        if wanted is None or wanted == number or wanted == _language(stream)
    ]
    if not allowed:
        return Chosen(None, f"track {wanted} was wanted; there is {there}")
    decodable = [number for number in allowed if tracks[number].codec_context is not None]
    if not decodable:
        return Chosen(None, f"there is no decoder for track {there if wanted is None else wanted}")
    number = next((one for one in decodable if tracks[one].disposition & _DEFAULT), decodable[0])
    return Chosen(tracks[number], f"{_name(number, tracks[number])} of {len(tracks)}" if len(tracks) > 1 else "")


def _language(stream: Any) -> str:
    return str(stream.metadata.get("language", "")).lower()


def _name(number: int, stream: Any) -> str:
    language = _language(stream)
    return f"{number} ({language})" if language not in ("", "und") else str(number)
