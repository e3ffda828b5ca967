"""Measures the house: which way imports point, how long files are, how much tools repeat.

What takes long to start is measured in ``test_help.py``.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "mmvis_plugin"
# From the bottom up: a room imports from its own line and from those above it in this list. Single
# files of the package lie below all rooms.
ORDER = [
    {path.stem for path in (ROOT / PACKAGE).glob("[!_]*.py")},
    {"ytvis", "video"},
    {"visualization", "datasets", "evaluation"},
    {"models"},
    {"apis"},
    {"engine"},
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
LONGEST_FILE = 500  # lines
LONGEST_RUN = 6  # lines that stand twice
MOST_REPEATED = 3.0  # places per 1,000 lines


def python_files(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in python_files(PACKAGE) if path.is_file()}
MODULES = {name: path for name, path in MODULES.items() if ".configs" not in name}


def imports_of(name, top_level_only=False):
    """Modules of the package that a module names in its import statements.

    Args:
        name: Of the module.
        top_level_only: Leave out imports in functions, which run later.
    """
    path = MODULES[name]
    tree = ast.parse(path.read_text())
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    nodes = ast.walk(tree) if not top_level_only else _outside_functions(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                found = next((m for m in (f"{base}.{alias.name}", base) if m in MODULES), None)
                if found:
                    yield found


def _outside_functions(node):
    for child in ast.iter_child_nodes(node):
        for_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not (for_types or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
            yield child
            yield from _outside_functions(child)


def room_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def test_every_room_has_its_place():
    rooms = {room_of(name) for name in MODULES} - {None}
    assert rooms <= LEVEL.keys(), f"add to ORDER: {sorted(rooms - LEVEL.keys())}"


@pytest.mark.parametrize("name", [name for name in MODULES if room_of(name) in LEVEL])
def test_imports_point_down(name):
    level = LEVEL[room_of(name)]
    wrong = {other for other in imports_of(name) if LEVEL.get(room_of(other), -1) > level}
    assert not wrong, f"{name} imports from above: {sorted(wrong)}"


def find_cycle(graph):
    """A path that comes back to its start, None if there is none."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return path[path.index(node) :] + [node]
        if node in done:
            return None
        path.append(node)
        for other in graph.get(node, ()):
            if cycle := visit(other):
                return cycle
        path.pop()
        done.add(node)
        return None

    return next((cycle for node in graph if (cycle := visit(node))), None)


def test_no_import_cycle():
    """A package's ``__init__`` only lists: what a module takes from it, it takes from the file."""
    graph = {
        name: {other for other in imports_of(name, top_level_only=True) if other != name}
        for name, path in MODULES.items()
        if path.name != "__init__.py"
    }
    assert find_cycle(graph) is None


def test_a_cycle_is_found():
    assert find_cycle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert find_cycle({"a": ["b", "c"], "b": ["c"], "c": []}) is None


def test_no_file_is_too_long():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in [*MODULES.values(), *python_files("tools", "demo")]
    }
    assert not {path: n for path, n in lengths.items() if n > LONGEST_FILE}


def normalised(text):
    """Lines without spaces, comments and names of literals: what is the same job looks the same.

    Returns:
        list[str]: Without empty lines, import statements and docstrings.
    """
    tree = ast.parse(text)
    skipped = set()
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, ast.Import | ast.ImportFrom):
            skipped.update(range(node.lineno, node.end_lineno + 1))
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r"\s+#.*$|^\s*#.*$", "", line)
        line = re.sub(r"\"[^\"]*\"|'[^']*'", "TEXT", re.sub(r"\s+", "", line))
        if number not in skipped and re.search(r"\w", line):
            lines.append(line)
    return lines


def repeated_places(texts):
    """Pairs of places, in one file or two, that share at least six lines one after another.

    Args:
        texts: Name -> text of each file.

    Returns:
        set: Pairs of (file, place) where a shared run begins.
    """
    runs = defaultdict(list)
    for name, text in texts.items():
        lines = normalised(text)
        for start in range(len(lines) - LONGEST_RUN + 1):
            runs[tuple(lines[start : start + LONGEST_RUN])].append((name, start))
    pairs = {
        (a, b)
        for places in runs.values()
        for i, a in enumerate(places)
        for b in places[i + 1 :]
        if a[0] != b[0] or b[1] - a[1] >= LONGEST_RUN
    }
    # A longer run is one pair: what goes on from the line before does not count again.
    return {(a, b) for a, b in pairs if ((a[0], a[1] - 1), (b[0], b[1] - 1)) not in pairs}


def test_repeated_places_are_found():
    job = "\n".join(f"step_{n}(value)" for n in range(8))
    other = "\n".join(f"other_{n}(value)" for n in range(8))
    found = repeated_places({"a": f"{job}\nx = 1\n{other}", "b": f"{other}\ny = 2\n{job}"})
    assert {(a[0], b[0]) for a, b in found} == {("a", "b")} and len(found) == 2
    assert not repeated_places({"a": job, "b": other})


def test_tools_do_each_job_once():
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in python_files("tools")}
    num_lines = sum(len(text.splitlines()) for text in texts.values())
    found = repeated_places(texts)
    assert len(found) <= MOST_REPEATED * num_lines / 1000, sorted(found)
