"""Small feature files in the layouts in circulation, written entry by entry as their authors' code unpacks them."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from merc.corpora.iemocap import Iemocap
from merc.shards.circulation.importing import Imported, Wishes, read_file

Vectors = dict[Any, list[NDArray[np.float32]]]


class FeatureFiles:
    """Content of small files: three dialogues of IEMOCAP, one of each split of val12, and four of MELD."""

    iemocap = ("Ses01F_impro01", "Ses01M_impro01", "Ses05F_impro01")
    meld = (0, 61, 1039, 1154)  # train dia0 and dia61, dev dia0, test dia1
    lengths = (3, 2, 4, 1)

    def __init__(self) -> None:
        self.random = np.random.default_rng(3)

    def vectors(self, keys: tuple[Any, ...], dim: int, dtype: str = "f4") -> Vectors:
        return {
            key: [self.random.normal(size=dim).astype(dtype) for _ in range(length)]
            for key, length in zip(keys, self.lengths, strict=False)
        }

    def each(self, keys: tuple[Any, ...], value: Callable[[Any, int], Any]) -> dict[Any, list[Any]]:
        return {
            key: [value(key, turn) for turn in range(length)] for key, length in zip(keys, self.lengths, strict=False)
        }

    def mmgcn(self) -> list[Any]:
        """``IEMOCAP_features.pkl`` of MMGCN and of COGMEN, except for the dimensions; there the ids of the splits are
        sets.
        """
        keys = self.iemocap
        return [
            self.each(keys, lambda key, turn: f"{key}_{'FM'[turn % 2]}{turn:03d}"),
            self.each(keys, lambda _, turn: "FM"[turn % 2]),
            self.each(keys, lambda _, turn: (5, 0, 2, 1)[turn]),
            self.vectors(keys, 5),
            self.vectors(keys, 4),
            self.vectors(keys, 3),
            self.each(keys, lambda key, turn: f"Line {turn} of {key}."),
            {keys[0], keys[1]},
            {keys[2]},
        ]

    def mmgcn_meld(self) -> list[Any]:
        """``MELD_features_raw1.pkl``: numbers for ids, speakers one-hot of 9, dev among the training ids."""
        keys = self.meld
        return [
            self.each(keys, lambda _, turn: turn + 2 * (turn > 1)),  # there are gaps
            self.each(keys, lambda key, turn: np.eye(9, dtype=int)[(turn + key) % 3].tolist()),
            self.each(keys, lambda _, turn: (0, 4, 6, 1)[turn]),
            self.vectors(keys, 5),
            self.vectors(keys, 4),
            self.vectors(keys, 3),
            self.each(keys, lambda key, turn: f"Line {turn} of {key}."),
            [0, 61, 1039],
            [1154],
            self.each(keys, lambda _, turn: (0, 1, 2, 2)[turn]),
        ]

    def cosmic(self) -> list[Any]:
        """``iemocap_features_roberta.pkl``: no ids of utterances, four layers, three splits."""
        keys = self.iemocap
        whole = self.mmgcn()
        return [
            whole[1],
            whole[2],
            *(self.vectors(keys, 6) for _ in range(4)),
            whole[6],
            [keys[0]],
            [keys[2]],
            [keys[1]],
        ]

    def cosmic_emorynlp(self) -> list[Any]:
        """``emorynlp_features_roberta.pkl``: dialogues by season, episode and scene, speakers one-hot of 9."""
        keys = ("4_4_11", "2_18_5", "1_1_3")
        speakers = self.each(keys, lambda _, turn: np.eye(9, dtype=int)[turn].tolist())
        labels = self.each(keys, lambda _, turn: (0, 6, 3, 5)[turn])
        sentences = self.each(keys, lambda key, turn: f"Line {turn} of {key}.")
        return [
            speakers,
            labels,
            *(self.vectors(keys, 6) for _ in range(4)),
            sentences,
            [keys[0]],
            [keys[2]],
            [keys[1]],
        ]

    def cosmic_dailydialog(self) -> list[Any]:
        """``dailydialog_features_roberta.pkl``: two alternating speakers."""
        keys = ("tr_c0", "va_c0", "te_c7")
        labels = self.each(keys, lambda _, turn: (1, 0, 6, 5)[turn])
        sentences = self.each(keys, lambda key, turn: f"Line {turn} of {key}.")
        return [
            self.each(keys, lambda _, turn: "01"[turn % 2]),
            labels,
            *(self.vectors(keys, 6) for _ in range(4)),
            sentences,
            *([key] for key in (keys[0], keys[2], keys[1])),
        ]

    def sdt(self) -> list[Any]:
        """``iemocap_multimodal_features.pkl`` of SDT."""
        ids, speakers, labels, _, audio, visual, sentences, train, test = self.mmgcn()
        return [
            ids,
            speakers,
            labels,
            *(self.vectors(self.iemocap, 6) for _ in range(4)),
            audio,
            visual,
            sentences,
            train,
            test,
        ]

    def sdt_meld(self) -> list[Any]:
        """``meld_multimodal_features.pkl`` of SDT."""
        ids, speakers, labels, _, audio, visual, sentences, train, test, sentiments = self.mmgcn_meld()
        return [
            ids,
            speakers,
            labels,
            *(self.vectors(self.meld, 6) for _ in range(4)),
            audio,
            visual,
            sentences,
            train,
            test,
            sentiments,
        ]

    def bc_lstm_meld(self) -> list[Any]:
        """``MELD_features_raw.pkl`` of bc-LSTM and DialogueRNN: no faces."""
        ids, speakers, labels, text, audio, _, sentences, train, test, sentiments = self.mmgcn_meld()
        return [ids, speakers, labels, text, audio, sentences, train, test, sentiments]

    def data_emotion(self) -> list[Any]:
        """``data_emotion.p`` of MELD's authors, of the same dialogues as the file of MMGCN."""
        rows = [
            {
                "text": f"line {turn} of {number}",
                "split": split,
                "y": emotions[turn % 2],
                "dialog": number,
                "utterance": str(turn),
                "num_words": 4,
            }
            for split, number, length, emotions in self.baseline
            for turn in range(length)
        ]
        emotions = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
        return [
            rows[::-1],
            np.zeros((3, 2), "f4"),
            {"line": 1},
            {"line": 2.0},
            50,
            {name: index for index, name in enumerate(emotions)},
        ]

    baseline = (
        ("train", "0", 3, ("joy", "fear")),
        ("train", "61", 2, ("anger", "neutral")),
        ("val", "0", 4, ("neutral", "sadness")),
        ("test", "1", 1, ("disgust",)),
    )

    def meld_baseline(self, dim: int = 4) -> list[Any]:
        """``text_glove_CNN_emotion.pkl`` and similar: three dictionaries by dialogue and utterance."""
        tables: dict[str, Any] = {"train": {}, "val": {}, "test": {}}
        for split, number, length, _ in self.baseline:
            tables[split] |= {f"{number}_{turn}": self.random.normal(size=dim).astype("f4") for turn in range(length)}
        return list(tables.values())

    def meld_baseline_dialogues(self, dim: int = 4, padded: int = 5) -> list[Any]:
        """``text_emotion.pkl`` and similar: three dictionaries by dialogue, whose rows are padded."""
        tables: dict[str, Any] = {"train": {}, "val": {}, "test": {}}
        for split, number, length, _ in self.baseline:
            tables[split][number] = np.zeros((padded, dim), "f4")
            tables[split][number][:length] = self.random.normal(size=(length, dim))
        return list(tables.values())

    def idcl(self) -> dict[str, Any]:
        """``data_iemocap.pkl``: split → dictionaries, with arrays instead of lists of rows."""
        _, speakers, labels, text, audio, visual, sentences, _, _ = self.mmgcn()
        return {
            split: [
                {
                    "vid": key,
                    "speakers": speakers[key],
                    "labels": labels[key],
                    "audio": np.stack(audio[key]),
                    "visual": np.stack(visual[key]),
                    "text": np.stack(text[key]),
                    "sentence": sentences[key],
                }
            ]
            for split, key in zip(("train", "dev", "test"), self.iemocap, strict=True)
        }


@pytest.fixture
def feature_files() -> FeatureFiles:
    return FeatureFiles()


@pytest.fixture
def pickled(tmp_path: Path) -> Callable[..., Path]:
    """Writes content as a pickle."""

    def write(content: Any, name: str = "features.pkl", protocol: int = 2) -> Path:
        path = tmp_path / name
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        return path

    return write


@pytest.fixture(scope="session")
def read() -> Callable[..., Imported]:
    """Reads a file with the shipped settings of IEMOCAP; wishes by name."""
    config = Iemocap.Config(reader="iemocap")
    return lambda path, **wishes: read_file(path, config, Wishes(**wishes))
