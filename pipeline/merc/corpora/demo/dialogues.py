"""The demonstration's conversations: who says what, the intended emotion, and the one that each modality shows.

trajectory ──► emotion per turn ──► words, voice, face each show it …
               (with a little noise)   … or, independently of each other, something else: neutral or another emotion
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from merc.corpora.demo import faces as demo_faces
from merc.corpora.demo import voices as demo_voices
from merc.corpora.demo import words as demo_words
from merc.corpora.demo.config import Config


@dataclass(frozen=True)
class Actor:
    """A person: the same name always looks and sounds the same."""

    name: str
    female: bool
    look: demo_faces.Look
    voice: demo_voices.Voice


def actor(seed: int, name: str, *, female: bool) -> Actor:
    """The person with a name."""
    rng = generator(seed, "actor", name)
    return Actor(name, female, demo_faces.look(rng, female=female), demo_voices.voice(rng, female=female))


@dataclass(frozen=True)
class Turn:
    """One utterance.

    Attributes:
        speaker: name of the actor.
        emotion: what the annotators agree on; a key of :data:`merc.corpora.demo.faces.EXPRESSIONS`.
        words, voice, face: the emotion that each modality shows.
        strength: strength of expression of face and voice, 0 to 1.
        text: the transcript.
        seconds: length.
    """

    speaker: str
    emotion: str
    words: str
    voice: str
    face: str
    strength: float
    text: str
    seconds: float


def generator(seed: int, *names: str) -> np.random.Generator:
    """Random numbers for one named thing, so that nothing depends on the order in which things are made."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


# Trajectories of conversations, as (who starts, who answers); a dialogue of n turns follows both at an even pace.
# n neutral, j joy, s surprise, d sadness, a anger, f fear, g disgust; x excited, r frustrated (IEMOCAP only).
_LETTERS = {
    "n": "neutral",
    "j": "joy",
    "s": "surprise",
    "d": "sadness",
    "a": "anger",
    "f": "fear",
    "g": "disgust",
    "x": "excited",
    "r": "frustrated",
}
MELD_TRAJECTORIES: dict[str, tuple[str, str]] = {
    "escalation": ("nsaaa", "nnnaa"),
    "consolation": ("dddjj", "nnnnj"),
    "dread": ("nfffj", "nnffn"),
    "bad meal": ("ngggj", "nnggs"),
    "calm": ("nnjnn", "nnnnn"),
    "surprise": ("nsjsj", "nsnjn"),
    "bickering": ("anaga", "nanga"),
    "bad news": ("nsddd", "nnddn"),
    "celebration": ("njjjs", "nsjjn"),
    "small talk": ("nnjns", "njnnn"),
}
IEMOCAP_TRAJECTORIES: dict[str, tuple[str, str]] = {
    "complaint": ("nrrarr", "nnrrna"),
    "wedding": ("nxxjxj", "nxjxjn"),
    "farewell": ("nddddj", "nndddn"),
    "quarrel": ("nrraad", "nrraad"),
    "reunion": ("nxjxdj", "njjxdn"),
    "making up": ("nradxj", "nrddjx"),
}


def emotions(rng: np.random.Generator, trajectory: tuple[str, str], turns: int, unexpected: float) -> list[str]:
    """The emotion of each turn of a dialogue.

    The first turn of each emotion is kept, so that a dialogue always has every emotion of its trajectory; of the other
    turns, a share ``unexpected`` becomes neutral or, if neutral already, another emotion of the same trajectory.
    """
    walked = [
        _LETTERS[path[int(turn / turns * len(path))]] for turn in range(turns) for path in (trajectory[turn % 2],)
    ]
    others = sorted({emotion for emotion in walked if emotion != "neutral"}) or ["joy", "surprise"]
    result: list[str] = []
    for emotion in walked:
        if emotion in result and rng.random() < unexpected:
            emotion = others[rng.integers(len(others))] if emotion == "neutral" else "neutral"
        result.append(emotion)
    return result


def shown(rng: np.random.Generator, emotion: str, misleading: float, palette: Sequence[str]) -> str:
    """What one modality shows: ``emotion``, or with probability ``misleading`` another one of ``palette``, every second
    time a neutral one.
    """
    if rng.random() >= misleading:
        return emotion
    if emotion != "neutral" and rng.random() < 0.5:
        return "neutral"
    others = [other for other in palette if other not in (emotion, "neutral")]
    return others[rng.integers(len(others))]


def turns(
    rng: np.random.Generator,
    config: Config,
    felt: Sequence[str],
    speakers: Sequence[str],
    palette: Sequence[str],
    said: set[str],
    tag: bool = False,
) -> list[Turn]:
    """Makes a conversation.

    Args:
        rng: determines everything else.
        config: the settings.
        felt: emotion of each turn.
        speakers: in order of appearance; two take turns, others speak occasionally.
        palette: the available emotions.
        said: sentences that must not occur again; new ones are added.
        tag: whether to add transcribers' marks.
    """
    made: list[Turn] = []
    for index, emotion in enumerate(felt):
        speaker = speakers[index % 2]
        if len(speakers) > 2 and index >= 2 and rng.random() < 0.3:
            speaker = speakers[int(rng.integers(2, len(speakers)))]
        words = shown(rng, emotion, config.misleading_words, palette)
        voice = shown(rng, emotion, config.misleading_voice, palette)
        face = shown(rng, emotion, config.misleading_face, palette)
        text = demo_words.new_sentence(rng, words, said)
        text = demo_words.tagged(rng, text, words) if tag else text
        seconds = round(float(rng.uniform(config.clip_seconds_min, config.clip_seconds_max)), 3)
        made.append(Turn(speaker, emotion, words, voice, face, round(float(rng.uniform(0.75, 1.0)), 3), text, seconds))
    return made


def expression(turn: Turn) -> demo_faces.Expression:
    """The face of a turn, at its strength."""
    return demo_faces.EXPRESSIONS["neutral"].mixed(demo_faces.EXPRESSIONS[turn.face], turn.strength)


def manner(turn: Turn) -> demo_voices.Manner:
    """The voice of a turn, at its strength."""
    return demo_voices.MANNERS["neutral"].mixed(demo_voices.MANNERS[turn.voice], turn.strength)
