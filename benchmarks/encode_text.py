"""The cost of text: MELD's transcripts through a frozen MiniLM, against other ways to do the same, in one run; on a GPU
also RoBERTa-large with context.

    python benchmarks/encode_text.py --checkpoint FOLDER_OF_ALL_MINILM_L6_V2 --annotations FOLDER_WITH_THE_CSV_FILES
    [--device cuda:0] [--dtype bfloat16]

Compared, all with the same checkpoint and texts:

- ours: `Encoder.encode` in parts of 4,096 utterances, including tokenising;
- `sentence_transformers.SentenceTransformer.encode(batch_size=32)`, if that package is installed (not a dependency
  of this project);
- `Encoder.encode` with one utterance at a time, on every n-th utterance by length, extrapolated;
- dense: as many tokens in prepared tensors, all sequences of the mean length, no padding, no tokenising, the best of a
  few batch sizes.

The contenders take turns, so that a machine's fluctuations affect all of them; a ratio is the median over the rounds of
the ratios within a round. On a GPU the last lines compare the arithmetic rate of RoBERTa-large's layers on the
utterances' tokens (random weights, the checkpoint's tokenizer) with that of a large matrix product on the same card.
"""

import csv
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from merc.encoders.engine.base import UtteranceInput
from merc.encoders.engine.batching import by_length, padding_share
from merc.encoders.text.transformer import Transformer

PART = 4096  # utterances, as extraction.neural_texts_per_part
ROUNDS = 3
ALONE = 400  # utterances that are encoded one by one
DENSE_BATCH_TOKENS = {"cpu": (512, 1024, 2048, 4096), "cuda": (8192, 32_768, 65_536)}
HISTORY_TURNS = 8
MATRIX = 8192  # rows and columns of the matrix product that a GPU is measured by


def read_utterances(annotations: Path, limit: int | None = None, history_turns: int = 0) -> list[UtteranceInput]:
    """MELD's utterances in the order of its three files, each with its speaker and the earlier turns of its dialogue.

    Args:
        annotations: folder with ``train_sent_emo.csv``, ``dev_sent_emo.csv`` and ``test_sent_emo.csv``.
        limit: how many to draw at random with a fixed seed; None: all.
        history_turns: number of earlier turns.
    """
    utterances = []
    for split in ("train", "dev", "test"):
        with (annotations / f"{split}_sent_emo.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for at, row in enumerate(rows):
            before = [
                other for other in rows[max(0, at - history_turns) : at] if other["Dialogue_ID"] == row["Dialogue_ID"]
            ]
            history = tuple((other["Speaker"], other["Utterance"]) for other in before)
            name = f"{split}/dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
            utterances.append(
                UtteranceInput(utterance_id=name, text=row["Utterance"], speaker=row["Speaker"], history=history)
            )
    if limit is None or limit >= len(utterances):
        return utterances
    return [utterances[at] for at in sorted(np.random.default_rng(0).choice(len(utterances), limit, replace=False))]


def load(checkpoint: Path, device: str, dtype: str, **settings: Any) -> Transformer:
    given = {"pooling": "mean", "max_tokens": 256, "licence": "", "training_data_overlap": "", **settings}
    encoder = Transformer(Transformer.Config(family="transformer", repo=str(checkpoint), dtype=dtype, **given))
    encoder.load(device)
    return encoder


def in_parts(encoder: Transformer, utterances: Sequence[UtteranceInput]) -> NDArray[np.float32]:
    return np.concatenate(
        [encoder.encode(utterances[start : start + PART]).embeddings for start in range(0, len(utterances), PART)]
    )


def tokens_of(encoder: Transformer, utterances: Sequence[UtteranceInput]) -> NDArray[np.int64]:
    """Tokens per utterance as the model receives them, including context and special tokens."""
    return np.concatenate(
        [encoder._tokenise(utterances[start : start + PART]).lengths for start in range(0, len(utterances), PART)]
    )


def padding_of(encoder: Transformer, lengths: NDArray[np.int64]) -> float:
    """The share of padding over all batches, part by part."""
    padded = 0
    for start in range(0, len(lengths), PART):
        part = lengths[start : start + PART]
        padded += round(int(part.sum()) / (1 - padding_share(part, by_length(part, encoder.budget.units))))
    return 1 - float(lengths.sum()) / padded


def seconds_of(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def dense_run(checkpoint: Path, device: str, dtype: str, tokens: int, length: int) -> Callable[[int], None]:
    """Returns a function that runs the bare model on prepared tensors of ``tokens`` tokens in sequences of ``length``,
    in batches of this many tokens.
    """
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(checkpoint, local_files_only=True, dtype=getattr(torch, dtype)).eval().to(device)
    ids = torch.randint(1000, 20_000, (round(tokens / length), length), generator=torch.Generator().manual_seed(0)).to(
        device
    )

    def run(batch_tokens: int) -> None:
        with torch.inference_mode():
            vectors = [
                model(input_ids=batch).last_hidden_state.mean(dim=1)
                for batch in ids.split(max(1, batch_tokens // length))
            ]
            torch.cat(vectors).float().cpu()

    return run


def sentence_transformers_run(
    checkpoint: Path, device: str, dtype: str, texts: list[str]
) -> Callable[[], NDArray[np.float32]] | None:
    """A function that encodes the texts with that package; None if it is not installed."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return None
    model = SentenceTransformer(str(checkpoint), device=device, local_files_only=True, model_kwargs={"dtype": dtype})

    def run() -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = model.encode(texts, batch_size=32, show_progress_bar=False)
        return vectors

    return run


def smallest_cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(
        np.min((first * second).sum(axis=1) / (np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)))
    )


def measure(checkpoint: Path, annotations: Path, device: str, dtype: str, limit: int | None = None) -> list[str]:
    """Runs the comparison.

    Args:
        checkpoint: folder of all-MiniLM-L6-v2.
        annotations: folder with MELD's three csv files.
        device: ``cpu``, ``cuda:0``, …
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        limit: utterances; None: all.

    Returns:
        Lines with the results.
    """
    utterances = read_utterances(annotations, limit)
    encoder = load(checkpoint, device, dtype)
    lengths = tokens_of(encoder, utterances)
    every = max(1, len(utterances) // ALONE)
    sample = [utterances[at] for at in np.argsort(lengths, kind="stable")[::every]]
    one_by_one = [UtteranceInput(utterance_id=utterance.utterance_id, text=utterance.text) for utterance in sample]
    dense = dense_run(checkpoint, device, dtype, int(lengths.sum()), round(float(lengths.mean())))
    package = sentence_transformers_run(checkpoint, device, dtype, [utterance.text for utterance in utterances])
    sizes = DENSE_BATCH_TOKENS["cpu" if device == "cpu" else "cuda"]

    # First runs, for the vectors and to warm up.
    ours = in_parts(encoder, utterances)
    cosines = {
        "one utterance at a time": smallest_cosine(
            in_parts(encoder, sample), np.concatenate([encoder.encode([one]).embeddings for one in one_by_one])
        )
    }
    if package is not None:
        cosines["sentence-transformers"] = smallest_cosine(ours, package())
    best = min(sizes, key=lambda size: seconds_of(lambda: dense(size)))

    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        took = {"ours": seconds_of(lambda: in_parts(encoder, utterances))}
        took["dense, no padding"] = seconds_of(lambda: dense(best))
        if package is not None:
            took["sentence-transformers, batches of 32"] = seconds_of(package)
        took["one utterance at a time"] = (
            seconds_of(lambda: [encoder.encode([one]) for one in one_by_one]) * len(utterances) / len(one_by_one)
        )
        rounds.append(took)

    lines = [
        f"text, {device}, {dtype}: {len(utterances)} utterances, {int(lengths.sum())} tokens, padding"
        f" {padding_of(encoder, lengths):.1%} at {encoder.budget.units} tokens a batch (goal below 5 %)"
    ]
    lines[0] += f"; dense batches of {best} tokens"
    for name in rounds[0]:
        lines.append(f"  {name}: {statistics.median(took[name] for took in rounds):.2f} s")

    def ratio(above: str, below: str) -> float:
        return statistics.median(took[above] / took[below] for took in rounds)

    if package is None:
        lines.append("  sentence-transformers is not installed: not compared")
    else:
        lines.append(
            f"  {ratio('sentence-transformers, batches of 32', 'ours'):.2f} times as fast as sentence-transformers"
            " (goal 1.4)"
        )
    lines.append(f"  {ratio('one utterance at a time', 'ours'):.2f} times as fast as one utterance at a time (goal 4)")
    lines.append(
        f"  {ratio('ours', 'dense, no padding'):.3f} times the time of a dense batch without padding (goal at most"
        " 1.12)"
    )
    lines += [f"  smallest cosine with {name}: {cosine:.7f} (goal 0.9999)" for name, cosine in cosines.items()]
    return lines


def flops(model: Any, lengths: NDArray[np.int64]) -> float:
    """Floating point operations that the layers of a BERT-like model need for sequences of these lengths, without
    padding.

    Two per token for each weight of the layers' matrices, and 4 T² D in each layer for the products of queries with
    keys and of weights with values (T tokens, D features). Embeddings, norms and softmax are not counted.
    """
    import torch

    layers = model.encoder.layer
    weights = sum(module.weight.numel() for module in layers.modules() if isinstance(module, torch.nn.Linear))
    return 2.0 * weights * float(lengths.sum()) + 4.0 * len(layers) * model.config.hidden_size * float(
        (lengths.astype(np.float64) ** 2).sum()
    )


def matrix_product_rate(device: str, dtype: str, size: int = MATRIX, repeats: int = 20) -> float:
    """Floating point operations per second of the product of two square matrices; the best of three."""
    import torch

    first, second = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    out = torch.empty_like(first)

    def run() -> None:
        for _ in range(repeats):
            torch.mm(first, second, out=out)
        float(out[0, 0])  # waits for the device

    run()
    return 2.0 * size**3 * repeats / min(seconds_of(run) for _ in range(3))


def measure_large(
    checkpoint: Path,
    annotations: Path,
    device: str,
    dtype: str,
    limit: int | None = None,
    *,
    matrix: int = MATRIX,
    **shape: int,
) -> list[str]:
    """Like :func:`measure`, for RoBERTa-large with the earlier turns as context; ``shape`` replaces values of the
    model's configuration.
    """
    import torch
    from transformers import AutoTokenizer, RobertaConfig, RobertaModel

    utterances = read_utterances(annotations, limit, HISTORY_TURNS)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    large = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        **shape,
    }
    configuration = RobertaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=514,
        type_vocab_size=2,
        pad_token_id=tokenizer.pad_token_id,
        **large,
    )
    with tempfile.TemporaryDirectory() as name:
        torch.manual_seed(0)
        RobertaModel(configuration).to(getattr(torch, dtype)).save_pretrained(name)
        tokenizer.save_pretrained(name)
        encoder = load(Path(name), device, dtype, history_turns=HISTORY_TURNS, speaker_names=True, pooling="mean_last4")
    lengths = tokens_of(encoder, utterances)
    needed = flops(encoder._model, lengths)
    in_parts(encoder, utterances[:PART])
    rounds = [
        (seconds_of(lambda: in_parts(encoder, utterances)), matrix_product_rate(device, dtype, matrix))
        for _ in range(ROUNDS)
    ]
    seconds = statistics.median(took for took, _ in rounds)
    rate = statistics.median(rate for _, rate in rounds)
    return [
        (
            f"text with {HISTORY_TURNS} earlier turns, RoBERTa-large shape, {device}, {dtype}: {len(utterances)}"
            f" utterances, {int(lengths.sum())} tokens in {seconds:.2f} s, tokenising included; padding"
            f" {padding_of(encoder, lengths):.1%} at {encoder.budget.units} tokens a batch"
        ),
        (
            f"  {needed / seconds / 1e12:.1f} of {rate / 1e12:.1f} TFLOP/s of a {matrix} x {matrix} matrix product: "
            f"{statistics.median(needed / took / rate for took, rate in rounds):.2f} (goal 0.5)"
        ),
    ]


@click.command()
@click.option(
    "--checkpoint", type=click.Path(path_type=Path, exists=True), required=True, help="folder of all-MiniLM-L6-v2"
)
@click.option(
    "--annotations", type=click.Path(path_type=Path, exists=True), required=True, help="folder with MELD's csv files"
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "bfloat16", "float16"]))
@click.option("--limit", type=int, default=None, help="utterances; all without it")
def main(checkpoint: Path, annotations: Path, device: str, dtype: str, limit: int | None) -> None:
    print(*measure(checkpoint, annotations, device, dtype, limit), sep="\n")
    if device != "cpu":
        print(*measure_large(checkpoint, annotations, device, dtype, limit), sep="\n")


if __name__ == "__main__":
    main()
