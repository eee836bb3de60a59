"""Decoding and encoding at the same time: the same bytes as sequentially, really concurrent, and no leftovers of a
failure.
"""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from merc.commands import overlap, shares
from merc.corpora.engine import building
from merc.corpora.engine.labels import label_set
from merc.encoders.engine.registry import ChosenEncoder
from merc.errors import SettingsDiffer, TooManyFailures
from merc.extraction import runner
from merc.extraction import stage as extraction
from merc.extraction.config import Config
from merc.job import RunOptions
from merc.layout import Layout
from merc.media import stage as media
from merc.media.config import Config as MediaConfig
from merc.media.parts import Decoding
from merc.records import manifest
from merc.records.dialogue import Dialogue, Utterance

Choose = Callable[..., ChosenEncoder]
Digest = Callable[[Path], dict[str, str]]
pytestmark = pytest.mark.usefixtures("without_workers")
MEDIA = MediaConfig(utterances_per_part=2)
CONFIG = Config(neural_clips_per_part=2)
AUDIO = frozenset({"audio"})
RUN = RunOptions(workers=1, device="cpu", max_failed="50%")


@pytest.fixture
def corpus(layout: Layout) -> Layout:
    """Four dialogues of two utterances, each a part; the audio of one utterance is missing."""
    layout.raw.mkdir()
    for number in range(7):
        soundfile.write(
            layout.raw / f"{number}.wav", np.sin(np.arange(4000) * (number + 1) / 50).astype(np.float32), 16_000
        )
    dialogues = [
        Dialogue(
            split="train",
            source_dialogue_id=f"dia{dialogue}",
            utterances=tuple(
                Utterance(
                    source_utterance_id=f"{number}",
                    speaker="A",
                    text="x" * (number + 1),
                    emotion="joy",
                    audio_path=f"{number}.wav",
                    start_seconds=number,
                    end_seconds=number + 1,
                )
                for number in (2 * dialogue, 2 * dialogue + 1)
            ),
        )
        for dialogue in range(4)
    ]
    manifest.write(layout.manifest, building.build(layout.dataset, dialogues, label_set("meld7")))
    return layout


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "_room", lambda chosen, run: True)


def both(chosen: Choose) -> list[ChosenEncoder]:
    return [chosen("text", "history"), chosen("audio", "device")]


def at_once(chosen: Choose, layout: Layout, run: RunOptions = RUN) -> tuple[ChosenEncoder, ...]:
    return overlap.decode_and_extract(MEDIA, both(chosen), CONFIG, layout, run, streams=AUDIO)


def test_the_bytes_are_those_of_one_after_the_other(chosen: Choose, corpus: Layout, folder_digest: Digest) -> None:
    made = at_once(chosen, corpus)
    assert [one.modality for one in made] == ["text", "audio"]
    one_after_the_other = Layout(corpus.raw, corpus.out.parent / "others", corpus.dataset)
    one_after_the_other.folder.mkdir(parents=True)
    shutil.copy(corpus.manifest, one_after_the_other.manifest)
    media.decode(MEDIA, one_after_the_other, RUN, streams=AUDIO)
    for one in both(chosen):
        extraction.extract(one, CONFIG, one_after_the_other, RUN)
    assert folder_digest(corpus.folder) == folder_digest(one_after_the_other.folder)
    assert (corpus.features("audio", "device") / "part-00003.parquet").is_file()


def test_a_part_is_encoded_while_the_next_is_decoded(
    chosen: Choose, corpus: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = threading.Event()
    write, save = Decoding._write, runner.save_part

    def writing(self: Decoding, index: int, *rows: object) -> None:
        if index == 3:
            assert encoded.wait(60), "no audio was encoded before the last part was decoded"
        write(self, index, *rows)

    def saving(encoding: runner.Encoding, index: int, part: runner.EncodedPart) -> None:
        save(encoding, index, part)
        if encoding.modality == "audio":
            encoded.set()

    monkeypatch.setattr(Decoding, "_write", writing)
    monkeypatch.setattr(runner, "save_part", saving)
    at_once(chosen, corpus)
    assert encoded.is_set()


def test_the_run_after_a_failed_encoder_does_only_what_is_left(
    chosen: Choose, corpus: Layout, monkeypatch: pytest.MonkeyPatch, folder_digest: Digest
) -> None:
    at_once(chosen, corpus)
    whole = folder_digest(corpus.folder)
    for name in ("media", "text", "audio"):
        shutil.rmtree(corpus.folder / name)
    encode, parts = runner.encode_part, []

    def failing(encoder: object, part: object, modality: str) -> runner.EncodedPart:
        if modality == "audio" and parts.count("audio") == 2:
            raise OSError("the device is gone")
        parts.append(modality)
        return encode(encoder, part, modality)

    monkeypatch.setattr(runner, "encode_part", failing)
    with pytest.raises(OSError, match="gone"):
        at_once(chosen, corpus)
    assert not corpus.media.exists()
    parts.clear()
    monkeypatch.setattr(
        runner, "encode_part", lambda encoder, part, modality: parts.append(modality) or encode(encoder, part, modality)
    )
    at_once(chosen, corpus)
    assert parts.count("audio") < 4
    assert folder_digest(corpus.folder) == whole


def test_an_error_of_the_decoder_ends_the_encoders(
    chosen: Choose, corpus: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Decoding, index: int, *rows: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Decoding, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        at_once(chosen, corpus)
    assert not any(thread.name == "decode" for thread in threading.enumerate())


def test_too_many_broken_clips_end_the_run_before_features_are_in_place(chosen: Choose, corpus: Layout) -> None:
    with pytest.raises(TooManyFailures, match="media"):
        at_once(chosen, corpus, RunOptions(workers=1, device="cpu", max_failed="0"))
    assert not corpus.media.exists()
    assert not corpus.features("audio", "device").exists()
    at_once(chosen, corpus)
    assert corpus.features("audio", "device").is_dir()


def test_other_settings_of_an_encoder_are_refused_before_anything_is_decoded(chosen: Choose, corpus: Layout) -> None:
    at_once(chosen, corpus)
    shutil.rmtree(corpus.media)
    with pytest.raises(SettingsDiffer, match=r"scale: 1\.0 there, 2\.0 wanted"):
        overlap.decode_and_extract(MEDIA, [chosen("audio", "device", scale=2.0)], CONFIG, corpus, RUN, streams=AUDIO)
    assert not corpus.media.exists()


def test_who_is_done_is_not_done_again(chosen: Choose, corpus: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once(chosen, corpus)
    shutil.rmtree(corpus.media)
    monkeypatch.setattr(runner, "encode_part", None)
    assert [one.name for one in at_once(chosen, corpus)] == ["history", "device"]
    assert corpus.media.is_dir()


def test_interrupted_it_leaves_no_thread_behind(
    chosen: Choose, corpus: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "encode_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        at_once(chosen, corpus)
    assert not any(thread.name == "decode" for thread in threading.enumerate())


@pytest.mark.parametrize(("workers", "threads", "there_is"), [(1, 1, True), (2, 1, False), (1, 2, False)])
def test_on_a_cpu_there_is_room_only_next_to_the_decoder(
    chosen: Choose, monkeypatch: pytest.MonkeyPatch, workers: int, threads: int, there_is: bool
) -> None:
    monkeypatch.undo()
    import torch

    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert overlap._room(both(chosen), RunOptions(workers=workers, device="cpu")) is there_is


def test_on_a_cluster_one_stage_after_the_other_keeps_all_nodes_busy(
    chosen: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert not overlap._room(both(chosen), RunOptions(workers=1, device="cuda", executor="ray"))


def test_shares_are_cut_where_a_part_of_every_encoder_begins(chosen: Choose, corpus: Layout) -> None:
    decoding = media.prepare(MEDIA, corpus, RUN, AUDIO)
    coming = overlap.to_come(decoding)
    encodings = [extraction.prepare(one, Config(neural_clips_per_part=4), corpus, RUN, coming) for one in both(chosen)]
    of_shares = [sorted(shares._media_parts(shares.Share(number, 3), decoding, encodings)) for number in (1, 2, 3)]
    assert sorted(of_shares) == [[], [0, 1], [2, 3]]


def test_encoders_without_a_model_are_left_for_later(chosen: Choose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert not overlap._room([chosen("audio", "fake")], RunOptions(workers=1, device="cuda"))
