"""The demonstration's MELD: the raw layout as distributed, with the odd clips of the real corpus.

The oddities, by split, dialogue (in file order) and utterance (position), all from 0:

- train 0/1 has 5.1 audio with the dialogue in the front centre, 13 dB above left and right, and different noise in the
  rear;
- train 0/3 shows a wall and no face;
- train 1/2 is truncated, so that its index (the moov atom) is missing;
- train 1/4 has no video stream;
- train 2/1 is empty;
- train 2/3 has 0.064 s of audio;
- dev 0/2 does not exist;
- test 0/2 has a faulty clip, merged with the next utterance, and the replacement ``final_videos_testdia…``;
- test 1/1 has a clip that continues beyond its annotation;
- test 1/3 has an annotation that ends where it starts;
- train contains a file ``._dia0_utt0.mp4``, as in archives made on a Mac; its dialogue 2 does not exist, and its second
  dialogue has no Utterance_ID 3;
- three train texts are damaged as in older copies, one of them in the encoding of its line; the second ``Sr No.`` of
  train occurs twice.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from merc.corpora.demo import clips as demo_clips
from merc.corpora.demo import dialogues as demo_dialogues
from merc.corpora.demo import faces as demo_faces
from merc.corpora.demo import voices as demo_voices
from merc.corpora.demo import words as demo_words
from merc.corpora.demo.config import Config
from merc.corpora.demo.dialogues import Turn
from merc.corpora.engine.labels import LABEL_SETS
from merc.records.media import SAMPLE_RATE_HZ

NAME = "demo-meld"
WIDTH, HEIGHT = 640, 360
FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
COLUMNS = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime".split(
    ","
)

# Name → whether a woman. The first six are in most dialogues, like a series' main cast; the others are guests.
CAST = {
    "Nora": True,
    "Felix": False,
    "Ida": True,
    "Tom": False,
    "Priya": True,
    "Hugo": False,
    "Mina": True,
    "Oskar": False,
}
_MAIN_CAST = 6
# Trajectories in the order of the dialogues, repeated when they are used up; dev and test have all emotions, too.
_PLAYED = {
    "train": tuple(demo_dialogues.MELD_TRAJECTORIES),
    "dev": ("escalation", "bad meal", "dread", "consolation"),
    "test": ("dread", "bickering", "consolation", "bad meal", "surprise", "bad news"),
}
# Number of turns of the dialogues of a split, in order, from the start given here. Nine numbers and ten trajectories,
# so that the length does not reveal the trajectory.
_TURNS = (9, 12, 8, 7, 10, 11, 5, 9, 6)
_FIRST_TURNS = {"train": 4, "dev": 3, "test": 0}
_ODD = {
    ("train", 0, 1): "surround",
    ("train", 0, 3): "wall",
    ("train", 1, 2): "truncated",
    ("train", 1, 4): "no_video",
    ("train", 2, 1): "empty",
    ("train", 2, 3): "short_sound",
    ("dev", 0, 2): "missing",
    ("test", 0, 2): "replaced",
    ("test", 1, 1): "longer",
    ("test", 1, 3): "zero_duration",
}
_SKIPPED_DIALOGUE = ("train", 2)
_SKIPPED_UTTERANCE = ("train", 1, 3)
_SHORT_SOUND_SECONDS = 0.064
_LONGER_BY_SECONDS = 0.8
_TRUNCATED_TO = 0.6


@dataclass(frozen=True)
class Line:
    """A row of the annotations, with what its clip needs.

    Attributes:
        split, dialogue_id, utterance_id: the key.
        turn: what is said, and how.
        listener: name of the person next to the speaker; empty for none.
        season, episode: invented.
        start_ms, end_ms: in the episode.
        odd: its oddity; empty for most.
    """

    split: str
    dialogue_id: int
    utterance_id: int
    turn: Turn
    listener: str
    season: int
    episode: int
    start_ms: int
    end_ms: int
    odd: str = ""

    @property
    def clip(self) -> str:
        return f"dia{self.dialogue_id}_utt{self.utterance_id}.mp4"


@dataclass(frozen=True)
class Clip:
    """A video to be made.

    Attributes:
        path: relative to the corpus.
        turns: one, or two for a faulty cut.
        room: dialogues are held in one place.
        listener: as in :class:`Line`.
        odd: as in :class:`Line`.
    """

    path: str
    turns: tuple[Turn, ...]
    room: str
    listener: str
    odd: str


def script(config: Config) -> dict[str, list[Line]]:
    """Split → its utterances, in order."""
    said: set[str] = set()
    sizes = {"train": config.meld_train_dialogues, "dev": config.meld_dev_dialogues, "test": config.meld_test_dialogues}
    return {
        split: [line for ordinal in range(count) for line in _dialogue(config, split, ordinal, said)]
        for split, count in sizes.items()
    }


def _dialogue(config: Config, split: str, ordinal: int, said: set[str]) -> Iterator[Line]:
    rng = demo_dialogues.generator(config.seed, NAME, split, str(ordinal))
    trajectory = demo_dialogues.MELD_TRAJECTORIES[_PLAYED[split][ordinal % len(_PLAYED[split])]]
    count = _TURNS[(_FIRST_TURNS[split] + ordinal) % len(_TURNS)]
    felt = demo_dialogues.emotions(rng, trajectory, count, config.unexpected_turns)
    names = list(CAST)
    speakers = [names[index] for index in rng.permutation(_MAIN_CAST)[: rng.integers(2, 4)]]
    if rng.random() < 0.25:
        speakers.append(names[rng.integers(_MAIN_CAST, len(names))])
    turns = demo_dialogues.turns(rng, config, felt, speakers, LABEL_SETS["meld7"].classes, said)
    dialogue_id = ordinal + (split == _SKIPPED_DIALOGUE[0] and ordinal >= _SKIPPED_DIALOGUE[1])
    season, episode, clock = int(rng.integers(1, 10)), int(rng.integers(1, 25)), int(rng.integers(60_000, 1_400_000))
    for position, turn in enumerate(turns):
        others = [name for name in speakers if name != turn.speaker]
        listener = others[rng.integers(len(others))] if rng.random() < 0.35 else ""
        odd = _ODD.get((split, ordinal, position), "")
        length = round(turn.seconds * 1000)
        utterance_id = position + ((split, ordinal) == _SKIPPED_UTTERANCE[:2] and position >= _SKIPPED_UTTERANCE[2])
        yield Line(
            split,
            dialogue_id,
            utterance_id,
            turn,
            listener,
            season,
            episode,
            clock,
            clock + (0 if odd == "zero_duration" else length),
            odd,
        )
        clock += length + int(rng.integers(40, 900))


def clips(lines: list[Line]) -> Iterator[Clip]:
    """The videos of a split."""
    for index, line in enumerate(lines):
        folder, room = FOLDERS[line.split], f"{line.split}/{line.dialogue_id}"
        if line.odd == "missing":
            continue
        clip = Clip(f"{folder}/{line.clip}", (line.turn,), room, line.listener, line.odd)
        if line.odd == "replaced":
            yield replace(clip, path=f"{folder}/final_videos_test{line.clip}", odd="")
            clip = replace(clip, turns=(line.turn, lines[index + 1].turn))
        yield clip


def write_annotations(root: Path, script_by_split: dict[str, list[Line]]) -> None:
    """Writes the three CSV files, and the companion file that a Mac leaves next to a clip."""
    for split, lines in script_by_split.items():
        text = io.StringIO(newline="")
        # As distributed: CRLF, and quotes only where needed, as around times, which contain a comma.
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(COLUMNS)
        texts = _damaged(lines) if split == "train" else [line.turn.text for line in lines]
        for number, (line, words) in enumerate(zip(lines, texts, strict=True), start=1):
            serial = number - 1 if split == "train" and number == 3 else number
            turn = line.turn
            # Both forms of hours occur in every file.
            times = [
                _clock(milliseconds, two_digits=line.dialogue_id % 2 == 0)
                for milliseconds in (line.start_ms, line.end_ms)
            ]
            writer.writerow(
                [
                    serial,
                    words,
                    turn.speaker,
                    turn.emotion,
                    _sentiment(turn),
                    line.dialogue_id,
                    line.utterance_id,
                    line.season,
                    line.episode,
                    *times,
                ]
            )
        data = text.getvalue().encode("utf-8").replace(_CP1252_MARK.encode("utf-8"), "’".encode("cp1252"))
        (root / f"{split}_sent_emo.csv").write_bytes(data)
    shadow = root / FOLDERS["train"] / "._dia0_utt0.mp4"
    shadow.parent.mkdir(parents=True, exist_ok=True)
    shadow.write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ")


_CP1252_MARK = "\ue000"  # placeholder for a byte that is not UTF-8, until the text is encoded


def _damaged(lines: list[Line]) -> list[str]:
    """The texts; each of the first three with a curly apostrophe is damaged in a different way."""
    texts = [line.turn.text for line in lines]
    with_apostrophe = [index for index, text in enumerate(texts) if "’" in text]
    damages = {"c1": "\x92", "mojibake": demo_words.MOJIBAKE_APOSTROPHE, "cp1252": _CP1252_MARK}
    for index, damage in zip(with_apostrophe, damages.values(), strict=False):
        texts[index] = texts[index].replace("’", damage)
    return texts


def _clock(milliseconds: int, *, two_digits: bool) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    hours = f"{seconds // 3600:02d}" if two_digits else str(seconds // 3600)
    return f"{hours}:{seconds // 60 % 60:02d}:{seconds % 60:02d},{rest:03d}"


def _sentiment(turn: Turn) -> str:
    """As in MELD: joy is positive, surprise is either, depending on what it is about."""
    if turn.emotion == "surprise":
        return "positive" if turn.strength > 0.875 else "negative"
    return {"neutral": "neutral", "joy": "positive"}.get(turn.emotion, "negative")


def write_clip(root: Path, seed: int, clip: Clip) -> None:
    """Makes one video; it does not depend on what else is made."""
    path = root / clip.path
    if clip.odd == "empty":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        return
    rng = demo_dialogues.generator(seed, NAME, clip.path)
    voices = [_voice(rng, seed, turn) for turn in clip.turns]
    if clip.odd == "longer":
        voices.append(np.zeros(round(_LONGER_BY_SECONDS * SAMPLE_RATE_HZ), np.float32))
    voice = np.concatenate(voices)
    pictures = None if clip.odd == "no_video" else _pictures(rng, seed, clip, voices)
    demo_clips.write_mp4(path, pictures, _sound(rng, clip, voice))
    if clip.odd == "truncated":
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * _TRUNCATED_TO)])


def _voice(rng: np.random.Generator, seed: int, turn: Turn) -> demo_voices.Wave:
    return demo_voices.speak(rng, _actor(seed, turn.speaker).voice, demo_dialogues.manner(turn), turn.seconds)


def _actor(seed: int, name: str) -> demo_dialogues.Actor:
    return demo_dialogues.actor(seed, name, female=CAST[name])


def _sound(rng: np.random.Generator, clip: Clip, voice: demo_voices.Wave) -> NDArray[np.float32]:
    """The clip's channels: two, or six."""
    if clip.odd == "surround":
        rear = demo_voices.background(rng, len(voice), level_db=-32)
        return demo_clips.in_surround(voice, demo_voices.background(rng, len(voice)), rear)
    if clip.odd == "short_sound":
        middle = len(voice) // 2
        voice = voice[middle : middle + round(_SHORT_SOUND_SECONDS * SAMPLE_RATE_HZ)]
    pan = rng.uniform(0.85, 1.0, 2)
    return np.stack([share * voice + demo_voices.background(rng, len(voice)) for share in pan]).astype(np.float32)


def _pictures(
    rng: np.random.Generator, seed: int, clip: Clip, voices: list[demo_voices.Wave]
) -> Iterator[demo_faces.Image]:
    """The clip's frames: each speaker in a close-up, sometimes with a smaller silent listener at the side."""
    place = demo_faces.room(demo_dialogues.generator(seed, NAME, "room", clip.room), WIDTH, HEIGHT)
    ends = np.cumsum([len(voice) for voice in voices]) / SAMPLE_RATE_HZ
    done = 0
    for index, (voice, end) in enumerate(zip(voices, ends, strict=True)):
        count = demo_clips.frame_count(float(end), demo_clips.MELD_FPS) - done
        done += count
        if clip.odd == "wall":
            yield from (place for _ in range(count))
            continue
        turn = clip.turns[min(index, len(clip.turns) - 1)]
        shown = demo_dialogues.expression(turn) if index < len(clip.turns) else demo_faces.EXPRESSIONS["neutral"]
        yield from _close_up(
            rng,
            place,
            _actor(seed, turn.speaker),
            shown,
            _actor(seed, clip.listener) if clip.listener else None,
            voice,
            count,
        )


def _close_up(
    rng: np.random.Generator,
    place: demo_faces.Image,
    speaker: demo_dialogues.Actor,
    shown: demo_faces.Expression,
    listener: demo_dialogues.Actor | None,
    voice: demo_voices.Wave,
    count: int,
) -> Iterator[demo_faces.Image]:
    speech = demo_voices.openness(voice, count, float(demo_clips.MELD_FPS))
    side = 1 if rng.random() < 0.5 else -1
    middle = WIDTH / 2 - side * (60 if listener else 0)
    pose = demo_faces.Pose(
        middle + rng.uniform(-40, 40), rng.uniform(180, 192), rng.uniform(0.8, 0.98), rng.uniform(-2, 2)
    )
    still = place.copy()
    if listener:
        aside = demo_faces.Pose(
            WIDTH / 2 + side * rng.uniform(200, 235), rng.uniform(170, 200), rng.uniform(0.42, 0.5), rng.uniform(-3, 3)
        )
        demo_faces.draw_shoulders(still, listener.look, aside)
        demo_faces.draw(still, listener.look, demo_faces.EXPRESSIONS["neutral"], aside)
    demo_faces.draw_shoulders(still, speaker.look, pose)
    motion = demo_faces.Motion.drawn(rng, count / float(demo_clips.MELD_FPS))
    picture = still
    for index in range(count):
        if index % demo_clips.PICTURES_PER_DRAWING == 0:
            picture = still.copy()
            seconds = index / float(demo_clips.MELD_FPS)
            demo_faces.draw(
                picture,
                speaker.look,
                shown,
                motion.moved(pose, shown, seconds),
                float(speech[index]),
                blink=motion.blinks(seconds),
            )
        yield picture


def listing(config: Config) -> tuple[dict[str, list[Line]], list[Clip]]:
    """The whole corpus as a plan: annotations by split, and all videos."""
    by_split = script(config)
    return by_split, [clip for lines in by_split.values() for clip in clips(lines)]
