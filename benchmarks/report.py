"""The cost of the report's page of all dialogues: to build, on disk, and to open in Chromium, for a corpus of MELD's
size and for 5,000 dialogues.

    python benchmarks/report.py                          # writes a dated file next to this one
    python benchmarks/report.py --keep /tmp/looked-at    # keeps shards, runs and reports there for inspection

Everything is random: labels, words, speakers, probabilities of 20 recipes with five seeds each (for a tenth of them
also per modality), quality columns, failures, neighbours, and eight face crops of 112 pixels per utterance. Time to
open is the time from the navigation to the first strip on the screen, and to the first turn of a dialogue named in the
address; each in a new browser, the minimum over --repetitions.
"""

import datetime
import os
import platform
import resource
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from _tables import put_dated
from merc import files, parquet
from merc.corpora.engine.labels import label_set
from merc.job import RECORD, RunOptions
from merc.layout import MODALITIES, Layout
from merc.media.pack import write_part
from merc.media.rows import empty
from merc.media.tasks import Clip
from merc.records import failures
from merc.records.audit import PREFIX, QUALITY
from merc.records.failures import Failure
from merc.records.features import vectors
from merc.reports.config import Config
from merc.reports.stage import write_report
from merc.shards.format.schema import SCHEMA_VERSION, schema
from merc.trajectories.config import Config as TrajectoriesConfig
from merc.trajectories.stage import build_trajectories

MELD = {"train": 1038, "dev": 114, "test": 280}
LARGE = {"train": 3600, "dev": 400, "test": 1000}
CLASSES = label_set("meld7").classes
WORDS = "you know what I mean the oh no it was so good to see him there and then she said we have".split()
_FIRST_STRIP = """
const seen = (what, name) => new MutationObserver((_, watcher) => {
  if (document.querySelector(what)) { watcher.disconnect(); requestAnimationFrame(() => setTimeout(() => { window[name] = performance.now(); })); }
}).observe(document, {childList: true, subtree: true});
seen(".cells .cell", "firstStrip"); seen(".turn", "firstTurn");
"""  # noqa: E501


class Made:
    """Shards, media, runs and evaluations of random dialogues below a folder."""

    def __init__(self, folder: Path, sizes: Mapping[str, int], recipes: int, seeds: int = 5) -> None:
        self.rng = np.random.default_rng(0)
        self.folder, self.layout = folder, Layout(folder / "raw", folder / "features", "random")
        self.lengths = {split: np.clip(self.rng.geometric(1 / 9.6, count), 1, 33) for split, count in sizes.items()}
        self.labels = {
            split: self.rng.choice(len(CLASSES), of.sum(), p=[0.47, 0.12, 0.03, 0.07, 0.17, 0.03, 0.11])
            for split, of in self.lengths.items()
        }
        self._write_shards()
        self._write_media()
        for number in range(recipes):
            self._write_run(f"recipe_{number:02}", seeds, single=number % 10 == 0)

    def ids(self, split: str) -> list[str]:
        return [f"{split}/dia{k}_utt{at}" for k, length in enumerate(self.lengths[split]) for at in range(length)]

    def _write_shards(self) -> None:
        meta = {"corpus": "random", "label_set": "meld7"}
        quality = [f"{PREFIX}{name}" for name in QUALITY]
        shape = schema(dict.fromkeys(MODALITIES, 2), {**meta, "encoders": {}}, CLASSES, quality=quality)
        for split, lengths in self.lengths.items():
            ids, labels = self.ids(split), self.labels[split]
            absent = self.rng.random(len(ids)) < 0.03
            rows, begin = [], 0
            for k, size in enumerate(lengths.tolist()):
                rows.append(
                    self._row(
                        split,
                        k,
                        ids[begin : begin + size],
                        labels[begin : begin + size].tolist(),
                        ~absent[begin : begin + size],
                        quality,
                    )
                )
                begin += size
            parquet.write(
                self.layout.shards / "dialogues" / f"{split}-00000-of-00001.parquet",
                pa.Table.from_pylist(rows, schema=shape),
            )
            failed = [
                Failure(one, "media", "visual", "no_face") for one, there in zip(ids, absent, strict=True) if there
            ]
            parquet.write(
                self.layout.shards / "failures" / f"{split}-00000-of-00001.parquet",
                failures.table(one.row() for one in failed),
            )
        encoders = {name: {"name": "random", "encoder": "random", "settings": {}} for name in MODALITIES}
        info = {
            **meta,
            "schema_version": SCHEMA_VERSION,
            "classes": list(CLASSES),
            "encoders": encoders,
            "splits": list(self.lengths),
            "source": "",
        }
        info |= {
            "modalities": list(MODALITIES),
            "dims": dict.fromkeys(MODALITIES, 2),
            "deviations": [],
            "versions": {},
            "fingerprint": "0",
        }
        info["counts"] = {split: self._counts(split) for split in self.lengths}
        files.write_json(self.layout.shards / "meta" / "info.json", info)
        files.write_json(self.layout.shards / "meta" / "stats.json", {})
        build_trajectories(
            TrajectoriesConfig(similarities=("histogram", "edit", "path"), order_permutations=0, control_pairs=100),
            self.layout,
            RunOptions(overwrite=True),
        )

    def _counts(self, split: str) -> dict[str, Any]:
        labels, total = self.labels[split], len(self.labels[split])
        of_classes = dict(zip(CLASSES, np.bincount(labels, minlength=len(CLASSES)).tolist(), strict=True))
        return {
            "dialogues": len(self.lengths[split]),
            "utterances": total,
            "labels": of_classes,
            "unlabelled": 0,
            "present": dict.fromkeys(MODALITIES, total),
        }

    def _row(
        self, split: str, k: int, ids: Sequence[str], labels: list[int], seen: NDArray[np.bool_], quality: Sequence[str]
    ) -> dict[str, Any]:
        size = len(ids)
        speakers = [f"Speaker {one}" for one in self.rng.integers(0, 300, 3)]
        own = self.rng.integers(0, 3, size)
        row: dict[str, Any] = {
            "corpus": "random",
            "split": split,
            "dialogue_id": f"{split}/dia{k}",
            "scenario": "",
            "n_utterances": size,
            "n_speakers": 3,
        }
        row |= {
            "utterance_ids": ids,
            "source_utterance_ids": ids,
            "speakers": [speakers[one] for one in own],
            "speaker_index": own.tolist(),
        }
        row |= {
            "texts": [" ".join(self.rng.choice(WORDS, self.rng.integers(1, 20))) for _ in ids],
            "emotions": [CLASSES[one] for one in labels],
        }
        row |= {
            "emotion_index": labels,
            "sentiments": [""] * size,
            "start_seconds": [0.0] * size,
            "end_seconds": [1.0] * size,
        }
        row |= {name: [None] * size for name in ("valence", "arousal", "dominance")}
        row |= {name: self.rng.random(size).tolist() for name in quality}
        for name in MODALITIES:
            there = seen if name == "visual" else np.ones(size, dtype=bool)
            row |= {name: [[1.0, 0.5] if one else [0.0, 0.0] for one in there], f"{name}_present": there.tolist()}
        return row

    def _write_media(self) -> None:
        noise = [cv2.resize(self.rng.integers(0, 255, (14, 14, 3), dtype=np.uint8), (112, 112)) for _ in range(40)]
        crops = [bytes(cv2.imencode(".jpg", one)[1]) for one in noise]
        for number, (split, lengths) in enumerate(self.lengths.items()):
            dialogues = np.repeat(np.arange(len(lengths)), lengths)
            rows = []
            for at, (one, k) in enumerate(zip(self.ids(split), dialogues, strict=True)):
                clip = Clip(one, f"{split}/dia{k}", "", "", "full", None, None, None, None)
                faces = {
                    "faces": [crops[(at + crop) % 40] for crop in range(8)],
                    "face_seconds": [0.0] * 8,
                    "face_scores": [1.0] * 8,
                }
                rows.append(
                    {**empty(clip), **faces, "visual_status": "ok", "face_coverage": float(self.rng.random() + 0.45)}
                )
            write_part(self.layout.media / f"part-{number:05}.parquet", rows)
        files.write_json(self.layout.media / RECORD, {})

    def _write_run(self, recipe: str, seeds: int, *, single: bool) -> None:
        home = self.folder / "runs" / "random" / recipe
        scores = {"weighted_f1": 0.5, "accuracy": 0.5, "macro_f1": 0.4}
        per_class = {name: {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 9} for name in CLASSES}
        of_seed = {
            "epoch": 1,
            "dev": scores,
            "test": {**scores, "per_class": per_class, "confusion": np.ones((7, 7), int).tolist()},
        }
        results = {
            "dataset": "random",
            "recipe": recipe,
            "model": "random",
            "modalities": list(MODALITIES),
            "label_set": "meld7",
            "classes": list(CLASSES),
        }
        results |= {
            "encoders": dict.fromkeys(MODALITIES, "random"),
            "parameters": 1,
            "causal": False,
            "selection": "dev weighted F1",
        }
        results |= {"majority": {"dev": scores, "test": scores}, "seeds": {str(seed): of_seed for seed in range(seeds)}}
        files.write_json(home / "results.json", results)
        files.write_json(home / RECORD, {"fingerprint": recipe, "settings": {}, "inputs": {"shards": "0"}})
        table = pa.concat_tables(self._predictions(split, seed) for seed in range(seeds) for split in ("dev", "test"))
        parquet.write(home / "predictions.parquet", table, compression="zstd")
        if single:
            there = self.folder / "evaluations" / "runs" / "random" / recipe / "any_modality_oracle"
            tables = [
                self._predictions("test", seed).append_column("modality", pa.array([name] * len(self.labels["test"])))
                for seed in range(seeds)
                for name in MODALITIES
            ]
            parquet.write(there / "unimodal.parquet", pa.concat_tables(tables))
            files.write_json(there / RECORD, {"fingerprint": "0", "settings": {}, "inputs": {"run": recipe}})

    def _predictions(self, split: str, seed: int) -> pa.Table:
        labels = self.labels[split]
        logits = self.rng.normal(size=(len(labels), len(CLASSES))) * 2
        logits[np.arange(len(labels)), labels] += 2
        probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
        return pa.table(
            {
                "seed": np.full(len(labels), seed),
                "utterance_id": pa.array(self.ids(split)),
                "probabilities": vectors(probabilities),
            }
        )


def build(made: Made) -> tuple[Path, float]:
    """The page, and the CPU seconds of the whole report."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    write_report(
        Config(), made.layout.out, made.folder / "runs", made.folder / "reports", None, made.folder / "evaluations"
    )
    after = resource.getrusage(resource.RUSAGE_SELF)
    return (
        made.folder / "reports" / "pages" / "random" / "dialogues.html",
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


def seconds_to_open(page_file: Path, fragment: str, name: str) -> float:
    """From the navigation until something is on the screen, in a new browser."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.add_init_script(_FIRST_STRIP)
        page.goto(page_file.resolve().as_uri() + fragment)
        while (
            milliseconds := page.evaluate(f"window.{name}")
        ) is None:  # the page's policy forbids playwright's own way to wait
            page.wait_for_timeout(20)
        browser.close()
    return float(milliseconds) / 1000


def seconds_to_filter(page_file: Path) -> float:
    """Milliseconds from setting a filter by text and by confident mistakes until the list has changed."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto(page_file.resolve().as_uri() + "#q=you")  # texts are loaded
        page.wait_for_selector(".cell.found")
        milliseconds = page.evaluate("""() => new Promise((done) => {
              const begun = performance.now();
              const seen = () => requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun)));
              new MutationObserver(seen).observe(document.getElementById("count"), {childList: true});
              location.hash = "#q=know%20what&confident=1&disagree=1";
            })""")
        browser.close()
    return float(milliseconds) / 1000


def row_of(folder: Path, sizes: Mapping[str, int], recipes: int, repetitions: int) -> list[str]:
    made = Made(folder, sizes, recipes)
    page, cpu = build(made)
    last = f"#dialogue=test%2Fdia{sizes['test'] - 1}"
    scripts = sum(path.stat().st_size for path in page.with_suffix("").glob("*.js"))
    every = [path.stat().st_size for path in page.parent.rglob("*") if path.is_file()]
    first, opened, filtered = (
        [measure(page) for _ in range(repetitions)]
        for measure in (
            lambda one: seconds_to_open(one, "", "firstStrip"),
            lambda one: seconds_to_open(one, last, "firstTurn"),
            seconds_to_filter,
        )
    )
    numbers = [sum(sizes.values()), sum(map(len, made.labels.values())), recipes]
    sizes_mb = [(page.with_suffix("") / "index.js").stat().st_size, scripts, sum(every)]
    return [
        *map(str, numbers),
        f"{cpu:.1f}",
        *(f"{one / 1e6:.1f}" for one in sizes_mb),
        *(f"{min(one):.2f} ({statistics.median(one):.2f})" for one in (first, opened, filtered)),
    ]


@click.command()
@click.option("--repetitions", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--recipes", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="A folder where all is left.")
@click.option("--out", type=click.Path(path_type=Path), help="Default: report_<date>.md beside this file.")
def main(repetitions: int, recipes: int, keep: Path | None, out: Path | None) -> None:
    """Builds and opens two reports."""
    lines = [
        f"# The page of all dialogues ({datetime.date.today()})",
        "",
        f"    python benchmarks/report.py --repetitions {repetitions} --recipes {recipes}",
        "",
        (
            f"{platform.machine()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} on"
            f" {os.cpu_count()} cores. Build: CPU seconds of the"
        ),
        (
            "whole report, with eight crops an utterance read and one copied. Megabytes: of what is read at once, of"
            " all data, of the dataset's folder with its"
        ),
        (
            f"faces. Seconds, the least and in brackets the median of {repetitions}: until the first strip is seen;"
            " until the last dialogue is seen, opened by its"
        ),
        "address; of a filter by words, mistakes and disagreement.",
        "",
        "| dialogues | utterances | recipes | build | at once | data | folder | first strip | deep link | filter |",
        "| ---: " * 10 + "|",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        for name, sizes in {"meld": MELD, "large": LARGE}.items():
            lines.append("| " + " | ".join(row_of((keep or Path(scratch)) / name, sizes, recipes, repetitions)) + " |")
    put_dated(__file__, lines, out)


if __name__ == "__main__":
    main()
