"""Checks torch, OpenMMLab's packages and what they link to, before the plugin imports them.

Their own checks come one at a time, as AssertionErrors or undefined symbols, and name no remedy.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import Distribution
from pathlib import Path
from typing import NamedTuple

from packaging.specifiers import SpecifierSet

TORCH = "torch==2.13.0"
NUMBA = "numba>=0.60"
OPENCV = "opencv-python-headless"  # needs no libGL, which machines without a screen lack
OPENCVS = (OPENCV, "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
GUIDE = "https://mmcv.readthedocs.io/en/latest/get_started/installation.html"


class Package(NamedTuple):
    """One package of a line: its name on the index, the versions that fit, the tested one."""

    distribution: str
    supported: str
    tested: str


# Both lines install the modules mmengine, mmcv and mmdet. An environment holds one of them.
LINES: dict[str, dict[str, Package]] = {
    "maintained": {
        "mmengine": Package("onedl-mmengine", ">=0.10.8,<0.11", "0.10.12"),
        "mmcv": Package("onedl-mmcv", ">=2.3,<2.4", "2.3.6"),
        "mmdet": Package("onedl-mmdetection", ">=3.5,<3.6", "3.5.1"),
    },
    "original": {
        "mmengine": Package("mmengine", ">=0.10.3,<0.11", "0.10.7"),
        "mmcv": Package("mmcv", ">=2.1,<2.2", "2.1.0"),
        "mmdet": Package("mmdet", ">=3.3,<3.4", "3.3.0"),
    },
}
MODULES = ("mmengine", "mmcv", "mmdet")


def require_openmmlab() -> None:
    """Check the running interpreter's packages.

    Raises:
        ImportError: torch, mmengine, mmcv, mmdet or numba is missing, a version is not supported,
            two lines are installed at once, or OpenCV or mmcv's compiled operators do not load.
            The message has every problem and the command that fixes them.
    """
    versions = {module: installed_versions(module) for module in MODULES}
    if message := find_problems(versions, is_installed, load_error):
        raise ImportError(message)


def is_installed(module: str) -> bool:
    """Whether a top-level module can be found."""
    return importlib.util.find_spec(module) is not None


def installed_versions(module: str) -> dict[str, str]:
    """Version by distribution name, of the lines that installed a module."""
    found = {}
    for line in LINES.values():
        name = line[module].distribution
        if installed := next(iter(Distribution.discover(name=name)), None):
            found[name] = installed
    # A virtual environment can hide a package of the interpreter under it: what counts is the
    # metadata beside the module. An editable install has none there; then all of it counts.
    spec = importlib.util.find_spec(module)
    places = {Path(p).resolve().parent for p in spec and spec.submodule_search_locations or ()}
    beside = {n: d for n, d in found.items() if Path(d.locate_file("")).resolve() in places}
    return {name: d.version for name, d in (beside or found).items()}


def load_error(*modules: str) -> str | None:
    """Why one of some modules, imported in turn, does not load; None when all do."""
    try:
        for module in modules:
            importlib.import_module(module)
    except (ImportError, OSError) as error:
        return str(error)
    return None


def find_problems(
    versions: Mapping[str, Mapping[str, str]],
    is_installed: Callable[[str], bool],
    load_error: Callable[..., str | None],
) -> str | None:
    """Everything that is wrong with an environment, and the command that fixes it.

    Args:
        versions: Of each of :data:`MODULES`, see :func:`installed_versions`.
        is_installed: See :func:`is_installed`.
        load_error: See :func:`load_error`.

    Returns:
        The message of the error, None if nothing is wrong.
    """

    def share(line: str) -> int:
        return sum(LINES[line][module].distribution in versions[module] for module in MODULES)

    line = max(LINES, key=share)  # most of the packages belong to it
    problems = {m: f"{m} is not installed" for m in ("torch", "numba") if not is_installed(m)}
    for module in MODULES:
        if problem := _version_problem(module, is_installed(module), versions[module], line):
            problems[module] = problem
    # mmcv imports OpenCV and mmengine and links to torch: only then can its operators be tried.
    if not problems.keys() & {"torch", "mmengine", "mmcv"}:
        if error := load_error("cv2"):
            problems["opencv"] = f"OpenCV, which mmcv imports, does not load: {error}"
        elif error := load_error("torch", "mmcv._ext"):
            problems["mmcv"] = f"mmcv's compiled operators (mmcv._ext) do not load: {error}"
    if not problems:
        return None
    duration = " (compiling mmcv takes about 10 minutes on two cores)" if "mmcv" in problems else ""
    return "\n".join(
        [
            f"mmvis_plugin cannot run in this environment ({sys.executable}):",
            *(f"  - {problem}" for problem in problems.values()),
            f"To fix this, run{duration}:",
            f"  {_command(set(problems), versions, line)}",
            f"mmcv's installation guide: {GUIDE}",
        ]
    )


def _version_problem(
    module: str, present: bool, versions: Mapping[str, str], line: str
) -> str | None:
    package = LINES[line][module]
    if not present:
        return f"{module} is not installed"
    if not versions:
        names = " nor ".join(packages[module].distribution for packages in LINES.values())
        return f"{module} can be imported, but neither {names} is installed: unknown version"
    if len(versions) > 1:
        both = " and ".join(f"{name} {version}" for name, version in versions.items())
        return f"{both} are both installed and overwrite each other's files"
    ((name, version),) = versions.items()
    if name != package.distribution:
        return f"{name} {version} does not go with the {line} line of the other packages"
    if not SpecifierSet(package.supported).contains(version, prereleases=True):
        return f"{name} {version} is not supported ({package.supported} is)"
    return None


def _command(broken: set[str], versions: Mapping[str, Mapping[str, str]], line: str) -> str:
    pip = f"{sys.executable} -m pip"
    modules = [module for module in MODULES if module in broken]
    remove = [name for module in modules for name in versions[module]]
    first = [TORCH] * ("torch" in broken) + [f'"{NUMBA}"'] * ("numba" in broken)
    pins = [f"{LINES[line][m].distribution}=={LINES[line][m].tested}" for m in modules]
    switch = ""
    if "opencv" in broken:
        remove += OPENCVS  # all of them, since they share their files
        first.append(OPENCV)
    if pins and all(versions[module] for module in modules):
        pins.insert(0, "--no-deps")  # what a replaced package needs is already installed
    if "mmcv" in broken:
        # Without its build requirements at hand mmcv comes without operators, and pip may have
        # kept a wheel like that.
        first += ['"setuptools<81"', "wheel", "ninja", "psutil"]
        pins.insert(0, "--no-build-isolation --no-cache-dir")
        switch = "MMCV_WITH_OPS=1 "
    steps = [f"{pip} uninstall -y {' '.join(remove)}"] if remove else []
    steps += [f"{pip} install {' '.join(first)}"] if first else []
    steps += [f"{switch}{pip} install {' '.join(pins)}"] if pins else []
    return " && ".join(steps)
