"""Stand-ins for DVCLive and TensorBoard with the part of their interface that is used; each records its calls in a
file, also in a worker process.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LIVE = """
import json
from pathlib import Path


class Live:
    def __init__(self, dir, *, dvcyaml, save_dvc_exp, exp_message):
        self.step, self.values = None, {}
        self.file = Path(dir).parent / "calls.jsonl"
        self._note("begin", Path(dir).name, Path(dvcyaml).name, save_dvc_exp, exp_message)

    def _note(self, *call):
        with self.file.open("a") as file:
            file.write(json.dumps(call) + "\\n")

    def log_metric(self, name, value):
        self.values[name] = value

    def sync(self):
        self._note("sync", self.step, self.values)

    def end(self):
        self._note("end")
"""


@pytest.fixture
def stand_in(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replaces ``dvclive`` by a stand-in."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "dvclive.py").write_text(LIVE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "dvclive", raising=False)
    yield
    sys.modules.pop("dvclive", None)


@pytest.fixture
def calls() -> Callable[[Path], list[list]]:
    """What the stand-in recorded below a folder of runs for the seed of a run, ``runs/.follow/<run>/seed-<n>``."""
    return lambda folder: [json.loads(line) for line in (folder / "dvclive" / "calls.jsonl").read_text().splitlines()]
