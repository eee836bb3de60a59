"""Every public class of the losses can be imported from the package."""

import subprocess
import sys

import pytest
from merc import plugins
from merc.training import losses
from merc.training.losses.engine.base import MERCLoss

PACKAGE = "merc.training.losses"


@pytest.mark.parametrize("name", plugins.names(PACKAGE, MERCLoss))
def test_the_classes_of_every_loss_can_be_imported_from_the_package(name):
    kind = plugins.load(PACKAGE, name, MERCLoss)
    module = sys.modules[kind.__module__]
    public = [key for key, value in vars(module).items() if isinstance(value, type) and value.__module__ == module.__name__ and not key.startswith("_")]
    assert kind.__name__ in public
    for key in public:
        assert getattr(losses, key) is getattr(module, key)
        assert key in dir(losses)


def test_importing_the_package_imports_no_loss():
    script = f"import sys, {PACKAGE}; print([name for name in sys.modules if name == 'torch' or name.startswith('{PACKAGE}.')])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_wrong_name_gives_the_nearest():
    with pytest.raises(AttributeError, match="has no attribute 'InterDialogLoss'; did you mean 'InterDialogueLoss'\\? valid: "):
        _ = losses.InterDialogLoss
