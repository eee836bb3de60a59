"""The files for clusters in ``docs/cluster``: their commands exist, and the job array makes every share once."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from merc.commands.extract import main

CLUSTER = Path(__file__).parents[1] / "docs/cluster"
STANDS_IN = '#!/bin/bash\nprintf "%s\\n" "$(basename "$0") $*" >> "$SAID"\n'


@pytest.fixture
def run_task(tmp_path: Path):
    """Runs a task of the array with stand-ins for Slurm's commands; returns what it calls."""
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text(STANDS_IN)
        (tmp_path / name).chmod(0o755)

    def run(task: int, first: int, last: int) -> list[str]:
        said = tmp_path / "said"
        said.write_text("")
        of_slurm = {
            "SLURM_ARRAY_TASK_ID": task,
            "SLURM_ARRAY_TASK_MIN": first,
            "SLURM_ARRAY_TASK_MAX": last,
            "SLURM_ARRAY_JOB_ID": 7,
            "SLURM_CPUS_PER_TASK": 8,
        }
        environment = {
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SAID": str(said),
            **{name: str(value) for name, value in of_slurm.items()},
        }
        subprocess.run(["bash", CLUSTER / "slurm_array.sh", "meld"], check=True, env=environment, timeout=60)
        return said.read_text().splitlines()

    return run


def arguments_of(line: str) -> list[str]:
    return shlex.split(line.partition("merc-extract ")[2])


def test_a_task_of_the_array_makes_its_share_also_when_it_is_given_again(run_task) -> None:
    [share] = run_task(17, 1, 40)
    assert arguments_of(share)[-2:] == ["--part", "17/40"]
    finish, again = run_task(17, 17, 17)
    assert arguments_of(again)[-2:] == ["--part", "17/40"]
    assert "--dependency=afterok:7" in finish
    assert finish.rstrip("'").endswith("--finish")


def test_the_array_has_as_many_tasks_as_there_are_shares() -> None:
    script = (CLUSTER / "slurm_array.sh").read_text()
    assert (
        re.search(r"--array=1-(\d+)$", script, re.MULTILINE)[1] == re.search(r"^shares=(\d+)", script, re.MULTILINE)[1]
    )


@pytest.mark.parametrize("name", ["slurm_array.sh", "slurm_ray.sh", "kuberay.yaml"])
def test_every_option_is_one_of_merc_extract(name: str) -> None:
    known = {option for parameter in main.params for option in parameter.opts}
    lines = re.sub(r"\\\n\s*", "", (CLUSTER / name).read_text()).splitlines()
    given = [
        option
        for line in lines
        if "merc-extract" in line and not line.startswith("#")
        for option in re.findall(r"(--[a-z-]+)", line.partition("merc-extract")[2])
    ]
    assert {"--dataset"} < set(given) <= known


def test_all_that_a_slurm_job_starts_has_the_token_of_this_job_alone(tmp_path: Path) -> None:
    said = 'printf "%s %s\\n" "$RAY_AUTH_MODE" "$RAY_AUTH_TOKEN" >> "$SAID"'
    for name, script in {
        "srun": f'{said}\nwhile [[ "$1" == --* ]]; do shift; done\nexec "$@"',
        "scontrol": "echo one\necho two",
        "ray": said,
        "merc-extract": said,
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    tokens = []
    for number in ("1", "2"):
        of_slurm = {"SLURM_JOB_NODELIST": "x", "SLURM_JOB_ID": number, "SLURM_CPUS_PER_TASK": "1"}
        environment = {
            **os.environ,
            **of_slurm,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SAID": f"{tmp_path}/{number}",
        }
        subprocess.run(["bash", CLUSTER / "slurm_ray.sh", "meld"], check=True, env=environment, timeout=60)
        [(mode, token)] = {tuple(line.split()) for line in (tmp_path / number).read_text().splitlines()}
        assert (mode, len(token)) == ("token", 64)
        tokens.append(token)
    assert tokens[0] != tokens[1]


@pytest.mark.parametrize("name", ["slurm_array.sh", "slurm_ray.sh"])
def test_the_scripts_are_bash(name: str) -> None:
    subprocess.run([shutil.which("bash") or "bash", "-n", CLUSTER / name], check=True, timeout=60)


def test_the_job_for_kubernetes_has_one_image_and_one_volume_on_all_nodes() -> None:
    job = yaml.safe_load((CLUSTER / "kuberay.yaml").read_text())
    cluster = job["spec"]["rayClusterSpec"]
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    assert {pod["containers"][0]["image"] for pod in pods} == {"IMAGE"}
    for pod in pods:
        assert {"name": "merc", "mountPath": "/merc"} in pod["containers"][0]["volumeMounts"]
        assert any(volume.get("persistentVolumeClaim") == {"claimName": "merc"} for volume in pod["volumes"])
