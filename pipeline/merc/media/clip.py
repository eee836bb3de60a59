"""A dialogue's files become its rows of the media table, with a failure row for everything that is missing or was
truncated.

decode(task)            audio and video, all but a network's decisions; a draft that another process may finish
settle(draft, scorer)   who speaks, with ``media.choice: active_speaker``, and the rows

An utterance is a file, a span of one, or several consecutive spans of one or more files:

    files       A: ....|--1--|....|-2-|..       B: |---3---|......
    utterance   |--1--|-2-|---3---|             its seconds count from its start; a border is a cut, across which no face is followed
"""  # noqa: E501

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from merc import files
from merc.media import active, container, faces, listening, watching
from merc.media.audio import SoundSpan
from merc.media.config import Config, SpeakerPrecision
from merc.media.rows import Row, Wish, cut_words, empty
from merc.media.spans import Place, span
from merc.media.tasks import LISTENING, DialogueTask
from merc.media.video import FrameSpan
from merc.media.watching import Observer, Portrait, Watcher


@dataclass(frozen=True)
class Draft:
    """Decoded utterances of one dialogue; who speaks in them may still have to be determined. Can be pickled.

    Attributes:
        rows: one per utterance, in order.
        portraits: for those whose frames could be read, one per span, in order.
        config: settings of the stage.
    """

    rows: list[Row]
    portraits: list[list[Portrait]]
    config: Config


Decoded = list[tuple[dict[str, Any], list[dict[str, Any]]]]
"""Per utterance, in order: its row of the media table, and its failure rows (audio before video)."""


def decode_dialogue(task: DialogueTask, observer: Observer | None = None) -> Decoded:
    """Decodes utterances of one dialogue, on the CPU; no part of a file is decoded twice, however many utterances it
    contains.

    Args:
        task: what to decode.
        observer: receives what the rows do not keep; changes nothing.
    """
    return settle(
        decode(task, observer),
        None if task.speaker is None else _scorer(task.speaker, task.config.speaker_precision),
        observer,
    )


@lru_cache(maxsize=1)
def _scorer(weights: Path, precision: SpeakerPrecision) -> active.Scorer:
    """The network of this process, on the CPU with one thread: parallelism comes from the worker processes. torch is
    first imported here.
    """
    import torch

    from merc.media.active_speaker.scoring import Scorer

    torch.set_num_threads(1)
    return Scorer(weights, precision=precision)


def decode(task: DialogueTask, observer: Observer | None = None) -> Draft:
    """Everything except what a network decides; arguments as for :func:`decode_dialogue`."""
    rows = [Row(clip, empty(clip)) for clip in task.clips]
    for row in rows:
        _cut_to_annotation(row, task)
    wishes: dict[str, list[Wish]] = {}
    for row in rows:
        for wish in _wishes_of(row, task):
            wishes.setdefault(wish.path, []).append(wish)
    # Audio first, where several utterances share a file: each one's face can be chosen as soon as its last frame has
    # been seen, and its frames need not be kept. (The packets are read twice then, but decoded once.) The clip of one
    # utterance is read in one pass.
    passes: list[list[Wish]] = []
    for of_file in wishes.values():
        if len({wish.row.clip.utterance_id for wish in of_file}) > 1:
            passes += [[wish for wish in of_file if wish.modality == modality] for modality in ("audio", "visual")]
        else:
            passes.append(of_file)
    portraits: list[Callable[[], Portrait]] = []
    for of_pass in sorted(passes, key=lambda one: any(wish.modality == "visual" for wish in one)):
        if of_pass:
            portraits += _decode_file(task, of_pass[0].path, of_pass, observer)
    return Draft(rows, _by_utterance(portrait() for portrait in portraits), task.config)


def _by_utterance(portraits: Iterable[Portrait]) -> list[list[Portrait]]:
    of_row: dict[str, list[Portrait]] = {}
    for portrait in portraits:
        of_row.setdefault(portrait.wish.row.clip.utterance_id, []).append(portrait)
    return [sorted(spans, key=lambda one: one.wish.place.offset_seconds) for spans in of_row.values()]


def settle(draft: Draft, scorer: active.Scorer | None, observer: Observer | None = None) -> Decoded:
    """The rows of a draft.

    Args:
        draft: what was decoded.
        scorer: needed only with ``media.choice: active_speaker``.
        observer: that of the decoding, or another one.
    """
    if scorer is None and draft.portraits and draft.config.choice == "active_speaker":
        raise ValueError("the choice active_speaker needs a scorer")
    for spans in draft.portraits:
        watching.settle(spans, draft.config, scorer, observer)
    for row in draft.rows:
        row.tell_lost()
    return [(row.columns, sorted(row.failures, key=lambda failure: str(failure["modality"]))) for row in draft.rows]


def without_result(task: DialogueTask, reason: str, detail: str) -> Decoded:
    """The rows of a task that its worker did not survive: no streams, only the reason."""
    rows = [Row(clip, empty(clip)) for clip in task.clips]
    for row in rows:
        for modality in sorted(task.streams):
            row.lose(modality, reason, detail)
    return [(row.columns, row.failures) for row in rows]


def _wishes_of(row: Row, task: DialogueTask) -> list[Wish]:
    clip, listens = row.clip, "visual" in task.streams and task.config.choice in LISTENING
    found = []
    for modality, stored in (("audio", "audio" in task.streams), ("visual", True)):
        for piece in clip.pieces(modality) if modality in task.streams or (modality == "audio" and listens) else ():
            try:
                wanted = span(piece.start_seconds, piece.end_seconds)
            except ValueError as error:
                if stored:
                    row.lose(modality, "no_audio_samples" if modality == "audio" else "no_video_frames", str(error))
                continue
            if piece.offset_seconds < task.config.max_clip_seconds:
                found.append(
                    Wish(row, modality, piece.path, wanted, Place(piece.offset_seconds, clip.whole_seconds), stored)
                )
    row.awaited = sum(wish.modality == "audio" for wish in found)
    return found


def _cut_to_annotation(row: Row, task: DialogueTask) -> None:
    """If a file is longer than it should be, only its start is used: the corpus cut it from the start of the utterance
    to the end of the next one.
    """
    clip = row.clip
    if clip.expected_seconds is None:
        return
    ends: dict[str, Any] = {}
    for modality, path, end in (
        ("audio", "audio_path", "audio_end_seconds"),
        ("visual", "video_path", "video_end_seconds"),
    ):
        located, _, _ = _locate(task, getattr(clip, path))
        seconds = None if located is None else container.stated_seconds(located, task.config)
        if seconds is not None and seconds > clip.expected_seconds + task.config.max_overlong_seconds:
            ends[end] = clip.expected_seconds
            if modality in task.streams:
                row.remark(modality, "cut_to_annotation", cut_words(seconds, clip.expected_seconds))
    row.clip = replace(clip, **ends)


def _decode_file(
    task: DialogueTask, relative: str, wishes: Sequence[Wish], observer: Observer | None
) -> list[Callable[[], Portrait]]:
    """Reads a file once; completes the rows' audio and returns a function that makes the portraits once all audio has
    been read.
    """
    path, reason, detail = _locate(task, relative)
    config = task.config
    heard = [
        (
            wish,
            SoundSpan(
                wish.wanted,
                config.max_clip_seconds - wish.place.offset_seconds,
                wish.row.clip.audio_channel,
                config.min_mix_share,
            ),
        )
        for wish in wishes
        if wish.modality == "audio"
    ]
    seen = [wish for wish in wishes if wish.modality == "visual"]
    watcher = Watcher(config, faces.finder(config, task.model) if seen else None, [wish.row for wish in seen], observer)
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
            wish.row.sounds.append(listening.HeardSpan(wish, sound, result))
        if wish.row.heard and wish.row.sounds:
            listening.settle(wish.row, config)
    if refused:
        return []
    spans: Sequence[FrameSpan | None] = result.frame_spans or [None] * len(seen)
    return [partial(Portrait.of, wish, one, watcher, result, config) for wish, one in zip(seen, spans, strict=True)]


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
