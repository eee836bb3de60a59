"""Weights of untrained networks."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from merc.media.active_speaker.network import WIDTHS, shapes

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def make_tensors() -> Callable[..., Tensors]:
    return _make_tensors


def _make_tensors(widths: Sequence[int] = WIDTHS, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensors:
    """Random weights such that values neither grow nor shrink through a layer; in the form of the authors' files from
    ``torch.save``, including leftovers of training.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors: Tensors = {}
    for name, shape in shapes(widths).items():
        numbers = torch.randn(shape, generator=generator, dtype=torch.float64)
        if len(shape) > 1:
            numbers *= (2 / torch.Size(shape[1:]).numel()) ** 0.5
        elif name.endswith(("running_var", ".weight")):
            numbers = 1 + 0.3 * torch.tanh(numbers)
        tensors[name] = numbers.to(dtype)
    for name in [one.replace("running_mean", "num_batches_tracked") for one in tensors if one.endswith("running_mean")]:
        tensors[name] = torch.tensor(7)
    return {**tensors, "lossV.FC.weight": torch.zeros(2, widths[-1]), "lossV.FC.bias": torch.zeros(2)}


@pytest.fixture
def random_file(make_tensors: Callable[..., Tensors], tmp_path: Path) -> Path:
    """A file like the authors', with random weights."""
    file = tmp_path / "random.model"
    torch.save(make_tensors(), file)
    return file
