"""Checks that the installed OpenMMLab packages and numba can carry the plugin, before importing it.

Their own checks come one at a time, as AssertionErrors or undefined symbols, and name no remedy.
The versions are read from the packages' metadata, since importing mmdet over an mmcv that it does
not accept fails.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path
from typing import Protocol

from packaging.specifiers import SpecifierSet

TORCH = "torch==2.13.0"
NUMBA = "numba>=0.60"
OPENCV = "opencv-python-headless"  # needs no libGL, which machines without a screen lack
OTHER_OPENCVS = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")


@dataclass(frozen=True)
class Package:
    """One package of a line: its name on the index, the versions that fit, the one tested."""

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


class Environment(Protocol):
    """What the check asks of an environment."""

    def has(self, module: str) -> bool:
        """Whether a top-level module can be found."""

    def versions(self, module: str) -> dict[str, str]:
        """Versions by distribution name of either line that installed the module."""

    def opencv_error(self) -> str | None:
        """Why OpenCV, which mmcv imports, does not load; None when it does."""

    def operators_error(self) -> str | None:
        """Why mmcv's compiled operators do not load; None when they do."""

    def numba_error(self) -> str | None:
        """Why numba, which compiles the reading of masks, does not load; None when it does."""


class InstalledEnvironment:
    """The environment of the running interpreter."""

    def has(self, module: str) -> bool:
        return importlib.util.find_spec(module) is not None

    def versions(self, module: str) -> dict[str, str]:
        found = {}
        for line in LINES.values():
            name = line[module].distribution
            installed = next(iter(Distribution.discover(name=name)), None)
            if installed is not None:
                found[name] = installed
        # A virtual environment can hide a package of the interpreter under it: what counts is the
        # metadata beside the module. An editable install has none there; then all of it counts.
        beside = {name: d for name, d in found.items() if _lies_beside(d, module)}
        return {name: d.version for name, d in (beside or found).items()}

    def opencv_error(self) -> str | None:
        try:
            importlib.import_module("cv2")
        except (ImportError, OSError) as error:
            return str(error)
        return None

    def operators_error(self) -> str | None:
        try:
            importlib.import_module("torch")  # loads the libraries that the operators link to
            importlib.import_module("mmcv._ext")
        except (ImportError, OSError) as error:
            return str(error)
        return None

    def numba_error(self) -> str | None:
        try:
            importlib.import_module("numba")
        except (ImportError, OSError, SystemError) as error:  # an unsuitable NumPy is one of these
            return str(error)
        return None


def _lies_beside(distribution: Distribution, module: str) -> bool:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return False
    site = Path(distribution.locate_file("")).resolve()
    return any(Path(p).resolve().parent == site for p in spec.submodule_search_locations)


def require_openmmlab(environment: Environment | None = None) -> None:
    """Raises an ImportError with every problem of the environment and the command that mends it.

    Args:
        environment: What to check. Defaults to the running interpreter's.

    Raises:
        ImportError: torch, mmengine, mmcv or mmdet is missing, in a version that is not supported,
            from two lines at once, or OpenCV, mmcv's compiled operators or numba do not load.
    """
    environment = environment or InstalledEnvironment()
    versions = {module: environment.versions(module) for module in MODULES}
    line = _nearest_line(versions)
    problems = {}
    if not environment.has("torch"):
        problems["torch"] = "torch is not installed"
    for module in MODULES:
        problem = _problem(module, environment.has(module), versions[module], line)
        if problem:
            problems[module] = problem
    # mmcv brings OpenCV and imports it and mmengine, and links to torch: its operators can be tried
    # once those are right.
    if not problems.keys() & {"torch", "mmengine", "mmcv"}:
        if error := environment.opencv_error():
            problems["opencv"] = f"OpenCV, which mmcv imports, does not load: {error}"
        elif error := environment.operators_error():
            problems["mmcv"] = f"mmcv's compiled operators (mmcv._ext) do not load: {error}"
    if not environment.has("numba"):
        problems["numba"] = "numba is not installed"
    elif error := environment.numba_error():
        problems["numba"] = f"numba does not load: {error}"
    if problems:
        raise ImportError(_message(problems, versions, line))


def _nearest_line(versions: dict[str, dict[str, str]]) -> str:
    """The line most of the installed packages belong to; the maintained one on a tie."""

    def share(line: str) -> int:
        return sum(LINES[line][module].distribution in versions[module] for module in MODULES)

    return max(LINES, key=share)


def _problem(module: str, present: bool, versions: dict[str, str], line: str) -> str | None:
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


def _message(problems: dict[str, str], versions: dict[str, dict[str, str]], line: str) -> str:
    lines = [f"mmvis_plugin cannot run in this environment ({sys.executable}):"]
    lines += [f"  - {problem}" for problem in problems.values()]
    duration = " (it compiles mmcv: about 10 minutes on two cores)" if "mmcv" in problems else ""
    lines += [f"This command mends it{duration}:", f"  {_remedy(problems, versions, line)}"]
    return "\n".join(lines)


def _remedy(problems: dict[str, str], versions: dict[str, dict[str, str]], line: str) -> str:
    pip = f"{sys.executable} -m pip"
    broken = [module for module in MODULES if module in problems]
    remove = [name for module in broken for name in versions[module]]
    pins = [f"{LINES[line][m].distribution}=={LINES[line][m].tested}" for m in broken]
    steps = []
    if remove:
        steps.append(f"{pip} uninstall -y {' '.join(remove)}")
    if "torch" in problems:
        steps.append(f"{pip} install {TORCH}")
    if pins and all(versions[module] for module in broken):
        pins.insert(0, "--no-deps")  # what a replaced package needs is here already
    if "mmcv" in problems:
        # Without its build requirements at hand mmcv comes without operators, and pip may have
        # kept a wheel like that.
        steps.append(f'{pip} install "setuptools<81" wheel ninja psutil')
        pins.insert(0, "--no-build-isolation --no-cache-dir")
    if pins:
        switch = "MMCV_WITH_OPS=1 " if "mmcv" in problems else ""
        steps.append(f"{switch}{pip} install {' '.join(pins)}")
    if "opencv" in problems:
        # All of them, since they share their files.
        steps.append(f"{pip} uninstall -y {' '.join([OPENCV, *OTHER_OPENCVS])}")
        steps.append(f"{pip} install {OPENCV}")
    if "numba" in problems:
        anew = "" if problems["numba"].endswith("not installed") else "--force-reinstall "
        steps.append(f'{pip} install {anew}"{NUMBA}"')
    return " && ".join(steps)
