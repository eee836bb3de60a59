"""IEMOCAP's ids and folders: which dialogues there are, and where their video and audio lie."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from merc.corpora.engine.folders import is_folder
from merc.errors import BadTable
from merc.log import logger
from merc.params import Settings

Side = Literal["left", "right"]

# Five ids carry a letter: Ses05M_script01_1b, Ses03M_impro05a and b, Ses03M_impro08a and b.
_DIALOGUE = re.compile(r"Ses0(?P<session>[1-5])(?P<marked>[FM])_(?P<scenario>impro0[1-8]|script0[1-3]_[1-3])[ab]?")


class MarkedActorSide(Settings):
    """Half of the frame in which the actor with the markers sits, by session. Verified for session 1 only; check a few
    crops of the others.
    """

    session1: Side = "left"
    """Half of the frame in session 1; verified."""
    session2: Side = "left"
    """Half of the frame in session 2; not verified."""
    session3: Side = "left"
    """Half of the frame in session 3; not verified."""
    session4: Side = "left"
    """Half of the frame in session 4; not verified."""
    session5: Side = "left"
    """Half of the frame in session 5; not verified."""


class MarkedActorChannel(Settings):
    """Channel of ``dialog/wav`` that is the actor's with the markers, by session; the other one is the other actor's.

    It is checked against the audio: see iemocap_channels.py.
    """

    session1: Side = "left"
    """Channel in session 1."""
    session2: Side = "left"
    """Channel in session 2."""
    session3: Side = "left"
    """Channel in session 3."""
    session4: Side = "left"
    """Channel in session 4."""
    session5: Side = "left"
    """Channel in session 5."""


def session_of(dialogue_id: str) -> int:
    """The session's number.

    >>> session_of("Ses03M_impro05a")
    3
    """
    return int(_parts(dialogue_id)["session"])


def scenario_of(dialogue_id: str) -> str:
    """The script or task, which recurs in every session; the halves ``a`` and ``b`` of a recording share it.

    >>> scenario_of("Ses05M_script01_1b")
    'script01_1'
    """
    return _parts(dialogue_id)["scenario"]


def _parts(dialogue_id: str) -> re.Match[str]:
    match = _DIALOGUE.fullmatch(dialogue_id)
    if match is None:
        raise BadTable(
            f"{dialogue_id!r} is not the id of an IEMOCAP dialogue, such as Ses01F_impro01 or Ses05M_script01_1b"
        )
    return match


def speaker_letter(utterance_id: str) -> str:
    """``F`` or ``M``: who speaks; the letter precedes the three digits."""
    return utterance_id[-4]


@dataclass(frozen=True)
class SessionFiles:
    """The files of one session, listed once: dialogue id → name of the file, except in ``sentence_wavs``: utterance id
    → name.
    """

    exists: bool
    evaluations: Mapping[str, str]
    transcriptions: Mapping[str, str]
    videos: Mapping[str, str]
    dialogue_wavs: Mapping[str, str]
    sentence_wavs: Mapping[str, str]


def list_session(folder: Path, session: int) -> SessionFiles:
    """Lists the files of a session folder without opening any; files of macOS archives (``._*``) and annotation tools
    are skipped.
    """
    dialogs, sentences = folder / "dialog", folder / "sentences" / "wav"
    wavs = {
        name: file
        for one in _entries(sentences, folders=True)
        for name, file in _files(sentences / one, ".wav").items()
        if name.startswith(f"{one}_")
    }
    return SessionFiles(
        exists=folder.is_dir(),
        evaluations=_of_dialogues(dialogs / "EmoEvaluation", ".txt", session),
        transcriptions=_of_dialogues(dialogs / "transcriptions", ".txt", session),
        videos=_of_dialogues(dialogs / "avi" / "DivX", ".avi", session),
        dialogue_wavs=_of_dialogues(dialogs / "wav", ".wav", session),
        sentence_wavs=wavs,
    )


def _of_dialogues(folder: Path, suffix: str, session: int) -> dict[str, str]:
    found = {}
    for name, file in _files(folder, suffix).items():
        match = _DIALOGUE.fullmatch(name)
        if match is not None and int(match["session"]) == session:
            found[name] = file
        else:
            logger.warning("%s is not a dialogue of session %d; it is left out", folder / file, session)
    return found


def _files(folder: Path, suffix: str) -> dict[str, str]:
    """Name without its suffix → file; the suffix's case does not matter."""
    names = [one for one in _entries(folder, folders=False) if one.lower().endswith(suffix)]
    return {
        one[: -len(suffix)]: one for one in sorted(names, key=lambda one: one.endswith(suffix))
    }  # the release's spelling comes last and wins


def _entries(folder: Path, *, folders: bool) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(
            entry.name for entry in entries if is_folder(entry) == folders and not entry.name.startswith("._")
        )


def describe(base: Path, sessions: Mapping[int, SessionFiles]) -> str:
    """The parts of the corpus found in ``base``, as indented lines for a message."""
    if not base.is_dir():
        return "  nothing, there is no such folder"
    if not any(files.exists for files in sessions.values()):
        names = [*_entries(base, folders=True), *_entries(base, folders=False)]
        return f"  {', '.join(names[:10]) or 'nothing, the folder is empty'}{', …' if len(names) > 10 else ''}"
    return "\n".join(
        (
            f"  Session{number}: {len(files.evaluations)} EmoEvaluation, {len(files.transcriptions)} transcriptions,"
            f" {len(files.videos)} avi, {len(files.sentence_wavs)} sentences/wav, {len(files.dialogue_wavs)} dialog/wav"
            if files.exists
            else f"  Session{number}: no such folder"
        )
        for number, files in sessions.items()
    )


class MediaPaths:
    """Where the media of an utterance are, and whether they exist.

    The kind of audio is chosen once for the whole corpus: a mixture of both kinds would add a difference between
    utterances that is not in the data. A missing file keeps its path, so that decoding records it, and so that a
    manifest made for text only also serves the media.

    Args:
        prefix: the corpus's folder relative to raw/.
        sessions: the existing files.
        sides: where the actor with the markers sits.
        channels: in which channel of the dialogue's audio that actor is.

    Attributes:
        whole_files: whether each utterance has its own audio file; if not, its audio is a span of the dialogue's file.
    """

    def __init__(
        self, prefix: str, sessions: Mapping[int, SessionFiles], sides: MarkedActorSide, channels: MarkedActorChannel
    ) -> None:
        self._prefix, self._sessions, self._sides, self._channels = prefix, sessions, sides, channels
        has_sentences = any(files.sentence_wavs for files in sessions.values())
        has_dialogues = any(files.dialogue_wavs for files in sessions.values())
        self.whole_files = has_sentences or not has_dialogues

    def video(self, dialogue_id: str) -> str:
        """The dialogue's video, relative to raw/."""
        name = self.listed(dialogue_id).videos.get(dialogue_id, f"{dialogue_id}.avi")
        return self._path(dialogue_id, f"dialog/avi/DivX/{name}")

    def audio(self, dialogue_id: str, utterance_id: str) -> str:
        """The file with the utterance's audio, relative to raw/."""
        if not self.whole_files:
            return self.dialogue_wav(dialogue_id)
        name = self.listed(dialogue_id).sentence_wavs.get(utterance_id, f"{utterance_id}.wav")
        return self._path(dialogue_id, f"sentences/wav/{dialogue_id}/{name}")

    def dialogue_wav(self, dialogue_id: str) -> str:
        """The dialogue's audio, one channel per actor, relative to raw/."""
        name = self.listed(dialogue_id).dialogue_wavs.get(dialogue_id, f"{dialogue_id}.wav")
        return self._path(dialogue_id, f"dialog/wav/{name}")

    def listed(self, dialogue_id: str) -> SessionFiles:
        """The files of the dialogue's session."""
        return self._sessions[session_of(dialogue_id)]

    def _path(self, dialogue_id: str, below_session: str) -> str:
        return (PurePosixPath(self._prefix) / f"Session{session_of(dialogue_id)}" / below_session).as_posix()

    def region(self, dialogue_id: str, utterance_id: str) -> str:
        """The speaker's half: that of the actor with the markers if the letters agree, else the other one."""
        return _of_speaker(self._sides, dialogue_id, utterance_id)

    def channel(self, dialogue_id: str, utterance_id: str) -> str:
        """The speaker's channel of :meth:`dialogue_wav`, by the same rule."""
        return _of_speaker(self._channels, dialogue_id, utterance_id)

    def has_dialogue_wav(self, dialogue_id: str) -> bool:
        return dialogue_id in self.listed(dialogue_id).dialogue_wavs

    def there(self, paths: Iterable[str]) -> dict[str, bool]:
        """Path → whether the file exists, each path once, in their order; answered from the listing without accessing
        files.
        """
        names: set[str] = set()
        for files in self._sessions.values():
            names |= {*files.videos.values(), *files.dialogue_wavs.values(), *files.sentence_wavs.values()}
        return {path: PurePosixPath(path).name in names for path in paths}


def _of_speaker(marked: MarkedActorSide | MarkedActorChannel, dialogue_id: str, utterance_id: str) -> Side:
    side: Side = getattr(marked, f"session{session_of(dialogue_id)}")
    marked_actor_speaks = _parts(dialogue_id)["marked"] == speaker_letter(utterance_id)
    other: Side = "right" if side == "left" else "left"
    return side if marked_actor_speaks else other
