"""The help texts of all tools, demos and benchmarks are written alike."""

import argparse
import sys
from pathlib import Path

import pytest
from scripts import load_script

ROOT = Path(__file__).resolve().parents[1]
DEVICE = "a GPU if there is one"
FOLDERS = ("tools", "tools/analysis_tools", "tools/dataset_converters", "tools/model_converters")
SCRIPTS = [
    str(path.relative_to(ROOT))
    for folder in (*FOLDERS, "demo", "benchmarks")
    for path in sorted((ROOT / folder).glob("*.py"))
    if "__main__" in path.read_text()
]


class Parsed(Exception):
    """Ends a script when its parser is complete; holds the parser."""


@pytest.fixture
def parser_of(monkeypatch):
    """Function that gives the parser of a script, which is run as far as that."""
    before = set(sys.modules)

    def stop(parser, *args):
        raise Parsed(parser)

    def read(script):
        path = ROOT / script
        monkeypatch.syspath_prepend(str(path.parent))
        monkeypatch.setattr(sys, "argv", [script])
        monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")  # put back after the test
        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
        module = load_script(script)
        with pytest.raises(Parsed) as parsed:
            module.main()
        return parsed.value.args[0]

    yield read
    for name in {"harness", "synthetic", "web_limits"} - before:  # beside the script
        sys.modules.pop(name, None)


@pytest.mark.parametrize("script", SCRIPTS)
def test_options_are_explained_alike(parser_of, script):
    parser = parser_of(script)
    assert parser.epilog.startswith("example")
    assert f"python {script}" in parser.epilog or f"python3 {script}" in parser.epilog
    assert "PYTHONPATH" not in parser.epilog  # pip install -e . is enough
    for action in parser._actions:
        if action.help is not argparse.SUPPRESS:
            name = "/".join(action.option_strings) or action.dest
            problem = find_problem(action)
            assert problem is None, f"{name}: {problem}: {action.help}"


def find_problem(action):
    """What is unlike the other help texts in that of an option or argument."""
    if not action.help:
        return "no help"
    text = action.help % vars(action)
    if text[:2].istitle():
        return "begins with a capital"
    if text.count("default") != text.count("(default: "):
        return "the default is told in another way than (default: ...)"
    if action.nargs == 0 or not action.option_strings:
        return None
    if not (action.metavar or action.choices):
        return "no metavar tells what is wanted"
    default, told = action.default, text.partition("(default: ")[2].partition(")")[0]
    if isinstance(default, list | tuple):
        default = " ".join(map(str, default))
    if default in (None, "") or action.required or told in ("all of them", DEVICE):
        return None
    return None if str(default).endswith(told or "-") else f"the default is {default}"
