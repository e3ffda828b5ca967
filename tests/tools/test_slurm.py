"""What the Slurm scripts ask `srun` for; a script on the PATH stands in for it."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def asked(folder, script, *arguments, **environment):
    """The arguments with which a script calls `srun`."""
    srun = folder / "srun"
    srun.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    srun.chmod(0o755)
    names = {"GPUS", "GPUS_PER_NODE", "CPUS_PER_TASK", "SRUN_ARGS", "PYTHON"}
    env = {name: value for name, value in os.environ.items() if name not in names}
    env |= environment | dict(PATH=f"{folder}:{os.environ['PATH']}")
    command = [f"tools/{script}", *arguments]
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


def test_train_asks_for_a_process_a_gpu(tmp_path):
    call = asked(tmp_path, "slurm_train.sh", "gpu", "a job", "c.py", "run 1", "--amp", GPUS="16")
    cut = call.index("python")
    options = dict(zip(call[:10:2], call[1:10:2], strict=True))
    assert options == {
        "--partition": "gpu",
        "--job-name": "a job",
        "--gres": "gpu:8",
        "--ntasks": "16",
        "--ntasks-per-node": "8",
    }
    script = ["-u", "tools/train.py", "c.py", "--work-dir", "run 1", "--amp", "--launcher", "slurm"]
    assert call[cut + 1 :] == script


def test_test_takes_the_environment(tmp_path):
    settings = dict(
        GPUS="4", CPUS_PER_TASK="2", SRUN_ARGS="--quotatype=spot --time 60", PYTHON="py"
    )
    call = asked(tmp_path, "slurm_test.sh", "gpu", "job", "c.py", "w.pth", **settings)
    cut = call.index("py")
    assert call[call.index("--gres") + 1] == "gpu:4"
    assert call[call.index("--cpus-per-task") + 1] == "2"
    assert call[cut - 3 : cut] == ["--quotatype=spot", "--time", "60"]
    assert call[cut + 1 :] == ["-u", "tools/test.py", "c.py", "w.pth", "--launcher", "slurm"]


@pytest.mark.parametrize("script", ["slurm_train.sh", "slurm_test.sh"])
def test_scripts_explain_themselves(script):
    result = subprocess.run([ROOT / "tools" / script, "--help"], capture_output=True, text=True)
    assert result.returncode == 2
    assert f"tools/{script} PARTITION" in result.stderr


def test_test_takes_a_name_alone(tmp_path):
    call = asked(tmp_path, "slurm_test.sh", "gpu", "job", "name", "--out", "r.json", PYTHON="py")
    script = ["-u", "tools/test.py", "name", "--out", "r.json", "--launcher", "slurm"]
    assert call[call.index("py") + 1 :] == script
