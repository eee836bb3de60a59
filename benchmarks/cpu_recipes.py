"""The savings and scores of `+cpu`: the two slowest models on MELD's text, as published and with the addition.

    python benchmarks/cpu_recipes.py --out features [--pairs sdt,df_erc] [--seeds 0] [--work FOLDER]

The folder holds shards of MELD's text, as made by `merc-extract --dataset meld --modalities text --encoder
text=minilm`. Every training is that of `merc-train`: its epoch is chosen on dev. CPU seconds are for one thread,
including the scoring of dev and test after each epoch, up to the last epoch that ran. Writes a dated file next to this
one; a finished training is reused from the working folder.
"""

import json
from pathlib import Path

import click
import torch

from _tables import put_dated
from merc import files
from merc.layout import Layout
from merc.params import Params
from merc.shards.format import reader
from merc.training.data.splits import load_data
from merc.training.loop.trainer import train_seed
from merc.training.recipes.resolution import resolve


def trained(recipe: str, layout: Layout, seed: int, work: Path) -> dict[str, float]:
    """Scores in per cent, epochs and CPU seconds of a training; from the working folder if they exist."""
    resolved = resolve(Params.load(), recipe)
    made_of = {"settings": resolved.settings(), "versions": resolved.versions(), "seed": seed}
    kept = work / f"{files.digest(made_of)}.json"
    if not kept.exists():
        data = load_data(resolved, reader.info_of(layout), layout)[0]
        found = train_seed(resolved, data, seed, torch.device("cpu"))
        work.mkdir(parents=True, exist_ok=True)
        files.write_json(
            kept,
            {
                "dev": 100 * found.dev["weighted_f1"],
                "test": 100 * found.test["weighted_f1"],
                "selected": found.epoch,
                "epochs": len(found.history),
                "seconds": sum(found.watch.cpu_seconds),
            },
        )
    scores: dict[str, float] = json.loads(kept.read_text())
    return scores


@click.command()
@click.option("--out", type=click.Path(path_type=Path, exists=True), default=Path("features"), show_default=True)
@click.option("--pairs", default="sdt,df_erc", show_default=True)
@click.option("--seeds", default="0", show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/cpu_recipes"), show_default=True)
@click.option("--file", type=click.Path(path_type=Path), help="In place of the dated file.")
def main(out: Path, pairs: str, seeds: str, work: Path, file: Path | None) -> None:
    """Trains each recipe as published and with +cpu."""
    torch.set_num_threads(1)
    layout = Layout(Path("raw"), out, "meld")
    lines = [
        "# What `+cpu` saves",
        "",
        f"    python benchmarks/cpu_recipes.py --pairs {pairs} --seeds {seeds}",
        "",
        "MELD's text, MiniLM frozen; weighted F1 in per cent, CPU seconds of one thread for the whole training.",
        "",
        "| recipe | seed | dev | test | epochs, selected | CPU seconds | of those as published |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for base in pairs.split(","):
        for seed in map(int, seeds.split(",")):
            whole = None
            for recipe in (f"{base}@text", f"{base}+cpu@text"):
                found = trained(recipe, layout, seed, work)
                whole = whole or found["seconds"]
                lines.append(
                    f"| `{recipe}` | {seed} | {found['dev']:.2f} | {found['test']:.2f} | {found['epochs']:.0f},"
                    f" {found['selected']:.0f} | {found['seconds']:.0f} | {found['seconds'] / whole:.2f} |"
                )
                click.echo(lines[-1])
    put_dated(__file__, lines, file)


if __name__ == "__main__":
    main()
