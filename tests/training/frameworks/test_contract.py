"""What every framework promises: a new file in ``pipeline/merc/training/frameworks`` is tested here without being named."""

import pytest

from merc import plugins
from merc.training.frameworks.base import Framework
from merc.training.models.context_gru import ContextGRU

PACKAGE = "merc.training.frameworks"
DIMS = {"text": 6, "audio": 5, "visual": 4}


@pytest.mark.parametrize("name", plugins.names(PACKAGE, Framework))
def test_every_framework_is_built_from_its_default_settings(make_batch, name):
    kind = plugins.load(PACKAGE, name, Framework)
    framework = kind(kind.Config(), ContextGRU(ContextGRU.Config(), DIMS, 3))
    assert framework(make_batch([3, 1])).logits.shape == (2, 3, 3)
