"""MELD's real annotations and real clips with faces and speech through the commands; skipped without MERC_REAL_DATA."""

import csv
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from merc.shards.format import reader

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent

# Clip → its path as the clip of an existing utterance, and the minimum and maximum share of its sampled frames that
# show a face.
CLIPS = {
    "single_face.mp4": ("train", 0, 0, 1.0, 1.0),
    "WolfgangLanger_Pexels.mp4": ("train", 0, 1, 1.0, 1.0),
    "noface_face.mov": ("train", 0, 2, 0.25, 0.75),
    "many_faces_1080p.mp4": ("dev", 0, 0, 0.25, 1.0),
    "no_face.mp4": ("test", 0, 0, 0.0, 0.0),
}
FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}


def _extract(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(BIN / "merc-extract"),
        "--dataset",
        "meld",
        "--preset",
        "embedded",
        "--workers",
        "1",
        "--params",
        str(ROOT / "params.yaml"),
        *arguments,
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)


def test_the_real_annotations_of_meld_become_shards_with_the_official_counts(real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "meld").symlink_to(real_data / "meld")
    run = _extract(tmp_path, "--modalities", "text")
    assert run.returncode == 0, run.stderr
    info = reader.info(tmp_path / "features" / "meld" / "shards")
    assert info["deviations"] == []
    counts = {split: (one["dialogues"], one["utterances"], one["labels"]) for split, one in info["counts"].items()}
    assert info["classes"] == ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]
    labels = {split: [one[2][name] for name in info["classes"]] for split, one in counts.items()}
    assert {split: one[:2] for split, one in counts.items()} == {
        "train": (1038, 9989),
        "dev": (114, 1109),
        "test": (280, 2610),
    }
    assert labels == {
        "train": [4710, 1205, 268, 683, 1743, 271, 1109],
        "dev": [470, 150, 40, 111, 163, 22, 153],
        "test": [1256, 281, 50, 208, 402, 68, 345],
    }
    trajectories = pq.read_table(
        tmp_path / "features" / "meld" / "shards" / "trajectories" / "test-00000-of-00001.parquet"
    )
    assert (sum(trajectories["shifts"].to_pylist()), sum(trajectories["shift_pairs"].to_pylist())) == (1003, 1864)
    assert not any(trajectories["neighbours_path"].to_pylist())  # labels of the test split lead to no neighbour


@pytest.fixture
def clips_as_meld(real_data: Path, tmp_path: Path) -> Path:
    """A raw folder whose annotations are reduced to the utterances for which there are real clips."""
    for split, folder in FOLDERS.items():
        (tmp_path / "raw" / "meld" / folder).mkdir(parents=True)
        with (real_data / "meld" / f"{split}_sent_emo.csv").open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        wanted = {
            (str(dialogue), str(utterance)) for of_split, dialogue, utterance, *_ in CLIPS.values() if of_split == split
        }
        place = head.index("Dialogue_ID"), head.index("Utterance_ID")
        with (tmp_path / "raw" / "meld" / f"{split}_sent_emo.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([head, *(row for row in rows if (row[place[0]], row[place[1]]) in wanted)])
    for name, (split, dialogue, utterance, *_) in CLIPS.items():
        (tmp_path / "raw" / "meld" / FOLDERS[split] / f"dia{dialogue}_utt{utterance}.mp4").write_bytes(
            (real_data / "media" / name).read_bytes()
        )
    return tmp_path


@pytest.mark.parametrize("detector", ["haar", "yunet"])
def test_real_clips_go_through_decoding_and_extraction(real_data: Path, clips_as_meld: Path, detector: str) -> None:
    yunet = real_data / "models" / "face_detection_yunet.onnx"
    chosen = ["--set", "media.detector=yunet", "--set", f"media.yunet_file={yunet}"] if detector == "yunet" else []
    run = _extract(clips_as_meld, *chosen)
    assert run.returncode == 0, run.stderr
    assert "instead of" in run.stderr  # the counts differ from the official ones, which is reported
    features = clips_as_meld / "features" / "meld"
    media = _media(features)
    for name, (split, dialogue, utterance, least, greatest) in CLIPS.items():
        row = media[f"{split}/dia{dialogue}_utt{utterance}"]
        assert least <= row["face_coverage"] <= greatest, (name, row["face_coverage"])
        assert row["visual_status"] == ("ok" if greatest else "no_face"), name
    assert media["train/dia0_utt0"]["duration_seconds"] == pytest.approx(2.42, abs=0.03)
    assert media["train/dia0_utt1"]["duration_seconds"] == pytest.approx(19.7, abs=0.1)
    assert media["dev/dia0_utt0"]["audio_channels"] == 2
    test = reader.read_split(features / "shards", "test").to_pylist()[0]
    assert test["visual_present"] == [False]
    assert not any(test["visual"][0])


def _media(features: Path) -> dict[str, dict[str, object]]:
    columns = ["utterance_id", "face_coverage", "visual_status", "audio_status", "audio_channels", "duration_seconds"]
    return {
        row["utterance_id"]: row
        for path in sorted((features / "media").glob("part-*.parquet"))
        for row in pq.read_table(path, columns=columns).to_pylist()
    }
