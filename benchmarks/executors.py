"""The overhead of Ray over the executor for one machine, on the same parts: the media of the demonstration corpus,
decoded with one process per node.

    python benchmarks/executors.py [--dialogues 4] [--out FILE]

The nodes are processes on this machine (`ray.cluster_utils.Cluster`) with one core each, so the wall-clock time falls
with their number only while there are cores for them. CPU seconds are those of all processes of the run, read while it
runs: the driver, and with Ray the nodes' daemons and workers. The cluster is started before the measurement; what is
started for each run (workers, their imports, the check of each node) is counted.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from _tables import put_dated
from merc.corpora.stage import build_manifest, choose
from merc.job import RunOptions
from merc.layout import Layout
from merc.media.config import of_dataset
from merc.media.stage import decode
from merc.params import Params

ROOT = Path(__file__).resolve().parents[1]
_NODES = (1, 2, 3)
_LOOK_SECONDS = 0.1


class CpuSeconds:
    """CPU seconds of this process and all its descendants, including those that have ended."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, float], float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "CpuSeconds":
        self._look()
        self._before = sum(self._seen.values())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        self.seconds = sum(self._seen.values()) - self._before

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        me = psutil.Process()
        for one in [me, *me.children(recursive=True)]:
            try:
                times = one.cpu_times()
                self._seen[one.pid, one.create_time()] = times.user + times.system
            except psutil.NoSuchProcess:
                continue


@contextmanager
def cluster(nodes: int) -> Iterator[str]:
    """Starts a cluster of this many nodes with one core each; yields its address."""
    import ray
    from ray._common.utils import get_default_ray_temp_dir
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "PYTHONPATH": str(ROOT / "pipeline")}
    node = {"num_cpus": 1, "object_store_memory": 80 << 20}
    Path(get_default_ray_temp_dir()).mkdir(
        parents=True, exist_ok=True
    )  # Cluster writes its address there and assumes that the folder exists
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    for _ in range(nodes - 1):
        made.add_node(**node)
    try:
        yield made.address
    finally:
        ray.shutdown()
        made.shutdown()


def _digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("part-*.parquet")))).hexdigest()


def measure(params: Params, raw: Path, folder: Path, dialogues: int, run: RunOptions) -> tuple[float, float, str]:
    """Decodes everything once; returns wall-clock seconds, CPU seconds and a digest of the parts."""
    layout = Layout(raw, folder, "demo-meld")
    build_manifest(choose(params, "demo-meld"), layout, run, limit=dialogues)
    began = time.monotonic()
    with CpuSeconds() as cpu:
        made = decode(of_dataset(params, "demo-meld"), layout, run, streams=frozenset({"audio", "visual"}))
    return time.monotonic() - began, cpu.seconds, _digest(made)


def rows(folder: Path, dialogues: int) -> Iterator[tuple[str, float, float]]:
    """Executor and nodes, wall-clock and CPU seconds; raises ``SystemExit`` if the bytes differ."""
    subprocess.run(
        [sys.executable, "-m", "merc.corpora.demo.make", "--params", str(ROOT / "params.yaml")],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    params = Params.load(ROOT / "params.yaml").with_overrides(media__utterances_per_part=16)
    options: dict[str, Any] = {"device": "cpu", "workers": 1, "max_failed": "50%"}
    wall, cpu, wanted = measure(params, folder / "raw", folder / "local", dialogues, RunOptions(**options))
    yield "local", wall, cpu
    for nodes in _NODES:
        with cluster(nodes) as address:
            wall, cpu, found = measure(
                params,
                folder / "raw",
                folder / f"ray{nodes}",
                dialogues,
                RunOptions(**options, executor="ray", address=address),
            )
        if found != wanted:
            raise SystemExit(f"other bytes with {nodes} nodes")
        yield f"ray, {nodes} node{'s' if nodes > 1 else ''}", wall, cpu


def main() -> None:
    """Measures, and writes a table with today's date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dialogues", type=int, default=4, help="of each split")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        found = list(rows(Path(name), given.dialogues))
    (_, wall, cpu), cores = found[0], os.cpu_count()
    about = (
        f"Media of {given.dialogues} dialogues of each split of demo-meld, {cores} cores; load"
        f" {os.getloadavg()[0]:.1f}."
    )
    lines = ["# Ray over the executor of one machine", "", about, ""]
    lines += [
        "| executor | wall s | CPU s | wall, ratio | CPU, ratio | CPU s more, a node |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for nodes, (what, one, two) in zip((1, *_NODES), found, strict=True):
        lines.append(
            f"| {what} | {one:.1f} | {two:.1f} | {one / wall:.2f} | {two / cpu:.2f} | {(two - cpu) / nodes:.1f} |"
        )
    put_dated(__file__, [*lines, "", "The parts are byte-identical in every row."], given.out)


if __name__ == "__main__":
    main()
