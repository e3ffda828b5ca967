"""What starting costs: help without PyTorch, and an import that loads what it needs only."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [
    str(path.relative_to(ROOT))
    for folder in ("tools", "demo")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "command_line" in path.read_text() and "__main__" in path.read_text()
]


def processor_seconds(*command):
    """Processor seconds of a program (median of 3), and what it printed last."""
    code = (
        "import json, resource, subprocess, sys; "
        "out = subprocess.run(sys.argv[1:], check=True, capture_output=True, text=True).stdout; "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(json.dumps([used.ru_utime + used.ru_stime, out]))"
    )
    runs = [
        json.loads(subprocess.check_output([sys.executable, "-c", code, *command], cwd=ROOT))
        for _ in range(3)
    ]
    return statistics.median(seconds for seconds, _ in runs), runs[0][1]


def test_the_demos_are_among_the_scripts():
    assert {"demo/video_demo.py", "demo/web_demo.py"} <= set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_costs_less_than_half_a_second(script):
    seconds, text = processor_seconds(sys.executable, script, "--help")
    assert text.startswith("usage: ") and seconds < 0.5


@pytest.mark.parametrize("script", SCRIPTS)
def test_arguments_are_read_before_torch_is_loaded(script):
    code = (
        "import runpy, sys; sys.path.insert(0, sys.argv[1].rpartition('/')[0]); "
        "script = runpy.run_path(sys.argv[1]); "
        "sys.argv = [sys.argv[1], '--help']\n"
        "try: script['main']()\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules, 'mmengine' in sys.modules)"
    )
    out = subprocess.check_output([sys.executable, "-c", code, script], cwd=ROOT, text=True)
    assert out.splitlines()[-1] == "False False"


# The rest of MMDetection that registering a dataset, a metric and a visualizer needs takes over a
# second by itself and may load numba (by way of imgaug).
IMPORTS = """
import sys, time
import mmdet.models, mmdet.datasets, mmdet.evaluation, mmdet.visualization
before, start = set(sys.modules), time.process_time()
import mmvis_plugin
print(time.process_time() - start, *set(sys.modules) - before)
"""


def test_the_package_costs_little_beyond_mmdetection():
    seconds, added = [], set()
    for _ in range(3):
        out = subprocess.check_output([sys.executable, "-c", IMPORTS], cwd=ROOT, text=True)
        used, *modules = out.splitlines()[-1].split()
        seconds.append(float(used))
        added |= {name.partition(".")[0] for name in modules}
    assert "mmvis_plugin" in added
    assert not added & {"av", "matplotlib", "numba", "gradio"}
    assert statistics.median(seconds) < 0.5
