"""What TensorBoard receives; where the real one is installed, it reads the result."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from merc.training.following.engine.base import Followed
from merc.training.following.tensorboard import TensorBoard

ROWS = [{"train_loss": 1.5, "dev_weighted_f1": 0.25}, {"train_loss": 1.0, "dev_weighted_f1": 0.5}]


def test_every_number_of_an_epoch_is_a_scalar_that_is_written_at_once(tmp_path, monkeypatch):
    told = []

    class Writer:
        def __init__(self, log_dir):
            told.append(("begin", log_dir))

        def __getattr__(self, name):
            return lambda *given: told.append((name, *given))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    board = TensorBoard(tmp_path, Followed("meld", "mmgcn", 0))
    for step, row in enumerate(ROWS, start=1):
        board.epoch(step, row)
    board.end()
    assert told == [
        ("begin", str(tmp_path)),
        ("add_scalar", "train_loss", 1.5, 1),
        ("add_scalar", "dev_weighted_f1", 0.25, 1),
        ("flush",),
        ("add_scalar", "train_loss", 1.0, 2),
        ("add_scalar", "dev_weighted_f1", 0.5, 2),
        ("flush",),
        ("close",),
    ]


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="TensorBoard is not installed")
def test_the_real_one_reads_what_was_written(tmp_path):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    board = TensorBoard(tmp_path, Followed("meld", "mmgcn", 0))
    for step, row in enumerate(ROWS, start=1):
        board.epoch(step, row)
    board.end()
    (path,) = tmp_path.iterdir()
    values = [
        (event.step, one.tag, one.tensor.float_val[0])
        for event in EventFileLoader(str(path)).Load()
        for one in event.summary.value
    ]
    assert values == [(step, name, value) for step, row in enumerate(ROWS, start=1) for name, value in row.items()]
