"""The time saved by encoding while the rest is decoded: both at once, against the longer of the two alone.

    OMP_NUM_THREADS=1 MERC_REAL_DATA=FOLDER python benchmarks/overlap.py --whisper FOLDER [--minilm FOLDER] [--out FILE]

The clips are those of decode.py (1280x720, 1 to 6 s), each several times, decoded by one worker with YuNet and the
choice `speaking`; a real Whisper encodes their audio, and a real MiniLM MELD's transcripts, on one thread. Each way
runs in a separate process, by the functions of `merc-extract`, alternating with the others; imports are not counted,
loading the models is. Times are wall-clock, so this needs two cores with nothing else running.
"""

import csv
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click

import decode
from _settings import settings_file
from _tables import put_dated
from merc.commands import overlap
from merc.corpora.engine import building
from merc.corpora.engine.labels import label_set
from merc.encoders.engine.registry import choose
from merc.extraction.config import Config
from merc.extraction.stage import extract
from merc.job import RunOptions
from merc.layout import Layout
from merc.media import stage as media
from merc.media.config import of_dataset
from merc.params import Params
from merc.records import manifest
from merc.records.dialogue import Dialogue, Utterance

RUN = RunOptions(workers=1, device="cpu", max_failed="0", offline=True)
BOTH = frozenset({"audio", "visual"})
UTTERANCES_A_DIALOGUE = 10
WAYS = ("decoding alone", "encoding alone", "at once")


def make_corpus(layout: Layout, clips: Sequence[Path], repeats: int, texts: Sequence[str]) -> None:
    """Dialogues of ten clips; a repeated clip is another file."""
    layout.raw.mkdir(parents=True)
    found = []
    for number in range(len(clips) * repeats):
        name = f"{number}.mp4"
        os.link(clips[number % len(clips)], layout.raw / name)
        found.append(
            Utterance(
                source_utterance_id=str(number), speaker="AB"[number % 2], text=texts[number % len(texts)],
                emotion="neutral",
                start_seconds=0.0, end_seconds=3.0, video_path=name, audio_path=name,
            )
        )  # fmt: skip
    dialogues = [
        Dialogue(
            split="train",
            source_dialogue_id=f"dia{first}",
            utterances=tuple(found[first : first + UTTERANCES_A_DIALOGUE]),
        )
        for first in range(0, len(found), UTTERANCES_A_DIALOGUE)
    ]
    manifest.write(layout.manifest, building.build(layout.dataset, dialogues, label_set("meld7")))


def transcripts(data: Path) -> list[str]:
    """Texts of MELD's dev split."""
    with (data / "meld" / "dev_sent_emo.csv").open(encoding="utf-8", newline="") as file:
        return [row["Utterance"] for row in csv.DictReader(file)]


def run(way: str, layout: Layout, params_file: Path, encoders: Sequence[tuple[str, str]]) -> float:
    """Wall-clock seconds of one way; ``encoding alone`` uses the media of ``decoding alone``."""
    import torch
    import transformers  # noqa: F401  (imports are not counted)

    torch.set_num_threads(1)
    params = Params.load(params_file)
    config, chosen = of_dataset(params, layout.dataset), [choose(params, modality, name) for modality, name in encoders]
    extraction = params.fill("extraction", Config)

    def encode() -> None:
        for one in chosen:
            extract(one, extraction, layout, RUN)

    ways: dict[str, Callable[[], object]] = {
        "decoding alone": lambda: media.decode(config, layout, RUN, streams=BOTH),
        "encoding alone": encode,
        "at once": lambda: overlap.decode_and_extract(config, chosen, extraction, layout, RUN, streams=BOTH),
    }
    begun = time.perf_counter()
    ways[way]()
    return time.perf_counter() - begun


@click.command()
@click.option(
    "--whisper",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="Folder of a Whisper for transformers.",
)
@click.option(
    "--minilm", type=click.Path(path_type=Path, exists=True), help="Folder of all-MiniLM-L6-v2; default: no text."
)
@click.option("--clips", default=60, show_default=True)
@click.option("--repeats", default=3, show_default=True, help="How often each clip comes.")
@click.option("--rounds", default=2, show_default=True)
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="Folder for the clips, used again by the next run; default: a temporary one.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Default: a file of today's date here.")
def main(
    whisper: Path, minilm: Path | None, clips: int, repeats: int, rounds: int, keep: Path | None, out: Path | None
) -> None:
    """Runs each way in turn, and writes a table."""
    if not os.environ.get("MERC_REAL_DATA"):
        sys.exit("set MERC_REAL_DATA")
    data = Path(os.environ["MERC_REAL_DATA"]).resolve()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folder = keep or scratch / "clips"
        folder.mkdir(parents=True, exist_ok=True)
        made = decode.make_clips(folder, [data / "media" / source for source in decode.SOURCES], clips)
        values = {
            "media.detector": "yunet",
            "media.yunet_file": data / "models" / "face_detection_yunet.onnx",
            "media.choice": "speaking",
        }
        values |= {
            "encoders.audio.small": {
                "base": "whisper_base",
                "repo": str(whisper.resolve()),
                "revision": "",
                "dim": None,
            }
        }
        encoders = [("audio", "small")]
        if minilm is not None:
            values |= {"encoders.text.small": {"base": "minilm", "repo": str(minilm.resolve()), "revision": ""}}
            encoders.insert(0, ("text", "small"))
        settings = settings_file(
            scratch, {**values, "media.utterances_per_part": 30, "extraction.neural_clips_per_part": 30}
        )
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(rounds):
            alone, both = (
                Layout(scratch / f"{what}{number}" / "raw", scratch / f"{what}{number}" / "features", "clips")
                for what in ("alone", "both")
            )
            for layout in (alone, both):
                make_corpus(layout, made, repeats, transcripts(data))
            for way in WAYS:
                with ProcessPoolExecutor(1, get_context("spawn")) as apart:
                    seconds[way].append(
                        apart.submit(run, way, both if way == "at once" else alone, settings, encoders).result()
                    )
    put_dated(__file__, report(seconds, clips * repeats), out)


def report(seconds: dict[str, list[float]], clips: int) -> list[str]:
    """The table and what follows from it."""
    longer = [max(pair) for pair in zip(seconds["decoding alone"], seconds["encoding alone"], strict=True)]
    together = [sum(pair) for pair in zip(seconds["decoding alone"], seconds["encoding alone"], strict=True)]

    def ratio(of: Sequence[float]) -> str:
        return f"{statistics.median(at_once / one for at_once, one in zip(seconds['at once'], of, strict=True)):.2f}"

    return [
        f"# Decoding and encoding at once, {time.strftime('%Y-%m-%d')}",
        "",
        (
            f"{clips} clips of 1280x720; one worker decodes, one thread encodes; {os.cpu_count()} cores; {len(longer)}"
            " rounds."
        ),
        "",
        "| way | seconds, median | each round |",
        "| --- | ---: | --- |",
        *(
            f"| {way} | {statistics.median(values):.1f} | {', '.join(f'{value:.1f}' for value in values)} |"
            for way, values in seconds.items()
        ),
        "",
        (
            f"At once takes {ratio(longer)} times the longer of the two alone (goal: at most 1.15), and"
            f" {ratio(together)} times one after the other."
        ),
    ]


if __name__ == "__main__":
    main()
