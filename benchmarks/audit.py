"""What the audit finds in recordings changed in known ways: speech between pauses and in noise, and copies of audio.

    python benchmarks/audit.py FOLDER_OF_WAVS

Speech: a recording is placed between two stretches of two seconds of faint noise, with white noise of several levels
over all of it; the table gives how much of the recording, and of the pauses, is found to be speech. Copies: of every
eighth recording a copy is cut, mixed with noise, resampled, or appended to another; the table gives how many are found,
and how many other recordings are mistaken for copies. Time: the recordings at many speeds, until there are as many as
MELD has utterances.
"""

import resource
import time
from pathlib import Path

import click
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from _tables import put_dated
from merc.audit import same_sound, speech
from merc.audit.config import Config
from merc.records.media import SAMPLE_RATE_HZ

Sound = NDArray[np.float32]
MELD_UTTERANCES = 13_708
SPEEDS = np.linspace(0.7, 1.4, 29)
LEVELS_DB = (None, 20, 10, 5)


def read(folder: Path) -> list[Sound]:
    sounds = []
    for path in sorted(folder.rglob("*.wav")):
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
        sounds.append(soxr.resample(sound.mean(axis=1), rate, SAMPLE_RATE_HZ).astype(np.float32))
    return sounds


def found_speech(sounds: list[Sound], level_db: int | None) -> tuple[float, float]:
    """Share of the frames of the recordings, and of the pauses around them, that are found to be speech."""
    random = np.random.default_rng(0)
    inside, outside = [], []
    for sound in sounds:
        pause = 0.0005 * random.normal(size=SAMPLE_RATE_HZ)
        whole = np.concatenate([pause, sound, pause[::-1]])
        if level_db is not None:
            whole = whole + random.normal(size=len(whole)) * np.sqrt(np.mean(sound**2)) * 10 ** (-level_db / 20)
        frames = speech.is_speech(whole.astype(np.float32))
        stop = 100 + len(sound) // speech.HOP
        inside.append(frames[100:stop].mean())
        outside.append(np.r_[frames[:100], frames[stop:]].mean())
    return float(np.mean(inside)), float(np.mean(outside))


def copies(sounds: list[Sound]) -> dict[str, list[tuple[int, Sound]]]:
    """Kind → index of the recording, and its copy."""
    random = np.random.default_rng(1)
    kinds: dict[str, list[tuple[int, Sound]]] = {
        "cut by 0.3 s": [],
        "with noise at 20 dB": [],
        "through 8 kHz": [],
        "behind another": [],
    }
    for index in range(0, len(sounds) - 1, 8):
        sound, other = sounds[index], sounds[index + 1]
        noised = sound + random.normal(size=len(sound)) * np.sqrt(np.mean(sound**2)) / 10
        made = [
            sound[4800:],
            noised,
            soxr.resample(soxr.resample(sound, 16_000, 8_000), 8_000, 16_000),
            np.concatenate([other[-12_000:], sound]),
        ]
        for kind, copy in zip(kinds, made, strict=True):
            kinds[kind].append((index, copy.astype(np.float32)))
    return kinds


def nearest(prints: list[NDArray[np.uint32]]) -> list[int]:
    config = Config()
    return same_sound.nearest([""] * len(prints), prints, config.same_sound_min_share, config.same_sound_max_bit_error)


def costs(sounds: list[Sound]) -> tuple[float, float]:
    """CPU milliseconds per second of audio, for speech and for the fingerprint."""
    seconds = sum(map(len, sounds)) / SAMPLE_RATE_HZ
    found = []
    for work in (speech.measure, same_sound.fingerprint):
        begin = time.process_time()
        for sound in sounds:
            work(sound)
        found.append(1000 * (time.process_time() - begin) / seconds)
    return found[0], found[1]


def lines_of_copies(sounds: list[Sound]) -> list[str]:
    prints = [same_sound.fingerprint(sound) for sound in sounds]
    lines = ["| copies | found | others taken for a copy |", "| --- | ---: | ---: |"]
    for kind, made in copies(sounds).items():
        near = nearest([*prints, *(same_sound.fingerprint(copy) for _, copy in made)])
        originals = {index for index, _ in made}
        right = sum(near[len(sounds) + at] == index for at, (index, _) in enumerate(made))
        wrong = sum(near[index] >= 0 for index in range(len(sounds)) if index not in originals)
        lines.append(f"| {kind} | {right} of {len(made)} | {wrong} of {len(sounds) - len(originals)} |")
    return lines


def line_of_search(sounds: list[Sound]) -> str:
    many = [
        same_sound.fingerprint(soxr.resample(sound, 16_000, 16_000 * speed).astype(np.float32))
        for speed in SPEEDS
        for sound in sounds
    ][:MELD_UTTERANCES]
    begin = time.process_time()
    nearest(many)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return (
        f"The search among {len(many):,} fingerprints takes {time.process_time() - begin:.1f} s of CPU; the process had"
        f" {memory:.0f} MB at most."
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path), help="Default: a file of today's date beside this one.")
def main(folder: Path, out: Path | None) -> None:
    """Measures what the audit finds in the recordings of FOLDER."""
    sounds = read(folder)
    of_speech, of_prints = costs(sounds)
    lines = [
        "# What the audit hears",
        "",
        (
            f"`python benchmarks/audit.py {folder.name}`: {len(sounds)} recordings,"
            f" {sum(map(len, sounds)) / SAMPLE_RATE_HZ:.0f} s."
        ),
        "",
        "| white noise | taken for speech of the recordings | taken for speech of the pauses |",
        "| --- | ---: | ---: |",
    ]
    for level in LEVELS_DB:
        inside, outside = found_speech(sounds, level)
        lines.append(
            f"| {'none' if level is None else f'{level} dB below'} | {100 * inside:.1f} % | {100 * outside:.1f} % |"
        )
    lines += [
        "",
        *lines_of_copies(sounds),
        "",
        f"CPU per second of sound: {of_speech:.1f} ms for speech, {of_prints:.1f} ms for the fingerprint.",
        line_of_search(sounds),
    ]
    put_dated(__file__, lines, out)


if __name__ == "__main__":
    main()
