"""What the audio encoders know of acted emotions: a speaker-independent linear probe on frozen vectors, and
fine-tuned Whispers; writes a table of results_speech.md next to this file.

    OMP_NUM_THREADS=1 python benchmarks/results_speech.py emodb --corpus FOLDER --work FOLDER [--whisper FOLDER]
        [--adapt [--epochs 8] [--settings probe_1e_04]]

FOLDER of the corpus holds ``utterances.csv`` (dialogue, speaker, text, emotion, split, audio; one dialogue per speaker,
splits disjoint in speakers) and ``media/*.wav``: EmoDB (Burkhardt et al. 2005; 535 clips, ten speakers, seven emotions)
or RAVDESS (Livingstone and Russo 2018; 1,440 clips, 24 speakers, eight). Neither comes with this program. openSMILE's
sets are measured where it is installed, Whisper where a checkpoint's folder is given: with its own input of 30 s, and
with shorter ones.

The probe is logistic regression on standardised vectors. Speakers are divided into groups (EmoDB: one speaker each;
RAVDESS: six groups of four); each group is predicted by a probe trained on all others, whose regularisation strength is
chosen by splitting these in three, again by group. All predictions are scored together: UAR (unweighted average recall)
and weighted F1. The same with half of every vector, and all of it, normalised by its speaker (the recipes' setting
``speaker_normalisation``), which knows all clips of a speaker, but not their labels; not for more than
a thousand numbers, for which probes take long.

``--adapt``: `merc-adapt` on the split of the table, with the shortest of these inputs and every learning rate and
start, next to the probes on the same split, their regularisation chosen on dev. The fine-tuning with the highest
UAR on dev is marked; test decides nothing. Finished fine-tunings in the folder of ``--work`` are used again.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from _settings import chosen, settings_file
from _tables import put_table
from merc.layout import Layout
from merc.records import manifest
from merc.training.data.dataset import normalised_by_speaker

RESULTS = Path(__file__).with_suffix(".md")
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
SPEAKERS_PER_GROUP = {"emodb": 1, "ravdess": 4}
OPENSMILE = {"eGeMAPSv02": "egemaps", "ComParE_2016": "compare"}
# No clip is longer than the first: those of EmoDB have 2.0 s in the copy that was measured, the longest of RAVDESS
# 5.3 s, with a second of silence at its end.
INPUT_SECONDS = {"emodb": (6, 2), "ravdess": (6, 4)}
# Learning rate of the encoder, and what the classifier starts with.
GRID = tuple(product((1e-4, 3e-5), ("random", "probe")))
MOST_NUMBERS = 1000
WORDS = {"licence": "MIT", "training_data_overlap": "none known"}


@dataclass(frozen=True)
class OnSplit:
    """Scores on the split of the table.

    Attributes:
        dev_uar: on dev.
        test: UAR and weighted F1 on test, as columns.
    """

    dev_uar: float
    test: str

    def row(self, title: str) -> str:
        return f"| {title} | {100 * self.dev_uar:.1f} | {self.test} |"


def encoders(whisper: Path | None, inputs: Sequence[int]) -> dict[str, str]:
    """What is measured: name in the table → name of the encoder."""
    found = {"`acoustic`": "acoustic"}
    if importlib.util.find_spec("opensmile"):
        found |= {f"openSMILE {feature_set}": name for feature_set, name in OPENSMILE.items()}
    if whisper:
        for title, name in (("last layer", "whisper_last"), ("mean of all layers", "whisper_layers")):
            found[f"Whisper, {title}"] = name
            found |= {f"Whisper, {title}, input of {seconds} s": f"{name}_{seconds}s" for seconds in inputs}
    return found


def fine_tuning(rate: float, start: str) -> str:
    """The name of its settings."""
    return f"{start}_{rate:.0e}".replace("-", "_")


def settings(whisper: Path | None, inputs: Sequence[int], epochs: int, layout: Layout) -> dict[str, Any]:
    """Over the package's. An adapted encoder has the block of the one that it came from, with another folder."""
    found: dict[str, Any] = {
        "corpora.table.columns.audio": "audio",
        "corpora.table.columns.video": "",
        "encoders.audio.compare": {"family": "functionals", "feature_set": "ComParE_2016"},
    }
    for rate, start in GRID:
        found[f"adaptations.audio.{fine_tuning(rate, start)}"] = {
            "base": "full",
            "epochs": epochs,
            "learning_rate": rate,
            "head_start": start,
            "threads": 1,
        }
    if whisper:
        layers = json.loads((whisper / "config.json").read_text())["encoder_layers"]
        read = {"family": "spectrogram", "repo": str(whisper.resolve()), **WORDS}
        weights = {"layer_weights": [1] * (layers + 1)}
        found |= {"encoders.audio.whisper_last": read, "encoders.audio.whisper_layers": {**read, **weights}}
        for seconds in inputs:
            shorter = {**read, "input_seconds": seconds, "overlap_seconds": min(2.0, seconds / 2)}
            found |= {
                f"encoders.audio.whisper_last_{seconds}s": shorter,
                f"encoders.audio.whisper_layers_{seconds}s": {**shorter, **weights},
            }
        base = f"whisper_last_{inputs[-1]}s"
        for name in (fine_tuning(*one) for one in GRID):
            folder = layout.adapted("audio", f"{base}-{name}").resolve()
            found[f"encoders.audio.{name}"] = {**found[f"encoders.audio.{base}"], "repo": str(folder)}
    return found


def command(name: str, *arguments: object) -> None:
    subprocess.run([str(Path(sys.executable).parent / name), *map(str, arguments)], check=True)


def read(layout: Layout, encoder: str) -> NDArray[np.float32]:
    """Vectors of all utterances, in the order of the manifest."""
    parts = sorted(layout.features("audio", encoder).glob("part-*.parquet"))
    return np.concatenate([np.array(pq.read_table(part)["embedding"].to_pylist(), np.float32) for part in parts])


def probe(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300, class_weight="balanced"))


def held_out(
    vectors_ND: NDArray[np.float32], labels_N: NDArray[np.int64], groups_N: NDArray[np.int64], strength: float
) -> NDArray[np.int64]:
    """The predictions for each group by a probe trained on the other groups."""
    found_N = np.empty_like(labels_N)
    for group in np.unique(groups_N):
        of_N = groups_N == group
        found_N[of_N] = probe(strength).fit(vectors_ND[~of_N], labels_N[~of_N]).predict(vectors_ND[of_N])
    return found_N


def nested(
    vectors_ND: NDArray[np.float32], labels_N: NDArray[np.int64], groups_N: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The same, with the strength for each group that does best on the others."""
    found_N = np.empty_like(labels_N)
    for group in np.unique(groups_N):
        of_N = groups_N == group
        rest = vectors_ND[~of_N], labels_N[~of_N], np.unique(groups_N[~of_N], return_inverse=True)[1] % 3
        best = max(STRENGTHS, key=lambda one, rest=rest: uar(rest[1], held_out(*rest, one)))  # type: ignore[misc]
        found_N[of_N] = probe(best).fit(*rest[:2]).predict(vectors_ND[of_N])
    return found_N


def uar(labels_N: NDArray[np.int64], found_N: NDArray[np.int64]) -> float:
    return float(balanced_accuracy_score(labels_N, found_N))


def scores(labels_N: NDArray[np.int64], found_N: NDArray[np.int64]) -> str:
    weighted = f1_score(labels_N, found_N, average="weighted")
    return f"{100 * uar(labels_N, found_N):.1f} | {100 * weighted:.1f}"


def by_speaker(vectors_ND: NDArray[np.float32], groups_N: NDArray[np.int64], share: float) -> NDArray[np.float32]:
    """Standardised vectors with this share of them normalised by speaker."""
    whole_ND = torch.from_numpy(StandardScaler().fit_transform(vectors_ND))
    present_N = torch.ones(len(vectors_ND), dtype=torch.bool)
    found: NDArray[np.float32] = whole_ND.lerp(
        normalised_by_speaker(whole_ND, present_N, torch.from_numpy(groups_N)), share
    ).numpy()
    return found


def on_split(
    vectors_ND: NDArray[np.float32], labels_N: NDArray[np.int64], rows: Mapping[str, NDArray[np.bool_]]
) -> OnSplit:
    """Those of a probe trained on train, its strength chosen on dev."""
    train, dev, test = (rows[split] for split in ("train", "dev", "test"))
    probes = [probe(one).fit(vectors_ND[train], labels_N[train]) for one in STRENGTHS]
    on_dev = [uar(labels_N[dev], one.predict(vectors_ND[dev])) for one in probes]
    best = int(np.argmax(on_dev))
    return OnSplit(on_dev[best], scores(labels_N[test], probes[best].predict(vectors_ND[test])))


def adapted(
    layout: Layout, base: str, name: str, labels_N: NDArray[np.int64], rows: Mapping[str, NDArray[np.bool_]],
    ask: list[object],
) -> tuple[OnSplit, int]:  # fmt: skip
    """Those of a fine-tuned Whisper with its own classifier, and the epoch that the training selected."""
    from safetensors.numpy import load_file

    command("merc-adapt", *ask, "--encoder", base, "--settings", name)
    command("merc-extract", *ask, "--overwrite", "--modalities", "audio", "--encoder", f"audio={name}")
    folder = layout.adapted("audio", f"{base}-{name}")
    head = load_file(folder / "head.safetensors")
    found_N = (read(layout, name) @ head["weight"].T + head["bias"]).argmax(axis=1)
    dev, test = rows["dev"], rows["test"]
    found = OnSplit(uar(labels_N[dev], found_N[dev]), scores(labels_N[test], found_N[test]))
    return found, json.loads((folder / "record.json").read_text())["epoch"]


def main() -> None:
    """Measures one corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(SPEAKERS_PER_GROUP))
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--whisper", type=Path)
    parser.add_argument("--adapt", action="store_true")
    parser.add_argument("--epochs", type=int, default=8, help="of a fine-tuning")
    parser.add_argument("--only", help="names of encoders, comma-separated; all without it")
    parser.add_argument("--settings", help="names of fine-tunings, comma-separated; all of the grid without it")
    given = parser.parse_args()
    for path in (given.corpus / "utterances.csv", *([given.whisper / "config.json"] if given.whisper else [])):
        if not path.is_file():
            parser.error(f"there is no {path}")
    if given.adapt and not given.whisper:
        parser.error("--adapt is of Whisper: give --whisper, the folder of a checkpoint")
    layout, inputs = Layout(raw=given.corpus, out=given.work, dataset="table"), INPUT_SECONDS[given.name]
    measured = encoders(given.whisper, inputs)
    only = chosen("--only", given.only, list(measured.values())) if given.only else list(measured.values())
    names = {fine_tuning(*one): one for one in GRID}
    asked_for = chosen("--settings", given.settings, names) if given.settings else list(names)
    given.work.mkdir(parents=True, exist_ok=True)
    params = settings_file(given.work, settings(given.whisper, inputs, given.epochs, layout))
    ask: list[object] = ["--dataset", "table", "--raw", given.corpus, "--out", given.work, "--params", params]
    ask += ["--device", "cpu", "--offline"]
    anew = ["--overwrite"]  # only the shards, which hold one encoder's vectors; features are reused
    lines = [
        "| encoder | numbers | UAR | weighted F1 | UAR, half by speaker | UAR, by speaker |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    split_lines = [
        "",
        "| on the table's split | UAR on dev | UAR on test | weighted F1 on test |",
        "| --- | ---: | ---: | ---: |",
    ]
    for title, name in measured.items():
        if name not in only:
            continue
        command("merc-extract", *ask, *anew, "--modalities", "audio", "--encoder", f"audio={name}")
        table = manifest.read(layout.manifest)
        labels_N = table["emotion_index"].to_numpy().astype(np.int64)
        speakers = table["source_speaker"].to_pylist()
        order = sorted(set(speakers))
        speakers_N = np.array([order.index(one) for one in speakers])
        groups_N = speakers_N // SPEAKERS_PER_GROUP[given.name]
        splits = np.array(table["split"].to_pylist())
        rows = {split: splits == split for split in ("train", "dev", "test")}
        vectors_ND = read(layout, name)
        normalised = ["", ""]
        if vectors_ND.shape[1] <= MOST_NUMBERS:
            found = (nested(by_speaker(vectors_ND, speakers_N, share), labels_N, groups_N) for share in (0.5, 1.0))
            normalised = [f"{100 * uar(labels_N, one):.1f}" for one in found]
        plain = scores(labels_N, nested(vectors_ND, labels_N, groups_N))
        lines.append(f"| {title} | {vectors_ND.shape[1]} | {plain} | {' | '.join(normalised)} |")
        print(lines[-1], flush=True)
        split_lines.append(on_split(vectors_ND, labels_N, rows).row(f"{title}, probe"))
        print(split_lines[-1], flush=True)
    asked = f"{given.name}{f' --only {given.only}' if given.only else ''}{' --adapt' if given.adapt else ''}"
    told = f"`python benchmarks/results_speech.py {asked}`"
    size = f"{len(labels_N)} clips, {len(order)} speakers, {labels_N.max() + 1} emotions"
    head = [f"{told}: {size}.", "", *lines, *split_lines]
    put_table(RESULTS, given.name, head)
    tried: dict[str, OnSplit] = {}
    base = f"whisper_last_{inputs[-1]}s"
    for name in asked_for if given.adapt else []:
        rate, start = names[name]
        found, epoch = adapted(layout, base, name, labels_N, rows, ask)
        title = f"Whisper, input of {inputs[-1]} s, fine-tuned: {start}, {rate:g}, epoch {epoch} of {given.epochs}"
        tried[title] = found
        print(found.row(title), flush=True)
        best = max(tried, key=lambda title: tried[title].dev_uar)
        rows_tried = [one.row(f"**{title}**" if title == best else title) for title, one in tried.items()]
        put_table(RESULTS, given.name, [*head, *rows_tried])  # each takes minutes: what is finished is kept


if __name__ == "__main__":
    main()
