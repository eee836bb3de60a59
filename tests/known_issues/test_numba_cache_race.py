"""Fresh processes that compiled and read numba's cache of librosa's functions at the same time crashed occasionally
(segmentation fault).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_CODE = """
import sys
from pathlib import Path
from merc.encoders.engine import registry
from merc.params import Params
registry.build(Params.load(Path(sys.argv[1])), "audio", "acoustic", offline=True).load("cpu")
"""


@pytest.mark.slow
def test_processes_that_start_together_with_an_empty_cache_all_get_ready(tmp_path: Path) -> None:
    params = Path(__file__).resolve().parents[2] / "params.yaml"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    started = [subprocess.Popen([sys.executable, "-c", _CODE, str(params)], env=environment) for _ in range(3)]
    assert [process.wait(timeout=200) for process in started] == [0, 0, 0]
    assert any(tmp_path.rglob("*.nbi"))  # they did share the cache
