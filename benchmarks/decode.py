"""The cost of the media stage relative to mere decoding, on clips of 1280x720 like those of MELD.

    MERC_REAL_DATA=FOLDER python benchmarks/decode.py [--ffmpeg PATH] [--yunet PATH] [--keep FOLDER]

The clips are made from the real videos and the speech in MERC_REAL_DATA: scaled to 1280x720, 24 frames per second, x264
with its defaults (crf 23, preset medium, B-frames, a keyframe every 250 frames), AAC of 48 kHz, every third with 5.1
channels; 1 to 6 s long, 3.1 s on average, running forwards and backwards where the source is shorter. Frames enlarged
from 640x360 are smoother than a camera's, so a true 720p clip costs somewhat more to decode, which makes the rest of
the stage relatively cheaper.

Ratios are of CPU time, each in a fresh process after a first clip has loaded the libraries and the detector; the ways
alternate, and the median is reported. "Bare" decodes every frame with PyAV on one thread and drops it. The stage is the
real one: audio, eight frames per clip searched with YuNet, FLAC and crops written to Parquet. The usual way calls
ffmpeg twice per clip (a 16 kHz wav; eight frames as JPEG), reads these and detects faces in the full-size frames. Two
workers are compared with one by wall-clock time, so nothing else may run.
"""

import argparse
import math
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import numpy as np

from merc.corpora.engine import building
from merc.corpora.engine.labels import label_set
from merc.job import RunOptions
from merc.layout import Layout
from merc.media.config import Config as MediaConfig
from merc.media.tasks import Clip, DialogueTask
from merc.params import Params
from merc.records import manifest
from merc.records.dialogue import Dialogue, Utterance

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"
SOURCES = ("many_faces_1080p.mp4", "single_face.mp4", "WolfgangLanger_Pexels.mp4")
SPEECH = ("spk1_snt1.wav", "spk1_snt2.wav")
WIDTH, HEIGHT, FRAME_RATE_HZ, RATE_HZ = 1280, 720, 24, 48_000
SPEAKER = "light_asd_talkset.model"
CHOICES = ("largest", "speaking", "persistent", "active_speaker")


def lengths_seconds(count: int) -> list[float]:
    """1 to 6 s, short ones more often, 3.1 s on average."""
    return [1 + 5 * ((number + 0.5) / count) ** 1.381 for number in range(count)]


def make_clips(folder: Path, sources: Sequence[Path], count: int) -> list[Path]:
    """Writes the clips that do not exist yet."""
    clips = [
        folder / f"clip{number:03d}_{round(1000 * seconds)}ms.mp4"
        for number, seconds in enumerate(lengths_seconds(count))
    ]
    for at, source in enumerate(sources):
        mine = [
            (number, path) for number, path in enumerate(clips) if number % len(sources) == at and not path.exists()
        ]
        if mine:
            pictures, rate_hz = read_pictures(source)
            sound_CS = read_sound([source.with_name(name) for name in SPEECH])
            for number, path in mine:
                write_clip(path, pictures, rate_hz, sound_CS, lengths_seconds(count)[number], number)
    return clips


def read_pictures(path: Path) -> tuple[list[av.VideoFrame], float]:
    with av.open(str(path)) as opened:
        stream = opened.streams.video[0]
        return [
            frame.reformat(WIDTH, HEIGHT, "yuv420p", interpolation="BICUBIC") for frame in opened.decode(stream)
        ], float(stream.average_rate)


def read_sound(paths: Sequence[Path]) -> np.ndarray:
    """(2, samples) float32 at 48 kHz."""
    blocks = []
    for path in paths:
        resampler = av.AudioResampler("fltp", "stereo", RATE_HZ)
        with av.open(str(path)) as opened:
            for frame in [*opened.decode(audio=0), None]:
                blocks += [block.to_ndarray() for block in resampler.resample(frame)]
    return np.concatenate(blocks, axis=1)


def write_clip(
    path: Path, pictures: Sequence[av.VideoFrame], rate_hz: float, sound_CS: np.ndarray, seconds: float, number: int
) -> None:
    """Writes a clip with frames that run forwards and backwards and a stretch of the audio; every third has six
    channels.
    """
    layout = "5.1" if number % 3 == 2 else "stereo"
    unfinished = path.with_suffix(".part.mp4")
    with av.open(str(unfinished), "w") as out:
        video = out.add_stream("libx264", rate=FRAME_RATE_HZ)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = out.add_stream("aac", rate=RATE_HZ, layout=layout)
        forth_and_back = [*range(len(pictures)), *range(len(pictures) - 2, 0, -1)]
        begin = 7 * number
        for index in range(round(seconds * FRAME_RATE_HZ)):
            frame = pictures[forth_and_back[(begin + round(index * rate_hz / FRAME_RATE_HZ)) % len(forth_and_back)]]
            frame.pts, frame.time_base = index, Fraction(1, FRAME_RATE_HZ)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        samples = round(seconds * RATE_HZ)
        stereo_CS = np.tile(sound_CS, (1, samples // sound_CS.shape[1] + 2))[
            :, round(begin / rate_hz * RATE_HZ) % sound_CS.shape[1] :
        ][:, :samples]
        mixed_CS = (
            stereo_CS
            if layout == "stereo"
            else np.stack([*(0.2 * stereo_CS), stereo_CS.mean(axis=0), *np.zeros((3, samples), np.float32)])
        )
        for first in range(0, samples, 1024):
            block = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(mixed_CS[:, first : first + 1024], dtype=np.float32), "fltp", layout
            )
            block.sample_rate, block.pts, block.time_base = RATE_HZ, first, Fraction(1, RATE_HZ)
            out.mux(audio.encode(block))
        out.mux(audio.encode(None))
    unfinished.replace(path)


def make_long_1080p(path: Path, source: Path, seconds: float) -> Path:
    """The 1080p source repeated, its packets copied."""
    if path.exists():
        return path
    with av.open(str(path), "w") as out:
        begin = 0.0
        streams: dict[int, Any] = {}
        while begin < seconds:
            with av.open(str(source)) as opened:
                kept = [opened.streams.video[0], opened.streams.audio[0]]
                streams = streams or {stream.index: out.add_stream_from_template(stream) for stream in kept}
                length = max(float(stream.duration * stream.time_base) for stream in kept)
                for packet in opened.demux(kept):
                    if packet.dts is not None:
                        shift = round(begin / packet.time_base)
                        index, packet.pts, packet.dts = packet.stream.index, packet.pts + shift, packet.dts + shift
                        packet.stream = streams[index]
                        out.mux(packet)
                begin += length
    return path


def settings(yunet: Path, choice: str, detector: str = "yunet", precision: str = "float32") -> MediaConfig:
    """The settings of params.yaml with this choice, detector and precision; the active-speaker network lies next to
    YuNet.
    """
    given = (
        f"media.detector={detector}",
        f"media.yunet_file={yunet}",
        f"media.choice={choice}",
        f"media.speaker_file={yunet.with_name(SPEAKER)}",
        f"media.speaker_precision={precision}",
    )
    return Params.load(PARAMS, given).fill("media", MediaConfig)


def bare(paths: Sequence[Path]) -> Iterator[None]:
    """Decodes every frame of each clip; one step per clip."""
    for path in paths:
        with av.open(str(path)) as opened:
            stream = opened.streams.video[0]
            stream.codec_context.thread_count = 1
            for _ in opened.decode(stream):
                pass
        yield


def stage(
    paths: Sequence[Path], yunet: Path, choice: str, detector: str = "yunet", precision: str = "float32"
) -> Iterator[None]:
    """The media stage's work in one process, parts written."""
    from merc.media import pack
    from merc.media.clip import decode_dialogue

    config = settings(yunet, choice, detector, precision)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(paths):
            clip = Clip(
                f"test/dia{number}_utt0", f"test/dia{number}", path.name, path.name, "full", None, None, None, None
            )
            speaker = yunet.with_name(SPEAKER) if choice == "active_speaker" else None
            task = DialogueTask(
                path.parent,
                "clips",
                (clip,),
                frozenset({"audio", "visual"}),
                config,
                yunet if detector == "yunet" else None,
                speaker=speaker,
            )
            ((columns, failures),) = decode_dialogue(task)
            if columns["audio_status"] != "ok" or columns["visual_status"] not in ("ok", "no_face"):
                raise ValueError(f"{path}: {failures}")
            rows.append(columns)
            if not number:  # writing loads libraries too
                pack.write_part(Path(folder) / "part-00000.parquet", rows)
            yield
        pack.write_part(Path(folder) / "part-00000.parquet", rows)


def usual(paths: Sequence[Path], yunet: Path, ffmpeg: str) -> Iterator[None]:
    """ffmpeg per clip for the audio and for eight frames, then detection in full size, and crops written."""
    import cv2
    import soundfile

    cv2.setNumThreads(1)
    network = cv2.FaceDetectorYN.create(str(yunet), "", (WIDTH, HEIGHT), 0.6)
    quiet = [ffmpeg, "-v", "error", "-nostdin", "-threads", "1", "-y", "-i"]
    with tempfile.TemporaryDirectory() as name:
        for number, path in enumerate(paths):
            folder = Path(name) / str(number)
            folder.mkdir()
            with av.open(str(path)) as opened:
                seconds = (opened.duration or 0) / av.time_base
            subprocess.run(
                [*quiet, str(path), "-vn", "-ac", "1", "-ar", "16000", str(folder / "sound.wav")], check=True
            )
            subprocess.run(
                [*quiet, str(path), "-an", "-vf", f"fps=8/{seconds}", "-q:v", "2", str(folder / "%03d.jpg")], check=True
            )
            soundfile.read(folder / "sound.wav", dtype="float32")
            for at, picture_path in enumerate(sorted(folder.glob("*.jpg"))):
                picture = cv2.imread(str(picture_path))
                _, found = network.detect(picture)
                if found is not None:
                    x, y, width, height = (
                        round(float(value)) for value in max(found, key=lambda row: row[2] * row[3])[:4]
                    )
                    crop = picture[max(0, y) : y + height, max(0, x) : x + width]
                    cv2.imwrite(
                        str(folder / f"face{at}.jpg"), cv2.resize(crop, (112, 112), interpolation=cv2.INTER_AREA)
                    )
            yield


WAYS: dict[str, Callable[..., Iterator[None]]] = {"bare": bare, "stage": stage, "usual": usual}


def measured(way: str, paths: Sequence[Path], *rest: Any) -> tuple[float, float]:
    """Runs in a fresh process: CPU seconds, including its children's, of all clips but the first, and its peak memory
    in MB.
    """
    steps = WAYS[way]([paths[0], *paths], *rest)
    next(steps)
    before = cpu_seconds()
    for _ in steps:
        pass
    used = cpu_seconds() - before
    # Not `ru_maxrss`: a process inherits its parent's.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return used, int(peak[1]) * 1024 / 1e6 if peak else math.nan


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def apart(*arguments: Any) -> tuple[float, float]:
    """:func:`measured` in a separate process."""
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, arguments)


def clips_per_second(clips: Sequence[Path], yunet: Path, choice: str, workers: int, repeats: int) -> float:
    """Wall-clock time of the whole stage, run by its command's function; every clip ``repeats`` times, so that starting
    the workers matters little.
    """
    from merc.media.stage import decode

    with tempfile.TemporaryDirectory() as name:
        layout = Layout(Path(name) / "raw", Path(name) / "features", "clips")
        layout.raw.mkdir()
        dialogues = []
        for number in range(len(clips) * repeats):
            (layout.raw / f"{number}.mp4").write_bytes(clips[number % len(clips)].read_bytes())
            one = Utterance(
                source_utterance_id=f"dia{number}_utt0",
                speaker="A",
                text="Oh.",
                emotion="neutral",
                start_seconds=0.0,
                end_seconds=3.0,
                video_path=f"{number}.mp4",
                audio_path=f"{number}.mp4",
            )
            dialogues.append(Dialogue(split="train", source_dialogue_id=f"dia{number}", utterances=(one,)))
        manifest.write(layout.manifest, building.build("clips", dialogues, label_set("meld7")))
        begun = time.perf_counter()
        decode(
            settings(yunet, choice),
            layout,
            RunOptions(workers=workers, max_failed="0"),
            streams=frozenset({"audio", "visual"}),
        )
        return len(dialogues) / (time.perf_counter() - begun)


def main() -> None:
    """Makes the clips and prints what decoding them costs in each way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    data = os.environ.get("MERC_REAL_DATA")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(data) if data else None,
        help="folder with media/ and models/; default: MERC_REAL_DATA",
    )
    parser.add_argument("--yunet", type=Path, help="detector file; default: that of --data")
    parser.add_argument(
        "--ffmpeg", default=shutil.which("ffmpeg"), help="ffmpeg program; the wheel imageio-ffmpeg carries one"
    )
    parser.add_argument(
        "--keep", type=Path, help="folder for the clips, used again by the next run; default: a temporary one"
    )
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--repeats", type=int, default=4, help="how often the clips are decoded for one worker against two"
    )
    parser.add_argument(
        "--ways", default=".", help="regular expression; only the ways whose title it finds, and bare decoding"
    )
    options = parser.parse_args()
    if options.data is None:
        sys.exit("give --data or set MERC_REAL_DATA")
    yunet = (options.yunet or options.data / "models" / "face_detection_yunet.onnx").resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        clips = make_clips(folder, [options.data / "media" / source for source in SOURCES], options.clips)
        long_clip = make_long_1080p(folder / "long_1080p.mp4", options.data / "media" / SOURCES[0], 60.0)
        report(clips, long_clip, yunet, options)


def report(clips: Sequence[Path], long_clip: Path, yunet: Path, options: argparse.Namespace) -> None:
    """Decodes all clips in each way, alternating, and prints ratios."""
    seconds = sum(lengths_seconds(len(clips)))
    print(
        f"{len(clips)} clips of {WIDTH}x{HEIGHT}, {seconds:.0f} s, {seconds / len(clips):.2f} s on average; PyAV"
        f" {av.__version__}; {os.cpu_count()} cores"
    )
    ways: dict[str, tuple[Any, ...]] = {"bare decoding": ("bare", clips)}
    ways |= {f"stage, {choice}": ("stage", clips, yunet, choice) for choice in CHOICES}
    ways["stage, active_speaker, bfloat16"] = ("stage", clips, yunet, "active_speaker", "yunet", "bfloat16")
    ways |= {f"stage, {choice}, Haar": ("stage", clips, yunet, choice, "haar") for choice in CHOICES[:2]}
    if options.ffmpeg:
        ways["the usual way"] = ("usual", clips, yunet, options.ffmpeg)
    ways = {title: way for title, way in ways.items() if re.search(options.ways, title) or way[0] == "bare"}
    used: dict[str, list[float]] = {title: [] for title in ways}
    for _ in range(options.rounds):
        for title, arguments in ways.items():
            used[title].append(apart(*arguments)[0])
    print(f"\n{'':32}{'CPU s':>8}{'min':>8}{'max':>8}{'against bare':>14}")
    for title, values in used.items():
        ratio = statistics.median(value / base for value, base in zip(values, used["bare decoding"], strict=True))
        print(f"{title:32}{statistics.median(values):8.2f}{min(values):8.2f}{max(values):8.2f}{ratio:14.3f}")
    if options.ffmpeg:
        for choice in CHOICES[:2]:
            gain = statistics.median(
                slow / fast for slow, fast in zip(used["the usual way"], used[f"stage, {choice}"], strict=True)
            )
            print(f"the usual way takes {gain:.1f} times the CPU time of the stage with {choice}")
    else:
        print("the usual way was not measured: there is no ffmpeg program; name one with --ffmpeg")
    if options.repeats:
        rates = {workers: clips_per_second(clips, yunet, "speaking", workers, options.repeats) for workers in (1, 2)}
        print(
            f"\nclips per second, speaking: {rates[1]:.2f} with one worker, {rates[2]:.2f} with two:"
            f" {rates[2] / rates[1]:.2f} times"
        )
        rate = clips_per_second(clips, yunet, "active_speaker", 2, 1)
        bare_rate = len(clips) / statistics.median(used["bare decoding"])
        print(
            f"clips per second, active_speaker: {rate:.2f} with two workers, {bare_rate / rate:.2f} times less than the"
            " CPU seconds of bare decoding give"
        )
    for choice in ("largest", "speaking", "active_speaker"):
        print(
            f"peak memory of a worker on 60 s of 1920x1080 with six faces, {choice}:"
            f" {apart('stage', [long_clip], yunet, choice)[1]:.0f} MB"
        )


if __name__ == "__main__":
    main()
