"""Makes a small corpus for the tutorial: a table and a folder of clips with drawn faces and synthetic voices.

python make_corpus.py own
"""

import csv
import sys
from pathlib import Path

import numpy as np

from merc.corpora.demo import clips, dialogues, faces, voices, words

WIDTH, HEIGHT = 320, 240
# Sequences of emotions in a dialogue; each occurs several times, so that there is something to learn.
SHAPES = [
    ("neutral", "joy", "joy", "neutral"),
    ("neutral", "anger", "anger", "sadness"),
    ("sadness", "neutral", "sadness", "joy"),
]
SPLITS = {"train": 6, "dev": 3, "test": 3}
SPEAKERS = ("Ann", "Bob")


def main(folder: Path) -> None:
    """Writes ``utterances.csv`` and ``media/`` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    said: set[str] = set()
    with (folder / "utterances.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["dialogue", "speaker", "text", "emotion", "split", "video"])
        for split, count in SPLITS.items():
            for number in range(count):
                name = f"{split}{number}"
                for turn, emotion in enumerate(SHAPES[number % len(SHAPES)]):
                    rng = dialogues.generator(1, name, str(turn))
                    speaker, video = SPEAKERS[turn % 2], f"{name}/{turn}.mp4"
                    write_clip(folder / "media" / video, rng, speaker, emotion)
                    table.writerow([name, speaker, words.new_sentence(rng, emotion, said), emotion, split, video])


def write_clip(path: Path, rng: np.random.Generator, speaker: str, emotion: str) -> None:
    """A clip of 0.9 s in which a drawn person speaks with an emotion."""
    person = dialogues.actor(1, speaker, female=speaker == "Ann")
    sound = voices.speak(rng, person.voice, voices.MANNERS[emotion], 0.9)
    count = clips.frame_count(0.9, clips.MELD_FPS)
    pose = faces.Pose(WIDTH / 2, 120.0, 0.6, 0.0)
    room = faces.room(rng, WIDTH, HEIGHT)
    faces.draw_shoulders(room, person.look, pose)
    frames = []
    for opening in voices.openness(sound, count, float(clips.MELD_FPS)):
        frame = room.copy()
        faces.draw(frame, person.look, faces.EXPRESSIONS[emotion], pose, float(opening))
        frames.append(frame)
    clips.write_mp4(path, frames, sound[None])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
