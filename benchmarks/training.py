"""Training steps of MMGCN, DDIN, MultiDAG and DialogueRNN at the lengths of IEMOCAP's and MELD's dialogues, compared
with the same models written the usual way.

    python benchmarks/training.py [--annotations FOLDER_WITH_MELD_CSV_FILES] [--model ddin] [--corpus meld] [--batch 16]
    [--rounds 5] [--threads 1]

The usual way is in ``references/``: ``mmgcn.py`` (edges written into one matrix for the whole batch in loops over
dialogues, one product with it per layer), ``ddin.py`` (a small cell per step and modality for the padded batch, applied
to all parties; the history is reassembled in every step), ``dialogue_rnn.py`` likewise, and ``multi_dag.py`` (the same
with its two cells per layer). All have the weights of the model, and before anything is timed they must give the same
scores on the same batches, to 1e-4.

A step is forward, cross-entropy, backward and Adam, dropout on, on random features of the corpora's published sizes.
Both ways alternate on the same batches of shuffled dialogues, after a warm-up. The table gives dialogues per second of
wall-clock time over all rounds, and the medians of the ratios of wall-clock and CPU time per batch; on a busy machine
only the latter is meaningful. The usual MMGCN is quadratic in a batch's utterances: batches of 64 dialogues of IEMOCAP
take minutes.

Lengths of MELD are those of its train split, from --annotations, or meld in the folder that MERC_REAL_DATA names.
IEMOCAP's are synthetic, since its annotations must not be redistributed: 120 dialogues of 5,810 utterances in total,
the longest of 110, as in its train and dev splits, from a gamma distribution.
"""

import csv
import os
import platform
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn

from merc.training.data.batch import DialogueBatch
from merc.training.models.ddin import DDIN
from merc.training.models.dialogue_rnn import DialogueRNN
from merc.training.models.mmgcn import MMGCN
from merc.training.models.multi_dag import MultiDAG
from references.ddin import UsualDDIN
from references.dialogue_rnn import UsualDialogueRNN
from references.mmgcn import UsualMMGCN
from references.multi_dag import UsualMultiDAG

NAMES = ("mmgcn", "ddin", "multi_dag", "dialogue_rnn")


@dataclass(frozen=True)
class Corpus:
    """The properties of a corpus that matter to speed. ``parties``: party slots of the published code."""

    lengths: list[int]
    dims: dict[str, int]
    parties: int
    classes: int


def iemocap() -> Corpus:
    """IEMOCAP as it enters a training: 120 dialogues with 5,810 utterances in total, at most 110 each; the lengths are
    drawn, not the real ones.
    """
    rng = np.random.default_rng(0)
    weights = rng.gamma(9.0, size=119)
    lengths = np.clip(np.round(weights / weights.sum() * (5810 - 110)), 8, 109).astype(int)
    for index in range(abs(rest := 5700 - int(lengths.sum()))):
        lengths[index] += np.sign(rest)
    return Corpus([110, *lengths.tolist()], {"text": 100, "audio": 100, "visual": 512}, parties=2, classes=6)


def meld(annotations: Path) -> Corpus:
    """MELD as it enters a training, with the lengths of its train dialogues."""
    with (annotations / "train_sent_emo.csv").open(encoding="utf-8", newline="") as file:
        counts = Counter(row["Dialogue_ID"] for row in csv.DictReader(file))
    return Corpus(list(counts.values()), {"text": 600, "audio": 300, "visual": 342}, parties=9, classes=7)


def made_batch(lengths: list[int], corpus: Corpus) -> DialogueBatch:
    """A batch with random features of these lengths; all modalities are present everywhere."""
    shape, lengths_B = (len(lengths), max(lengths)), torch.tensor(lengths)
    mask = torch.arange(shape[1]) < lengths_B[:, None]
    return DialogueBatch(
        features={name: torch.randn(*shape, dim) * mask[..., None] for name, dim in corpus.dims.items()},
        modality_mask=dict.fromkeys(corpus.dims, mask),
        utterance_mask=mask,
        speakers=torch.randint(0, corpus.parties, shape) * mask,
        labels=torch.randint(0, corpus.classes, shape).masked_fill(~mask, -1),
        lengths=lengths_B,
        dialogue_index=torch.arange(shape[0]),
        utterance_index=torch.arange(mask.numel()).view(shape).masked_fill(~mask, -1),
        dialogue_ids=tuple(map(str, range(shape[0]))),
    )


def batches(corpus: Corpus, size: int, count: int) -> Iterator[DialogueBatch]:
    """Full batches of shuffled dialogues."""
    order = torch.randperm(len(corpus.lengths)).tolist()
    size = min(size, len(order))
    for number in range(count):
        start = number * size % (len(order) - size + 1)
        yield made_batch([corpus.lengths[index] for index in order[start : start + size]], corpus)


def scores(model: nn.Module, batch: DialogueBatch) -> Tensor:
    """[N, C] of the real utterances; UsualMMGCN returns these, the others pad."""
    output = model(batch)
    logits = output if isinstance(output, Tensor) else output.logits
    return logits if logits.ndim == 2 else logits.flatten(0, 1)[batch.real_positions]


def step_seconds(model: nn.Module, optimizer: torch.optim.Optimizer, batch: DialogueBatch) -> tuple[float, float]:
    """Wall-clock time and CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    loss = nn.functional.cross_entropy(scores(model, batch), batch.labels.flatten()[batch.real_positions])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(name: str, ours: nn.Module, usual: nn.Module, corpus: Corpus, size: int, rounds: int) -> str:
    """A row of the table."""
    drawn = list(batches(corpus, size, rounds + 1))
    for batch in drawn:
        torch.testing.assert_close(scores(ours.eval(), batch), scores(usual.eval(), batch), atol=1e-4, rtol=0)
    seconds: dict[str, list[tuple[float, float]]] = {}
    ways = {
        way: (model.train(), torch.optim.Adam(model.parameters(), lr=1e-4))
        for way, model in (("ours", ours), ("usual", usual))
    }
    for batch in drawn:
        for way, (model, optimizer) in ways.items():
            seconds.setdefault(way, []).append(step_seconds(model, optimizer, batch))
    counted = {way: values[1:] for way, values in seconds.items()}
    dialogues = sum(len(batch.dialogue_ids) for batch in drawn[1:])
    rates = [f"{dialogues / sum(wall for wall, _ in counted[way]):.1f}" for way in ("ours", "usual")]
    ratios = [
        statistics.median(
            usual[kind] / ours[kind] for ours, usual in zip(counted["ours"], counted["usual"], strict=True)
        )
        for kind in (0, 1)
    ]
    return f"| {name} | {size} | {' | '.join(rates)} | {' | '.join(f'{ratio:.1f}' for ratio in ratios)} |"


def models(name: str, corpus: Corpus, **settings: Any) -> tuple[nn.Module, nn.Module]:
    """Our model, and the same one with the same weights written the usual way."""
    torch.manual_seed(0)
    if name == "mmgcn":
        graph = MMGCN(MMGCN.Config(**settings), corpus.dims, corpus.classes)
        return graph, UsualMMGCN(graph)
    if name == "multi_dag":
        acyclic = MultiDAG(MultiDAG.Config(**settings), corpus.dims, corpus.classes)
        return acyclic, UsualMultiDAG(acyclic)
    if name == "dialogue_rnn":
        plain = DialogueRNN(DialogueRNN.Config(**settings), corpus.dims, corpus.classes)
        return plain, UsualDialogueRNN(plain, corpus.parties)
    recurrent = DDIN(DDIN.Config(**settings), corpus.dims, corpus.classes)
    return recurrent, UsualDDIN(recurrent, corpus.parties)


@click.command()
@click.option(
    "--annotations", type=click.Path(path_type=Path, exists=True), help="Folder with MELD's train_sent_emo.csv."
)
@click.option("--model", "names", type=click.Choice(NAMES), multiple=True, default=NAMES)
@click.option("--corpus", "chosen", type=click.Choice(["iemocap", "meld"]), multiple=True, default=("iemocap", "meld"))
@click.option("--batch", "sizes", type=int, multiple=True, default=(16,), help="Dialogues per batch.")
@click.option("--layers", type=int, multiple=True, default=(4, 64), help="Of MMGCN.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--threads", type=int, default=torch.get_num_threads(), show_default=True)
def main(
    annotations: Path | None,
    names: tuple[str, ...],
    chosen: tuple[str, ...],
    sizes: tuple[int, ...],
    layers: tuple[int, ...],
    rounds: int,
    threads: int,
) -> None:
    """Runs training steps of our models and the usual ones, alternating, and prints dialogues per second and their
    ratios.
    """
    torch.set_num_threads(threads)
    data = os.environ.get("MERC_REAL_DATA")
    annotations = annotations or (Path(data) / "meld" if data else None)
    if "meld" in chosen and annotations is None:
        raise click.UsageError("MELD's lengths need --annotations or MERC_REAL_DATA; or give --corpus iemocap")
    print(
        f"{threads} threads of {os.cpu_count()} cores, {platform.machine()}; torch {torch.__version__}, Python"
        f" {platform.python_version()}\n"
    )
    print(
        "| | dialogues per batch | dialogues/s | the usual way | ratio, wall time | ratio, CPU time"
        " |\n|---|---|---|---|---|---|"
    )
    for corpus_name in chosen:
        corpus = iemocap() if corpus_name == "iemocap" else meld(annotations) if annotations else None
        for name in names:
            for count in layers if name == "mmgcn" else (None,):
                for size in sizes:
                    settings = {"layers": count} if count else {}
                    label = f"{name}{f', {count} layers' if count else ''}, {corpus_name}"
                    print(compare(label, *models(name, corpus, **settings), corpus, size, rounds), flush=True)


if __name__ == "__main__":
    main()
