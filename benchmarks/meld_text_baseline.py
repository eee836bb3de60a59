"""What the recurrent baseline reaches on MELD's text with frozen sentence embeddings, through the commands a user gives.

    python benchmarks/meld_text_baseline.py --annotations FOLDER_WITH_THE_CSV_FILES --checkpoint FOLDER_OF_ALL_MINILM_L6_V2

The checkpoint is sentence-transformers/all-MiniLM-L6-v2 as a local folder. Everything is made in a temporary folder; the last lines are
the counts of the corpus and weighted F1 and accuracy on dev and test, mean and standard deviation over the recipe's seeds.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


@click.command()
@click.option("--annotations", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--checkpoint", type=click.Path(path_type=Path, exists=True), required=True)
def main(annotations: Path, checkpoint: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "raw").mkdir()
        (folder / "raw" / "meld").symlink_to(annotations.resolve())
        settings = ["--params", str(ROOT / "params.yaml"), "--set", f"encoders.text.minilm.repo={checkpoint.resolve()}"]
        began = time.monotonic()
        extract = [str(BIN / "merc-extract"), "--dataset", "meld", "--modalities", "text", "--encoder", "text=minilm", "--offline", *settings]
        print(subprocess.run(extract, cwd=folder, check=True, capture_output=True, text=True).stdout, end="")
        extracted = time.monotonic()
        subprocess.run([str(BIN / "merc-train"), "--dataset", "meld", "--recipe", "baseline_text", *settings], cwd=folder, check=True, capture_output=True)
        trained = time.monotonic()
        scores = json.loads((folder / "runs" / "meld" / "baseline_text" / "metrics.json").read_text())
    print(f"extraction {extracted - began:.0f} s, training of all seeds {trained - extracted:.0f} s")
    for split in ("dev", "test"):
        for score in ("weighted_f1", "accuracy"):
            mean, std, majority = (scores[split][score][key] for key in ("mean", "std", "majority"))
            print(f"{split} {score}: {mean:.4f} ± {std:.4f} (majority class {majority:.4f})")


if __name__ == "__main__":
    main()
