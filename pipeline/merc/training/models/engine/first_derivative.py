"""For gradients that are written by hand: they have no gradient themselves."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import torch

Gradients = TypeVar("Gradients")


def first_derivative_only(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
    """Makes the ``backward`` of a ``torch.autograd.Function`` refuse ``create_graph``.

    torch's ``once_differentiable`` only refuses a gradient that depends on something itself. That of a linear loss does
    not, and its second derivative would silently lack a part.
    """

    @wraps(backward)
    def refusing(*given: object) -> Gradients:
        if torch.is_grad_enabled():  # only so under create_graph
            raise RuntimeError(f"{backward.__qualname__} has no second derivative: create_graph must be False")
        return backward(*given)

    return refusing
