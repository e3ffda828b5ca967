import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr
from pathlib import Path

import command_line
import pytest
import torch
from scripts import SHAPES_VERSION, load_script
from toy_config import write_toy_config

from mmvis_plugin.datasets.shapes_vis import make_shapes_vis

ROOT = Path(__file__).resolve().parents[2]
TASK = Path(__file__).parent


@pytest.fixture
def toy_config(tmp_path):
    """Function that writes a config of the toy task on the project's own base configs."""

    def write(extra="", schedule="schedule_shapes", sampler="InfiniteKeyFrameSampler"):
        return write_toy_config(tmp_path / "toy.py", extra, schedule, sampler)

    return write


@pytest.fixture
def tool(monkeypatch):
    """Function that runs a tool in this process, as from the command line.

    A tool that fails raises SystemExit with the line that it prints.
    """
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")  # put back after the test

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        module = load_script(f"tools/{name}.py")
        if not hasattr(module, "run"):
            module.main()
            return
        said = io.StringIO()
        try:
            with redirect_stderr(said):
                module.run(module.main, getattr(module, "ERRORS", command_line.INPUT_ERRORS))
        except SystemExit as stop:
            sys.stderr.write(said.getvalue())
            if stop.code:
                raise SystemExit(said.getvalue().strip().splitlines()[-1]) from stop

    return run


@pytest.fixture
def run_converter(tool, tmp_path):
    """Function that runs convert_weights.py on weights of a code base and returns what it wrote."""

    def run(code_base, weights, *options, file="weights.pth"):
        source, converted = tmp_path / file, tmp_path / "out.pth"
        torch.save(weights, source)
        tool("model_converters/convert_weights", code_base, source, converted, *options)
        return torch.load(converted, weights_only=True)

    return run


@pytest.fixture
def train_here(tool):
    """Function that runs tools/train.py in this process; several runs do not share a logger."""

    def run(config, work_dir, *arguments):
        name = str(work_dir)
        options = ["--cfg-options", f"visualizer.name={name}", f"experiment_name={name}"]
        tool("train", config, "--work-dir", work_dir, *arguments, *options)

    return run


@pytest.fixture
def start(tmp_path):
    """Function that starts a command in the repository, with the toy task importable.

    It is a session of its own, so that ``os.killpg`` ends its data loader workers too; what it
    prints goes to ``process.log``.
    """
    processes = []

    def run(*command):
        path = os.pathsep.join([str(ROOT), str(TASK), os.environ.get("PYTHONPATH", "")])
        environment = dict(os.environ, PYTHONPATH=path, PYTHON=sys.executable, OMP_NUM_THREADS="1")
        log = tmp_path / f"process{len(processes)}.txt"
        with log.open("w") as file:
            process = subprocess.Popen(
                list(map(str, command)),
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process.log = log
        processes.append(process)
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def finish(start):
    """Function that runs a command in the repository and fails the test if it fails."""

    def run(*command):
        process = start(*command)
        assert process.wait(timeout=600) == 0, process.log.read_text()[-5000:]

    return run


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """Folder with a ShapesVIS of two training and three validation videos, the latter cut short."""
    root = tmp_path_factory.mktemp("data") / "shapes_vis"
    make_shapes_vis(root, 2, 3, length=(24, 24), version=SHAPES_VERSION)
    path = root / "valid.json"
    content = json.loads(path.read_text())
    for video in content["videos"]:
        video.update(length=6, file_names=video["file_names"][:6])
    for annotation in content["annotations"]:
        annotation["length"] = 6
        for key in ("segmentations", "bboxes", "areas"):
            annotation[key] = annotation[key][:6]
    path.write_text(json.dumps(content))
    return root


@pytest.fixture
def logged_losses():
    """Function that reads losses and gradient norms by iteration from the logs of a folder."""

    def read(work_dir):
        losses = {}
        for path in sorted(Path(work_dir).glob("*/vis_data/scalars.json")):
            lines = path.read_text().split("\n")[:-1]  # the last one may not be whole yet
            for entry in map(json.loads, lines):
                if "loss" in entry:
                    names = [name for name in entry if name.startswith(("loss", "grad_norm"))]
                    losses[entry["step"]] = {name: entry[name] for name in names}
        return losses

    return read
