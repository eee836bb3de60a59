"""A MELD-like corpus in the raw layout, written row by row."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import pytest

COLUMNS = [
    "Sr No.",
    "Utterance",
    "Speaker",
    "Emotion",
    "Sentiment",
    "Dialogue_ID",
    "Utterance_ID",
    "Season",
    "Episode",
    "StartTime",
    "EndTime",
]
SPANS = [
    "Split",
    "Dialogue ID",
    "Utterance ID",
    "Original Dialogue ID",
    "Original Utterance ID",
    "Start Time",
    "End Time",
]
FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}


class MeldFiles:
    """Writes the files of a MELD-like corpus below ``raw/meld``."""

    def __init__(self, raw: Path) -> None:
        self.raw = raw
        self.root = raw / "meld"
        self.root.mkdir(parents=True)

    @staticmethod
    def row(dialogue: object, utterance: object, **cells: str) -> dict[str, str]:
        """One row; cells are named without spaces: ``Speaker="Ann"``."""
        return {
            "Sr No.": "1",
            "Utterance": f"Line {utterance} of dialogue {dialogue}.",
            "Speaker": "Ann",
            "Emotion": "neutral",
            "Sentiment": "neutral",
            "Dialogue_ID": str(dialogue),
            "Utterance_ID": str(utterance),
            "Season": "1",
            "Episode": "1",
            "StartTime": "00:00:01,000",
            "EndTime": "00:00:02,500",
            **cells,
        }

    def csv(
        self,
        split: str,
        rows: Iterable[dict[str, str]],
        *,
        columns: Iterable[str] = COLUMNS,
        line_end: str = "\r\n",
        encoding: str = "utf-8",
        folder: str = ".",
    ) -> Path:
        """Writes ``<split>_sent_emo.csv``."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(columns), extrasaction="ignore", lineterminator=line_end)
        writer.writeheader()
        writer.writerows(rows)
        path = self.root / folder / f"{split}_sent_emo.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.getvalue().encode(encoding))
        return path

    def clips(self, split: str, names: Iterable[str], *, folder: str = ".") -> Path:
        """Creates the split's folder with one small file per name; their content is only checked by decoding."""
        path = self.root / folder / FOLDERS[split]
        path.mkdir(parents=True, exist_ok=True)
        for name in names:
            (path / name).write_bytes(b"clip")
        return path

    def realigned(
        self,
        *spans: tuple[object, ...],
        columns: list[str] = SPANS,
        encoding: str = "utf-8",
        name: str = "MELD_video_realignment_timestamps.csv",
    ) -> Path:
        """Writes time stamps like MELD-FAIR's into ``realigned``: split, dialogue, utterance, dialogue and utterance of
        the clip, start, end.
        """
        path = self.root / "realigned" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes("".join(",".join(map(str, line)) + "\n" for line in (columns, *spans)).encode(encoding))
        return path

    def renumbered(self, split: str, *rows: tuple[int, int, int], speaker: str = "Ann") -> Path:
        """Writes a realigned table next to the time stamps: dialogue, utterance, and the latter's number in MELD's own
        table.
        """
        cells = [
            {**self.row(dialogue, utterance, Speaker=speaker), "Original Utterance_ID": str(own)}
            for dialogue, utterance, own in rows
        ]
        written = self.csv(split, cells, columns=[*COLUMNS, "Original Utterance_ID"], line_end="\n", folder="realigned")
        return written.rename(written.with_name(f"realigned_{written.name}"))

    def small(self) -> None:
        """Three dialogues in train, one in dev, two in test; two utterances each, by two speakers."""
        for split, dialogues in (("train", 3), ("dev", 1), ("test", 2)):
            rows = [
                self.row(
                    d, u, Speaker=("Ann", "Bob")[u], Emotion=("neutral", "joy")[u], Sentiment=("neutral", "positive")[u]
                )
                for d in range(dialogues)
                for u in (0, 1)
            ]
            self.csv(split, rows)


@pytest.fixture
def meld(tmp_path: Path) -> MeldFiles:
    """An empty MELD-like corpus in ``tmp_path/raw/meld``."""
    return MeldFiles(tmp_path / "raw")
