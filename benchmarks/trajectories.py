"""Nearest dialogues: compared with whole matrices on MELD, and how the time grows with the corpus.

    OMP_NUM_THREADS=1 MERC_REAL_DATA=<folder> python benchmarks/trajectories.py [--thousands 1 2 4 8 16 32 64]
    [--similarities edit dtw …] [--repeats 5]

MELD: the 10 nearest of each of the 1,038 train dialogues by ``edit`` and ``dtw``, from labels to sorted neighbours,
against rapidfuzz's ``cdist`` with numpy's sort and dtaidistance's full matrix (C library, one thread) with and without
the sort. Every result is compared with that of the sorted matrix first. Growth: dialogues of a first-order Markov chain
with MELD's lengths, first emotions and transitions; the exponent is the slope of a least-squares line through log time
over log size. CPU seconds of this process, the minimum over the repeats for MELD.
"""

import argparse
import csv
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from dtaidistance import dtw_ndim
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from merc.corpora.engine.labels import LABEL_SETS
from merc.params import Params
from merc.trajectories.config import Config
from merc.trajectories.neighbours import nearest

Labels = NDArray[np.int16]
CLASSES = LABEL_SETS["meld7"].classes
NEIGHBOURS = 10


def meld(folder: Path) -> list[Labels]:
    """The labels of MELD's train dialogues."""
    dialogues: dict[int, list[tuple[int, int]]] = {}
    with (folder / "meld" / "train_sent_emo.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            dialogues.setdefault(int(row["Dialogue_ID"]), []).append(
                (int(row["Utterance_ID"]), CLASSES.index(row["Emotion"]))
            )
    return [np.array([label for _, label in sorted(rows)], np.int16) for _, rows in sorted(dialogues.items())]


def like(corpus: list[Labels], number: int, seed: int = 0) -> list[Labels]:
    """Random dialogues with the lengths, first labels and transitions of a corpus."""
    rng = np.random.default_rng(seed)
    starts = np.bincount([one[0] for one in corpus], minlength=len(CLASSES))
    moves = np.full((len(CLASSES), len(CLASSES)), 0.1)  # a transition that never happened is rare, not impossible
    for one in corpus:
        np.add.at(moves, (one[:-1], one[1:]), 1)
    up_to = np.cumsum(moves / moves.sum(axis=1, keepdims=True), axis=1)
    lengths = rng.choice([len(one) for one in corpus], number)
    labels = np.empty((number, lengths.max()), np.int16)
    labels[:, 0] = rng.choice(len(CLASSES), number, p=starts / starts.sum())
    for position in range(1, labels.shape[1]):
        drawn = rng.random(number)[:, None]
        labels[:, position] = np.minimum((drawn > up_to[labels[:, position - 1]]).sum(axis=1), len(CLASSES) - 1)
    return [row[:length] for row, length in zip(labels, lengths, strict=True)]


def cpu_seconds(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def sort(similarities: NDArray[np.float64]) -> NDArray[np.int64]:
    """The nearest by a whole matrix, ties by index."""
    steps = np.rint(similarities * 1_000_000).astype(np.int64)
    np.fill_diagonal(steps, -1)
    order: NDArray[np.int64] = np.argsort(-steps, axis=1, kind="stable")[:, :NEIGHBOURS]
    return order


def against_matrices(corpus: list[Labels], config: Config, repeats: int) -> None:
    ids = [f"{index:06d}" for index in range(len(corpus))]
    letters = ["".join(chr(65 + label) for label in one) for one in corpus]
    paths = list(config.similarity("dtw", CLASSES).describe(corpus, len(CLASSES)).reshape(len(corpus), -1, 2))

    def by_cdist() -> NDArray[np.float64]:
        shared: NDArray[np.float64] = process.cdist(
            letters, letters, scorer=Levenshtein.normalized_similarity, dtype=np.float64, workers=1
        )
        return shared

    def by_dtaidistance() -> NDArray[np.float64]:
        half = dtw_ndim.distance_matrix_fast(paths, parallel=False, inner_dist="euclidean")
        cost = np.minimum(half, half.T)
        np.fill_diagonal(cost, 0)
        matrix: NDArray[np.float64] = 1 - cost / (2 * config.path_bins)
        return matrix

    for name, matrix in (("edit", by_cdist), ("dtw", by_dtaidistance)):
        similarity = config.similarity(name, CLASSES)
        found = nearest(ids, corpus, similarity, classes=len(CLASSES), neighbours=NEIGHBOURS)
        if [list(one.ids) for one in found] != [[ids[other] for other in row] for row in sort(matrix())]:
            sys.exit(f"{name}: not the neighbours of the sorted matrix")
        rounds = [
            (
                cpu_seconds(
                    lambda similarity=similarity: nearest(
                        ids, corpus, similarity, classes=len(CLASSES), neighbours=NEIGHBOURS
                    )
                ),
                cpu_seconds(matrix),
                cpu_seconds(lambda matrix=matrix: sort(matrix())),
            )
            for _ in range(repeats)
        ]
        ours, alone, sorted_ = (min(times) for times in zip(*rounds, strict=True))
        print(
            f"MELD, {len(corpus)} dialogues, {name}: nearest {ours:.3f} s, matrix {alone:.3f} s, matrix and sort"
            f" {sorted_:.3f} s; the same neighbours"
        )


def growth(corpus: list[Labels], config: Config, thousands: list[int], names: list[str]) -> None:
    for name in names:
        similarity = config.similarity(name, CLASSES)
        seconds = []
        for number in thousands:
            dialogues = like(corpus, 1000 * number)
            compared = (
                dialogues
                if name != "path_speakers"
                else [one + len(CLASSES) * (np.arange(len(one)) % 2).astype(np.int16) for one in dialogues]
            )
            ids = [f"{index:06d}" for index in range(len(dialogues))]
            seconds.append(
                cpu_seconds(lambda: nearest(ids, compared, similarity, classes=len(CLASSES), neighbours=NEIGHBOURS))  # noqa: B023
            )
            print(f"{name}: {number} thousand dialogues {seconds[-1]:.2f} s", flush=True)
        if len(seconds) > 1:
            exponent = np.polyfit(np.log(thousands), np.log(seconds), 1)[0]
            whole = math.log(seconds[-1] / seconds[0]) / math.log(thousands[-1] / thousands[0])
            print(f"{name}: exponent {exponent:.2f} (from the first to the last size {whole:.2f})")
    print(f"most memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


def main() -> None:
    config = Params.load().fill("trajectories", Config)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thousands", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--similarities", nargs="+", default=config.from_labels, choices=config.from_labels)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    folder = os.environ.get("MERC_REAL_DATA")
    if not folder:
        sys.exit("MERC_REAL_DATA names no folder: MELD's annotations are needed")
    corpus = meld(Path(folder))
    against_matrices(corpus, config, arguments.repeats)
    if arguments.thousands:
        growth(corpus, config, arguments.thousands, arguments.similarities)


if __name__ == "__main__":
    main()
