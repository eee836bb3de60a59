"""Checks whether IEMOCAP's speakers are where the settings place them: the louder channel of the dialogue's audio tells
who speaks.

``dialog/wav`` has one channel per actor, and in it the left channel is usually the louder one while the actor on the
left speaks.
Each utterance therefore votes twice: is the louder channel the speaker's by ``marked_actor_channel``, and is it on the
side of the half of the frame that ``marked_actor_side`` assigns to the speaker?
"""

import wave
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merc import files

# Evenly chosen from a session's utterances: 40 MB to read for all five sessions, and a majority among 60 is not due to
# chance.
VOTES_PER_SESSION = 60
_SHORTEST_SECONDS = 0.5  # "Yeah." and the like are often said while the other actor speaks
_SIXTEEN_BITS = 2
CHANCE = 0.001
"""One-sided: with two settings in five sessions, chance alone calls one wrong in one of a hundred corpora."""


_CONCLUSIONS = {"contradicted": "it seems to be the other way round", "undecided": "that can be chance: undecided"}


@dataclass(frozen=True)
class Spoken:
    """One utterance and where the settings place its speaker.

    Attributes:
        path: the dialogue's wav file.
        start_seconds, end_seconds: span in that file.
        channel: the speaker's channel by the settings, ``left`` or ``right``.
        region: the speaker's half of the frame by the settings.
    """

    path: Path
    start_seconds: float
    end_seconds: float
    channel: str
    region: str


@dataclass
class Votes:
    """What the utterances of one session say.

    Attributes:
        utterances: number of utterances with two channels, one of them louder.
        channel_agrees: number of these whose louder channel is the speaker's by the settings.
        region_agrees: number of these whose louder channel is on the side where the speaker is looked for.
        unreadable: number of files that are missing or not 16-bit two-channel wav.
    """

    utterances: int = 0
    channel_agrees: int = 0
    region_agrees: int = 0
    unreadable: set[str] = field(default_factory=set)

    def record(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "utterances": self.utterances,
            "channel_agrees": self.channel_agrees,
            "channel": self.verdict(self.channel_agrees),
            "region_agrees": self.region_agrees,
            "region": self.verdict(self.region_agrees),
            "unreadable_files": len(self.unreadable),
        }

    def verdict(self, agrees: int) -> str:
        """The verdict from this many votes for a setting: ``confirmed`` or ``contradicted`` if chance is unlikely, else
        ``undecided``.
        """
        if not self.utterances:
            return "undecided"
        from scipy.stats import binomtest  # takes half a second to import, which every command would have to wait for

        for verdict, alternative in (("confirmed", "greater"), ("contradicted", "less")):
            if binomtest(agrees, self.utterances, 0.5, alternative=alternative).pvalue < CHANCE:
                return verdict
        return "undecided"

    def contradictions(self, session: int) -> list[str]:
        """One line per setting that most utterances contradict, whether or not significantly; also if no audio could be
        read.
        """
        if self.unreadable and not self.utterances:
            return [
                f"session {session}: none of {len(self.unreadable)} files of dialog/wav is a wav of two channels; who"
                " sits where is not checked"
            ]
        return [
            f"session {session}: {setting} puts the speaker on the other side than the louder channel of dialog/wav in"
            f" {self.utterances - agrees} of {self.utterances} utterances that were listened to;"
            f" {_CONCLUSIONS[self.verdict(agrees)]}"
            for setting, agrees in (
                ("marked_actor_channel", self.channel_agrees),
                ("marked_actor_side", self.region_agrees),
            )
            if 2 * agrees < self.utterances
        ]


def listen(spoken: Iterable[Spoken]) -> Votes:
    """Compares the channels of some utterances of one session, the same ones every time.

    Args:
        spoken: all utterances of the session.
    """
    votes = Votes()
    for one in _some([one for one in spoken if one.end_seconds - one.start_seconds >= _SHORTEST_SECONDS]):
        try:
            sound_SC = _read(one)
        except (OSError, EOFError, wave.Error, ValueError):
            votes.unreadable.add(one.path.name)
            continue
        left, right = (
            float(np.sum((channel - channel.mean()) ** 2)) if len(channel) else 0.0
            for channel in sound_SC.T.astype(np.float64)
        )
        if left == right:
            continue
        louder = "left" if left > right else "right"
        votes.utterances += 1
        votes.channel_agrees += louder == one.channel
        votes.region_agrees += louder == one.region
    return votes


def _some(spoken: Sequence[Spoken]) -> list[Spoken]:
    count = min(len(spoken), VOTES_PER_SESSION)
    return [spoken[index * len(spoken) // count] for index in range(count)]


def _read(one: Spoken) -> NDArray[np.int16]:
    """(samples, 2) of the utterance's span.

    Raises:
        ValueError: if the file has another number of channels or another sample width.
    """
    files.check_kind(one.path)
    with wave.open(str(one.path), "rb") as file:
        if (file.getnchannels(), file.getsampwidth()) != (2, _SIXTEEN_BITS):
            raise ValueError(f"{file.getnchannels()} channels of {file.getsampwidth()} bytes")
        begin, end = (
            min(round(seconds * file.getframerate()), file.getnframes())
            for seconds in (one.start_seconds, one.end_seconds)
        )
        file.setpos(begin)
        return np.frombuffer(file.readframes(end - begin), dtype="<i2").reshape(-1, 2)
