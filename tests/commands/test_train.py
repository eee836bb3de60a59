from pathlib import Path

import pytest
from click.testing import CliRunner

from merc.commands.train import main

PARAMS = str(Path(__file__).parents[2] / "params.yaml")


def _with_shards(out: Path, *names: str) -> None:
    for name in names:
        (out / name / "shards" / "meta").mkdir(parents=True)
        (out / name / "shards" / "meta" / "info.json").write_text("{}")


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (
            ("demo-meld", "demo-iemocap"),
            (
                "there are no shards of 'demo', and {out} has shards of demo-iemocap, demo-meld; did you mean"
                " 'demo-meld'? This makes them:\n  merc-extract --dataset demo\n"
            ),
        ),
        (
            (),
            (
                "there are no shards of 'demo', and {out} has no shards at all. This makes them:\n  merc-extract"
                " --dataset"
                " demo\n"
            ),
        ),
    ],
)
def test_a_dataset_without_shards_is_answered_with_those_that_have_some_and_the_command_that_makes_them(
    tmp_path: Path, there: tuple[str, ...], words: str
) -> None:
    _with_shards(tmp_path / "features", *there)
    folders = ["--out", str(tmp_path / "features"), "--runs", str(tmp_path / "runs"), "--params", PARAMS]
    result = CliRunner().invoke(main, ["--dataset", "demo", "--recipe", "baseline", *folders])
    assert result.exit_code == 4
    assert words.format(out=tmp_path / "features") in result.stderr


def test_a_word_that_names_no_device_is_refused_at_once(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["--dataset", "demo-meld", "--recipe", "baseline", "--device", "gpu", "--out", str(tmp_path)]
    )
    assert result.exit_code == 2
    assert "'gpu'; valid: auto, cpu, cuda, cuda:N" in result.stderr
