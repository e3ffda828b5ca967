"""The scripts of tools, demo and benchmarks as modules: they are not part of a package."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
# The version of ShapesVIS that the configs name.
SHAPES_VERSION = int(
    re.search(r"^_version = (\d)$", (ROOT / "configs/_base_/datasets/shapes.py").read_text(), re.M)[
        1
    ]
)


def load_script(path: str) -> ModuleType:
    """Execute a script as a new module, without its ``main()``.

    Args:
        path: From the repository's root, such as ``"tools/test.py"``.
    """
    path = ROOT / path
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks there for the module of its annotations
    spec.loader.exec_module(module)
    return module
