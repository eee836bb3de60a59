"""The demonstration's IEMOCAP: the raw layout of the release, with the oddities of its annotations.

The oddities: one utterance counts as happy only by the speaker's own rating; one rating of attributes is broken; one
line of a transcription ends in ``_MXX0`` and has neither audio nor label; two lines have no id; two turns overlap and
are not in order of their start in the transcription; one dialogue id ends in ``a``, one in ``b``; some utterances have
no majority (``xxx``), some ratings are empty or double; there are stray files ``._…`` and ``*.anvil``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from merc.corpora.demo import clips as demo_clips
from merc.corpora.demo import dialogues as demo_dialogues
from merc.corpora.demo import faces as demo_faces
from merc.corpora.demo import voices as demo_voices
from merc.corpora.demo.config import Config
from merc.corpora.demo.dialogues import Turn
from merc.records.media import SAMPLE_RATE_HZ

NAME = "demo-iemocap"
RELEASE = "IEMOCAP_full_release"
WIDTH, HEIGHT, LETTERBOX = 720, 480, 60

# Id and trajectory; the first six contain all sessions, a dialogue of the fixed validation set (Ses01M_impro01), and
# all oddities.
DIALOGUES = (
    ("Ses01F_impro03", "wedding"),
    ("Ses01M_impro01", "making up"),
    ("Ses02F_script01_3", "quarrel"),
    ("Ses03M_impro05a", "complaint"),
    ("Ses04F_impro06", "farewell"),
    ("Ses05F_impro07", "reunion"),
    ("Ses05M_script01_1b", "quarrel"),
    ("Ses04M_impro08", "reunion"),
)
_SELF_RATED_HAPPY_IN = _BROKEN_RATING_IN = "Ses01F_impro03"
_WITHOUT_ID_IN = "Ses01M_impro01"
_WITHOUT_EVALUATION_IN = "Ses03M_impro05a"
_OVERLAP_AT = 5  # this turn starts before the previous one has ended, in every dialogue
_OVERLAP_SECONDS = 0.25
_UNDECIDED_SHARE = 0.15  # of the turns whose emotion occurred before in the dialogue: no majority among the raters
_LEAD_SECONDS = 0.5
_CROSSTALK = 0.15  # share of the other actor's voice in a channel

PALETTE = ("neutral", "joy", "excited", "sadness", "anger", "frustrated")
# Emotion → the release's code, the raters' word, and typical valence, activation and dominance on the scale of 1 to 5.
_LABELS = {
    "neutral": ("neu", "Neutral", (3, 2, 3)),
    "joy": ("hap", "Happiness", (4, 3, 3)),
    "excited": ("exc", "Excited", (4, 4, 3)),
    "sadness": ("sad", "Sadness", (2, 2, 2)),
    "anger": ("ang", "Anger", (2, 4, 4)),
    "frustrated": ("fru", "Frustration", (2, 3, 3)),
}
_NEXT_TO = {
    "neutral": "frustrated",
    "joy": "excited",
    "excited": "joy",
    "sadness": "frustrated",
    "anger": "frustrated",
    "frustrated": "anger",
}


@dataclass(frozen=True)
class Spoken:
    """One utterance of a recording.

    Attributes:
        utterance_id: as in the release.
        turn: what is said, and how; its ``seconds`` is ``end_seconds - start_seconds``.
        start_seconds, end_seconds: in the recording, in steps of 0.1 ms.
        rating: the lines of the evaluation below its first one.
        code: the official label.
        attributes: means of valence, activation and dominance.
    """

    utterance_id: str
    turn: Turn
    start_seconds: float
    end_seconds: float
    code: str
    attributes: tuple[float, float, float]
    rating: tuple[str, ...]

    @property
    def span(self) -> slice:
        """Its range of samples at 16 kHz."""
        return slice(*(round(seconds * SAMPLE_RATE_HZ) for seconds in (self.start_seconds, self.end_seconds)))


@dataclass(frozen=True)
class Recording:
    """One dialogue, utterances by start time."""

    dialogue_id: str
    spoken: tuple[Spoken, ...]

    @property
    def session(self) -> str:
        """Such as ``Session1``."""
        return f"Session{self.dialogue_id[4]}"

    @property
    def marked(self) -> str:
        """``F`` or ``M``: who wears the markers and sits on the left."""
        return self.dialogue_id[5]

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return max(one.end_seconds for one in self.spoken) + _LEAD_SECONDS


def script(config: Config) -> list[Recording]:
    """All dialogues."""
    said: set[str] = set()
    return [_recording(config, *one, said) for one in DIALOGUES[: config.iemocap_dialogues]]


def _recording(config: Config, dialogue_id: str, trajectory: str, said: set[str]) -> Recording:
    rng = demo_dialogues.generator(config.seed, NAME, dialogue_id)
    felt = demo_dialogues.emotions(
        rng, demo_dialogues.IEMOCAP_TRAJECTORIES[trajectory], config.iemocap_turns, config.unexpected_turns
    )
    speakers = ("F", "M") if rng.random() < 0.5 else ("M", "F")
    turns = demo_dialogues.turns(rng, config, felt, speakers, PALETTE, said, tag=True)
    happy = (
        [index for index, emotion in enumerate(felt) if emotion == "joy"] if dialogue_id == _SELF_RATED_HAPPY_IN else []
    )
    spoken: list[Spoken] = []
    clock = _LEAD_SECONDS
    counts = {"F": 0, "M": 0}
    for index, turn in enumerate(turns):
        start = round(clock - _OVERLAP_SECONDS if index == _OVERLAP_AT else clock + rng.uniform(0.02, 0.2), 4)
        end = round(start + turn.seconds, 4)
        self_rated = bool(happy) and index == happy[-1]
        undecided = rng.random() < _UNDECIDED_SHARE and turn.emotion in felt[:index] and not self_rated
        code, votes = _votes(rng, turn.emotion, turn.speaker, self_rated=self_rated, undecided=undecided)
        broken = dialogue_id == _BROKEN_RATING_IN and index == 0
        attributes, rating = _attributes(rng, turn, turn.speaker, broken=broken)
        utterance_id = f"{dialogue_id}_{turn.speaker}{counts[turn.speaker]:03d}"
        spoken.append(Spoken(utterance_id, turn, start, end, code, attributes, (*votes, *rating)))
        counts[turn.speaker] += 1
        clock = end
    return Recording(dialogue_id, tuple(spoken))


def _votes(
    rng: np.random.Generator, emotion: str, letter: str, *, self_rated: bool, undecided: bool
) -> tuple[str, list[str]]:
    """The official code, and the lines of three external raters and of the speaker."""
    code, word, _ = _LABELS[emotion]
    near = _LABELS[_NEXT_TO[emotion]][1]
    own = f"{word};"
    if self_rated:
        code, given = "xxx", ["Happiness;", "Excited;", "Neutral;"]
    elif undecided:
        code, given, own = "xxx", [f"{word};", f"{near};", "Surprise;"], "Other;"
    else:
        third = (f"{word};", f"{word}; {near};", f"{near};")[rng.integers(3)]
        given = [f"{word};", f"{word};", third]
        own = ";" if rng.random() < 0.1 else own
    raters = ("E2", "E3", "E4")
    return code, [
        *(f"C-{rater}:\t{words}\t()" for rater, words in zip(raters, given, strict=True)),
        f"C-{letter}1:\t{own}\t()",
    ]


def _attributes(
    rng: np.random.Generator, turn: Turn, letter: str, *, broken: bool
) -> tuple[tuple[float, float, float], list[str]]:
    """Means and lines of two external raters, and the speaker's own line."""
    typical = np.array(_LABELS[turn.emotion][2])
    given = np.clip(typical + rng.integers(-1, 2, (2, 3)) * (rng.random((2, 3)) < 0.4), 1, 5)
    lines = [
        f"A-{rater}:\tval {valence}; act {activation}; dom  {dominance};\t()"
        for rater, (valence, activation, dominance) in zip(("E3", "E4"), given, strict=True)
    ]
    own = "val 6; act 6; dom ;" if broken else f"val {typical[0]}; act {typical[1]}; dom  {typical[2]};"
    valence, activation, dominance = (float(value) for value in given.mean(0))
    return (valence, activation, dominance), [*lines, f"A-{letter}1:\t{own}\t()"]


def write_annotations(root: Path, recordings: list[Recording]) -> None:
    """Writes ``EmoEvaluation`` and ``transcriptions`` of all dialogues, and the stray files."""
    for recording in recordings:
        dialogs = root / RELEASE / recording.session / "dialog"
        evaluation, transcription = (
            dialogs / "EmoEvaluation" / f"{recording.dialogue_id}.txt",
            dialogs / "transcriptions" / f"{recording.dialogue_id}.txt",
        )
        for path, text in ((evaluation, _evaluation(recording)), (transcription, _transcription(recording))):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode("ascii"))
        categorical = dialogs / "EmoEvaluation" / "Categorical" / f"{recording.dialogue_id}_e2_cat.txt"
        categorical.parent.mkdir(exist_ok=True)
        categorical.write_bytes(
            "".join(f"{one.utterance_id} :{one.rating[0].split(chr(9))[1]} ()\n" for one in recording.spoken).encode(
                "ascii"
            )
        )
        for stray in (evaluation.with_name(f"._{evaluation.name}"), evaluation.with_suffix(".anvil")):
            stray.write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00")


def _evaluation(recording: Recording) -> str:
    blocks = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n"]
    for one in sorted(recording.spoken, key=lambda one: one.utterance_id):
        means = ", ".join(f"{value:.4f}" for value in one.attributes)
        lines = [
            f"[{one.start_seconds:.4f} - {one.end_seconds:.4f}]\t{one.utterance_id}\t{one.code}\t[{means}]",
            *one.rating,
        ]
        blocks.append("".join(f"{line}\n" for line in lines))
    return "\n".join([*blocks, ""])


def _transcription(recording: Recording) -> str:
    lines = [
        f"{one.utterance_id} [{one.start_seconds:08.4f}-{one.end_seconds:08.4f}]: {one.turn.text}"
        for one in recording.spoken
    ]
    # The transcribers wrote down the interruption first.
    lines[_OVERLAP_AT - 1 : _OVERLAP_AT + 1] = lines[_OVERLAP_AT - 1 : _OVERLAP_AT + 1][::-1]
    if recording.dialogue_id == _WITHOUT_EVALUATION_IN:
        lines.insert(
            3,
            f"{recording.dialogue_id}_MXX0"
            f" [{recording.spoken[2].end_seconds:08.4f}-{recording.spoken[3].start_seconds:08.4f}]: Mm-hm.",
        )
    if recording.dialogue_id == _WITHOUT_ID_IN:
        lines[2:2] = ["M: Yeah.", "F:[LAUGHTER]"]
    return "".join(f"{line}\r\n" for line in lines)


def write_recording(root: Path, seed: int, recording: Recording) -> None:
    """Makes a dialogue's video and audio files; they do not depend on what else is made."""
    rng = demo_dialogues.generator(seed, NAME, recording.dialogue_id, "media")
    actors = {letter: _actor(seed, recording, letter) for letter in "FM"}
    order = (recording.marked, "M" if recording.marked == "F" else "F")
    samples = round(recording.seconds * SAMPLE_RATE_HZ)
    alone = np.zeros((2, samples), np.float32)
    for one in recording.spoken:
        sound = demo_voices.speak(
            rng, actors[one.turn.speaker].voice, demo_dialogues.manner(one.turn), one.turn.seconds
        )
        begin = one.span.start
        alone[order.index(one.turn.speaker), begin : begin + len(sound)] += sound[: samples - begin]
    channels = alone + np.float32(_CROSSTALK) * alone[::-1]
    channels += np.stack([demo_voices.background(rng, samples) for _ in order])
    dialogs = root / RELEASE / recording.session
    demo_clips.write_wav(dialogs / "dialog" / "wav" / f"{recording.dialogue_id}.wav", channels)
    for one in recording.spoken:
        path = dialogs / "sentences" / "wav" / recording.dialogue_id / f"{one.utterance_id}.wav"
        demo_clips.write_wav(path, channels[order.index(one.turn.speaker)][None, one.span])
    video = dialogs / "dialog" / "avi" / "DivX" / f"{recording.dialogue_id}.avi"
    demo_clips.write_avi(video, _pictures(rng, recording, [actors[letter] for letter in order], order, alone), channels)


def _actor(seed: int, recording: Recording, letter: str) -> demo_dialogues.Actor:
    return demo_dialogues.actor(seed, f"Ses0{recording.session[-1]}_{letter}", female=letter == "F")


def _pictures(
    rng: np.random.Generator,
    recording: Recording,
    actors: list[demo_dialogues.Actor],
    letters: tuple[str, str],
    alone: NDArray[np.float32],
) -> Iterator[demo_faces.Image]:
    """Both actors side by side, the marked one on the left, black bars above and below; a silent actor looks
    neutral.
    """
    rate = float(demo_clips.IEMOCAP_FPS)
    count = demo_clips.frame_count(recording.seconds, demo_clips.IEMOCAP_FPS)
    high, half = HEIGHT - 2 * LETTERBOX, WIDTH // 2
    still = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    halves = []
    for index, actor in enumerate(actors):
        view = still[LETTERBOX : HEIGHT - LETTERBOX, index * half : (index + 1) * half]
        view[...] = demo_faces.room(rng, half, high)
        pose = demo_faces.Pose(
            half / 2 + rng.uniform(-15, 15), high / 2 + rng.uniform(0, 12), rng.uniform(0.78, 0.92), rng.uniform(-2, 2)
        )
        demo_faces.draw_shoulders(view, actor.look, pose)
        motion = demo_faces.Motion.drawn(rng, recording.seconds)
        halves.append((actor, letters[index], pose, motion, demo_voices.openness(alone[index], count, rate)))
    picture = still
    for number in range(count):
        if number % demo_clips.PICTURES_PER_DRAWING == 0:
            picture, seconds = still.copy(), number / rate
            for index, (actor, letter, pose, motion, speech) in enumerate(halves):
                shown = _expression_at(recording, letter, seconds)
                view = picture[LETTERBOX : HEIGHT - LETTERBOX, index * half : (index + 1) * half]
                demo_faces.draw(
                    view,
                    actor.look,
                    shown,
                    motion.moved(pose, shown, seconds),
                    float(speech[number]),
                    blink=motion.blinks(seconds),
                )
        yield picture


def _expression_at(recording: Recording, letter: str, seconds: float) -> demo_faces.Expression:
    for one in recording.spoken:
        if one.turn.speaker == letter and one.start_seconds <= seconds < one.end_seconds:
            return demo_dialogues.expression(one.turn)
    return demo_faces.EXPRESSIONS["neutral"]
