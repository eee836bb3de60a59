"""The cost of the stages of `merc-extract` on the demonstration corpus: CPU seconds and bytes per second of media or
per utterance.

    python benchmarks/stage_costs.py

Each stage runs alone; the CPU time of its workers is included. `media` is compared with merely decoding every video
frame of the same clips with PyAV on one thread, in the same run. The estimates of `--dry-run` are based on these
figures.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import pyarrow.compute as pc

from merc.records import manifest

ROOT = Path(__file__).resolve().parents[1]


def cpu_seconds_of(command: list[str], folder: Path) -> float:
    """CPU time of a command and all processes that it started and waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


_BARE = """
import sys, av
for path in sys.argv[1:]:
    try:
        with av.open(path) as file:
            file.streams.video[0].thread_count = 1
            for _ in file.decode(video=0): pass
    except (av.error.FFmpegError, IndexError):
        pass
"""


def main() -> None:
    """Runs the stages on the demonstration corpus and prints the cost of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            [sys.executable, "-m", "merc.corpora.demo.make", "--params", str(ROOT / "params.yaml")],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        stage = ["--dataset", "demo-meld", "--params", str(ROOT / "params.yaml")]
        subprocess.run(
            [sys.executable, "-m", "merc.corpora.stage", *stage], cwd=folder, check=True, capture_output=True
        )
        table = manifest.read(folder / "features" / "demo-meld" / "manifest.parquet")
        seconds = float(pc.sum(pc.subtract(table["end_seconds"], table["start_seconds"])).as_py())
        clips = [
            str(folder / "raw" / path) for path in table["video_path"].to_pylist() if (folder / "raw" / path).is_file()
        ]
        bare = cpu_seconds_of(["-c", _BARE, *clips], folder)
        print(
            f"{table.num_rows} utterances, {seconds:.0f} s of media, PyAV {av.__version__}; bare decoding of every"
            f" frame {bare:.1f} CPU s"
        )
        steps = {
            "media": ["merc.media.stage"],
            "text/ngrams": ["merc.extraction.stage", "--modality", "text", "--encoder", "ngrams"],
            "audio/acoustic": ["merc.extraction.stage", "--modality", "audio", "--encoder", "acoustic"],
            "visual/gradients": ["merc.extraction.stage", "--modality", "visual", "--encoder", "gradients"],
        }
        for step, (module, *options) in steps.items():
            start_up = cpu_seconds_of(["-m", module, "--help"], folder)
            cost = cpu_seconds_of(["-m", module, *stage, *options], folder)
            size = size_of(folder / "features" / "demo-meld" / step)
            print(
                f"{step}: {cost:.1f} CPU s of which {start_up:.1f} to start;"
                f" {(cost - start_up) / table.num_rows * 1000:.0f} ms an utterance, {(cost - start_up) / seconds:.3f} s"
                f" per second of media, {size / table.num_rows / 1000:.1f} kB an utterance"
                + (f"; {cost / bare:.2f} times bare decoding" if step == "media" else "")
            )


if __name__ == "__main__":
    main()
