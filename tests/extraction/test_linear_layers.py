"""The library for the linear layers of an encoder is decided once for a run, kept when the run is continued, and
recorded.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from merc import files
from merc.encoders.engine import linear
from merc.encoders.engine.registry import ChosenEncoder
from merc.encoders.visual.image_tower import ImageTower
from merc.errors import BadTable, PipelineError
from merc.extraction import runner
from merc.extraction.config import Config
from merc.extraction.stage import extract
from merc.job import RunOptions
from merc.layout import Layout
from merc.params import Laid

RUN = RunOptions(workers=1, device="cpu")
Chosen = Callable[..., ChosenEncoder]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny image tower with random weights."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(4)
    size = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": 32,
        "patch_size": 8,
    }
    ViTModel(ViTConfig(**size, initializer_range=0.2)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def tower(folder: Path) -> Chosen:
    torch.set_num_threads(1)

    def choose(**settings: Any) -> ChosenEncoder:
        given = {"repo": str(folder), "licence": "none", "training_data_overlap": "none", **settings}
        return ChosenEncoder("visual", "tower", ImageTower, ImageTower.Config(family="image_tower", **given), Laid())

    return choose


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Pretends that this machine's processor has AVX-512 and comes from a given maker."""
    monkeypatch.setattr(linear, "_PROCESSOR", tmp_path / "cpuinfo")

    def be(maker: str) -> None:
        (tmp_path / "cpuinfo").write_text(f"vendor_id : {maker}\nflags : avx512f\n")

    return be


@pytest.fixture
def visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes oneDNN's results visible in the vectors, by more than rounding."""
    exact = linear.OneDnnLinear.forward
    monkeypatch.setattr(linear.OneDnnLinear, "forward", lambda layer, given: exact(layer, given) * 1.001)
    monkeypatch.setattr(linear, "_TOLERANCE", 0.01)


@pytest.fixture
def made(
    tmp_path: Path, write_manifest: Callable[..., pa.Table], write_media: Callable[..., None]
) -> Callable[[str], Layout]:
    """Makes a dataset of three parts."""

    def make(name: str) -> Layout:
        layout = Layout(tmp_path / "raw", tmp_path / name, "tiny")
        write_media(layout, write_manifest(layout, *[["a", "b", "c", "d"]] * 3))
        return layout

    return make


def _stop_after_one_part(layout: Layout, chosen: ChosenEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    save = runner.save_part

    def full(encoding: runner.Encoding, index: int, encoded: runner.EncodedPart) -> None:
        if index == 1:
            raise PipelineError("the disk is full")
        save(encoding, index, encoded)

    with monkeypatch.context() as hindered:
        hindered.setattr(runner, "save_part", full)
        with pytest.raises(PipelineError, match="full"):
            extract(chosen, Config(), layout, RUN)


def _by(out: Path) -> str:
    return str(files.read_json(out / "record.json")["provenance"]["linear_layers"])


@pytest.mark.usefixtures("visible")
def test_a_resumed_run_has_the_bytes_of_an_undisturbed_one_also_where_another_processor_would_choose_otherwise(
    tower: Chosen, processor: Callable[[str], None], made: Callable[[str], Layout], folder_digest: Callable[[Path],
    dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    found = {}
    for maker in ("AuthenticAMD", "GenuineIntel"):
        processor(maker)
        found[maker] = extract(tower(), Config(), made(maker), RUN)
    assert {maker: _by(out) for maker, out in found.items()} == {"AuthenticAMD": "onednn", "GenuineIntel": "torch"}
    digests = {maker: folder_digest(out) for maker, out in found.items()}
    assert digests["AuthenticAMD"]["part-00001.parquet"] != digests["GenuineIntel"]["part-00001.parquet"]

    for begun, ended in (("AuthenticAMD", "GenuineIntel"), ("GenuineIntel", "AuthenticAMD")):
        layout = made(f"begun on {begun}")
        processor(begun)
        _stop_after_one_part(layout, tower(), monkeypatch)
        processor(ended)
        assert folder_digest(extract(tower(), Config(), layout, RUN)) == digests[begun]
        assert [path for path in layout.scratch.rglob("*") if path.is_file()] == []


def test_finished_work_of_another_kind_of_processor_is_not_done_again(
    tower: Chosen, processor: Callable[[str], None], made: Callable[[str], Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = made("features")
    processor("AuthenticAMD")
    extract(tower(), Config(), layout, RUN)
    processor("GenuineIntel")
    monkeypatch.setattr(runner, "encode_part", lambda *_: pytest.fail("it was done again"))
    assert _by(extract(tower(), Config(), layout, RUN)) == "onednn"
    assert _by(extract(tower(linear_layers="torch"), Config(), layout, RUN)) == "onednn"


def test_settings_win_over_the_processor_and_over_how_the_run_was_begun_and_both_are_recorded(
    tower: Chosen, processor: Callable[[str], None], made: Callable[[str], Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    processor("AuthenticAMD")
    assert _by(extract(tower(linear_layers="torch"), Config(), made("forced"), RUN)) == "torch"
    layout = made("changed")
    _stop_after_one_part(layout, tower(), monkeypatch)
    assert _by(extract(tower(linear_layers="torch"), Config(), layout, RUN)) == "onednn, torch"


def test_a_machine_that_cannot_continue_as_the_run_was_begun_says_so_and_is_recorded(
    tower: Chosen,
    processor: Callable[[str], None],
    made: Callable[[str], Layout],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    layout = made("features")
    processor("AuthenticAMD")
    _stop_after_one_part(layout, tower(), monkeypatch)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert _by(extract(tower(), Config(), layout, RUN)) == "onednn, torch"
    assert any(
        "oneDNN cannot be used for its linear layers: this torch does not hold it" in message
        for message in caplog.messages
    )


def test_a_damaged_note_is_an_error_that_names_it(
    tower: Chosen, processor: Callable[[str], None], made: Callable[[str], Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = made("features")
    processor("AuthenticAMD")
    _stop_after_one_part(layout, tower(), monkeypatch)
    [note] = layout.scratch.rglob("linear_layers.json")
    note.write_text('{"by": 1}')
    with pytest.raises(BadTable, match=r"linear_layers\.json: not a note of a job: Input should be a valid list"):
        extract(tower(), Config(), layout, RUN)


def test_an_encoder_without_a_model_has_nothing_to_settle(
    chosen: Chosen, made: Callable[[str], Layout], processor: Callable[[str], None]
) -> None:
    processor("AuthenticAMD")
    out = extract(chosen("visual", "device"), Config(), made("features"), RUN)
    assert "linear_layers" not in files.read_json(out / "record.json")["provenance"]
