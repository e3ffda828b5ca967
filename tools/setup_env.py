"""Makes the virtual environment that the Makefile's targets run in, from the pinned requirements.

Compiling mmcv's operators takes the longest (mmcv has no binary on the package index). An
interrupted set-up continues where it stopped; a finished one is not repeated until a requirement
changes. Needs only Python, a C++ compiler and a package index.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
OLDEST, NEWEST = (3, 10), (3, 12)
STAMP = "mmvis_setup.sha256"

TORCH_FACTS = """
import json, os
try:
    import torch
except ImportError:
    print(json.dumps(None))
else:
    print(json.dumps({
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "available": torch.cuda.is_available(),
        "site": os.path.dirname(os.path.dirname(torch.__file__)),
    }))
"""
OPERATORS_FIT = """
import sys, torch
from mmcv.ops import get_compiling_cuda_version, nms
sys.exit(sys.argv[1] == "cuda" and get_compiling_cuda_version() == "not available")
"""


class SetupError(Exception):
    """The reason why the set-up stops, for the person who started it."""


def main() -> int:
    args = parse_args()
    venv = ROOT / args.venv
    key = fingerprint(args.openmmlab)
    if is_ready(venv, key):
        return 0
    try:
        set_up(venv, args.openmmlab)
    except SetupError as error:
        print(f"set-up stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up interrupted: the same command continues from here", file=sys.stderr)
        return 130
    (venv / STAMP).write_text(key)
    print(f"{args.venv} is ready")
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="example: python3 tools/setup_env.py --venv .venv",
    )
    parser.add_argument(
        "--venv", default=".venv", metavar="FOLDER", help="where to make it (default: %(default)s)"
    )
    parser.add_argument(
        "--openmmlab",
        type=Path,
        default=REQUIREMENTS / "openmmlab.txt",
        metavar="FILE.txt",
        help="pins of mmengine, mmcv and mmdet: openmmlab.txt, the maintained line, or "
        "openmmlab-original.txt (default: requirements/openmmlab.txt)",
    )
    return parser.parse_args()


def fingerprint(openmmlab: Path) -> str:
    """Changes with whatever the environment is made from."""
    sources = sorted({*REQUIREMENTS.glob("*.txt"), openmmlab.resolve()})
    sources += [ROOT / "setup.cfg", ROOT / "pyproject.toml", Path(__file__)]
    digest = hashlib.sha256(f"{ROOT}\n{openmmlab.name}\n".encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()


def is_ready(venv: Path, key: str) -> bool:
    stamp = venv / STAMP
    return (venv / "bin/python").exists() and stamp.is_file() and stamp.read_text() == key


def set_up(venv: Path, openmmlab: Path) -> None:
    check_machine()
    print(f"Setting up {venv.name}: up to 20 minutes on two cores, most of it compiling mmcv")
    python = make_venv(venv)
    (venv / STAMP).unlink(missing_ok=True)
    install(python, "build tools", "-q", *requirements("build"))
    if not keeps_base_packages(venv):
        install(python, "torch, a large download", *requirements("torch"))
    names = ("runtime", "web", "tests")
    install(python, "what the plugin and its tests import", "-q", *requirements(*names))
    # Its metadata asks for other versions of NumPy and OpenCV than the pinned ones.
    install(python, "TrackEval", "-q", "--no-deps", *requirements("tracking"))
    install_openmmlab(python, openmmlab)
    install(python, "mmvis_plugin", "-q", "--no-deps", "--no-build-isolation", "-e", ROOT)
    run(python, "import mmvis_plugin", "-c", "import mmvis_plugin")


def requirements(*names: str) -> list[str]:
    """pip's options for some of the files with pins."""
    return [word for name in names for word in ("-r", str(REQUIREMENTS / f"{name}.txt"))]


def install(python: Path, title: str, *arguments, env: dict[str, str] | None = None) -> None:
    print(f"Installing {title}", flush=True)
    options = ["--no-input", "--disable-pip-version-check"]
    run(python, f"installing {title}", "-m", "pip", "install", *options, *arguments, env=env)


def run(python: Path, title: str, *arguments, env: dict[str, str] | None = None) -> None:
    """Runs the environment's Python; raises SetupError if it fails."""
    # mmcv is built with the ninja beside this Python
    path = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
    command = [str(python), *map(str, arguments)]
    environment = {**os.environ, "PATH": path, **(env or {})}
    if subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL).returncode:
        raise SetupError(
            f"{title} failed, see above; the command was\n  {shlex.join(command)}\n"
            "Once the cause is removed, run the same set-up again: it continues from here."
        )


def check_machine() -> None:
    version = ".".join(map(str, sys.version_info[:2]))
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise SetupError(
            f"{sys.executable} is Python {version}; 3.10, 3.11 or 3.12 is needed. Name one with "
            "`make setup PYTHON=/path/to/python3.11`."
        )
    compiler = os.environ.get("CXX", "c++")
    if not shutil.which(compiler):
        raise SetupError(f"no C++ compiler ({compiler}): install gcc and g++; mmcv is compiled")
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").is_file():
        raise SetupError(
            f"{include}/Python.h is missing: install the development files of Python {version} "
            f"(on Debian and Ubuntu the package python{version}-dev)"
        )


def make_venv(venv: Path) -> Path:
    """Makes the virtual environment unless a working one is there; returns its Python."""
    python = venv / "bin/python"
    if python.exists() and succeeds(python, "-m", "pip", "--version"):
        return python
    if venv.exists() and any(venv.iterdir()) and not (venv / "pyvenv.cfg").exists():
        raise SetupError(f"{venv} exists and is not a virtual environment: move it away")
    torch = cuda_torch(Path(sys.executable))
    options = ["--clear"]
    if torch:
        print(f"keeping torch {torch['version']} of {sys.executable}, CUDA {torch['cuda']}")
        options.append("--system-site-packages")
    if not succeeds(sys.executable, "-m", "venv", *options, venv, output=None):
        raise SetupError(
            f"{sys.executable} -m venv {venv} failed; on Debian and Ubuntu it needs the package "
            f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        )
    if torch and torch_facts(python) is None:
        # Started from a virtual environment: the new one sees only the interpreter under both.
        site = next(venv.glob("lib/python*/site-packages"))
        (site / "base_torch.pth").write_text(torch["site"] + "\n")
    return python


def keeps_base_packages(venv: Path) -> bool:
    return "include-system-site-packages = true" in (venv / "pyvenv.cfg").read_text()


def install_openmmlab(python: Path, pins: Path) -> None:
    """Installs mmengine, mmcv with its operators compiled for the torch at hand, and mmdet."""
    torch = torch_facts(python)
    if torch is None:
        raise SetupError(f"torch cannot be imported in {python}: remove that environment")
    toolkit = cuda_toolkit(torch["cuda"]) if torch["available"] else None
    if torch["available"] and toolkit is None:
        print(
            f"There is no CUDA {torch['cuda']} toolkit (nvcc and its headers) beside a CUDA torch: "
            "mmcv's operators are compiled for the CPU only"
        )
    environment = build_environment(toolkit)
    kind = "cuda" if toolkit else "cpu"
    options = ["--no-deps", "--no-build-isolation"]
    title = "mmengine, mmcv and mmdet (compiling mmcv takes 10 minutes on two cores)"
    install(python, title, *options, "-r", pins, env=environment)
    if not succeeds(python, "-c", OPERATORS_FIT, kind):
        mmcv = re.search(r"^((?:onedl-)?mmcv)==\S+", pins.read_text(), re.MULTILINE)
        options += ["--no-cache-dir", "--force-reinstall", "--no-binary", mmcv[1]]
        title = "mmcv again: the cached one does not fit this torch or has no operators"
        install(python, title, *options, mmcv[0], env=environment)
    run(python, "loading mmcv's operators", "-c", OPERATORS_FIT, kind)


def build_environment(toolkit: Path | None) -> dict[str, str]:
    """Environment variables for compiling mmcv: CUDA operators where there is a toolkit."""
    # One compiler process takes up to 2 GB.
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    jobs = max(1, min(len(os.sched_getaffinity(0)), memory // 2**31))
    variables = {"MMCV_WITH_OPS": "1", "MAX_JOBS": os.environ.get("MAX_JOBS", str(jobs))}
    if toolkit:
        return {**variables, "FORCE_CUDA": "1", "CUDA_HOME": str(toolkit)}
    # mmcv asks torch whether there is a card, and would look for nvcc
    return {**variables, "FORCE_CUDA": "0", "CUDA_VISIBLE_DEVICES": ""}


def cuda_torch(python: Path) -> dict | None:
    """Facts of the interpreter's torch if it runs on a card and nvcc is there to build for it."""
    torch = torch_facts(python)
    if torch and torch["available"] and cuda_toolkit(torch["cuda"]):
        return torch
    return None


def torch_facts(python: Path) -> dict | None:
    """Version, CUDA version, card availability and place of a torch; None without one."""
    result = subprocess.run(
        [str(python), "-c", TORCH_FACTS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return json.loads(result.stdout) if result.returncode == 0 else None


def cuda_toolkit(cuda: str | None, places: list[Path] | None = None) -> Path | None:
    """The directory of a CUDA toolkit of the given version's major release.

    Args:
        cuda: torch's CUDA version, "13.0"; None for a torch without CUDA.
        places: Directories to look in. Defaults to the usual ones.
    """
    for place in toolkit_places() if places is None else places:
        # nvcc on the PATH may be a script that calls one elsewhere, or one that is not there
        headers = [place / "include", *place.glob("targets/*/include")]
        if cuda is None or not any((path / "cuda_runtime.h").is_file() for path in headers):
            continue
        release = nvcc_release(place / "bin/nvcc")
        if release and release.split(".")[0] == cuda.split(".")[0]:
            return place
    return None


def toolkit_places() -> list[Path]:
    named = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    nvcc = shutil.which("nvcc")
    found = [Path(nvcc).resolve().parent.parent] if nvcc else []
    local = Path("/usr/local")
    return [*map(Path, named), *found, local / "cuda", *sorted(local.glob("cuda-*"), reverse=True)]


def nvcc_release(nvcc: Path) -> str | None:
    try:
        output = subprocess.run([str(nvcc), "--version"], capture_output=True, text=True).stdout
    except OSError:
        return None
    release = re.search(r"release (\d+\.\d+)", output)
    return release[1] if release else None


def succeeds(*command, output: int | None = subprocess.DEVNULL) -> bool:
    return not subprocess.run([str(c) for c in command], stdout=output, stderr=output).returncode


if __name__ == "__main__":
    sys.exit(main())
