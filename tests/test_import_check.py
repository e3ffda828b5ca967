"""The import check: every broken environment gets one message with the command that fixes it."""

import subprocess
import sys

import pytest

from mmvis_plugin.environment import GUIDE, find_problems, installed_versions, require_openmmlab

MAINTAINED = {
    "mmengine": {"onedl-mmengine": "0.10.12"},
    "mmcv": {"onedl-mmcv": "2.3.6"},
    "mmdet": {"onedl-mmdetection": "3.5.1"},
}
ORIGINAL = {
    "mmengine": {"mmengine": "0.10.7"},
    "mmcv": {"mmcv": "2.1.0"},
    "mmdet": {"mmdet": "3.3.0"},
}


class FakeEnvironment:
    """Stands for what the check asks of an environment; counts whether operators were tried."""

    def __init__(self, installed, missing=(), opencv=None, ops=None):
        self.versions = {m: {} if m in missing else v for m, v in installed.items()}
        self.missing, self.errors, self.tried = missing, {"cv2": opencv, "torch": ops}, []

    def load_error(self, *modules):
        self.tried.append(modules[-1])
        return self.errors[modules[0]]

    def check(self):
        return find_problems(self.versions, lambda m: m not in self.missing, self.load_error)


def complaint(environment):
    return environment.check().split("To fix this, run")


@pytest.mark.parametrize("installed", [MAINTAINED, ORIGINAL], ids=["maintained", "original"])
def test_accepts_both_lines(installed):
    environment = FakeEnvironment(installed)
    assert environment.check() is None
    assert environment.tried == ["cv2", "mmcv._ext"]


def test_accepts_this_environment():
    require_openmmlab()


@pytest.mark.parametrize("module", ["mmengine", "mmcv", "mmdet"])
@pytest.mark.parametrize("installed", [MAINTAINED, ORIGINAL], ids=["maintained", "original"])
def test_missing_package_is_installed_in_the_line_of_the_others(installed, module):
    environment = FakeEnvironment(installed, missing={module})
    problems, command = complaint(environment)
    ((name, version),) = installed[module].items()
    assert f"- {module} is not installed" in problems
    assert f" {name}=={version}" in command
    assert "uninstall" not in command
    assert "--no-deps" not in command
    assert ("MMCV_WITH_OPS=1" in command) == (module == "mmcv")


def test_empty_environment_gets_everything_in_one_message():
    problems, command = complaint(
        FakeEnvironment(MAINTAINED, missing={"torch", "mmengine", "mmcv", "mmdet"})
    )
    assert problems.count("is not installed") == 4
    assert command.index("torch==") < command.index("MMCV_WITH_OPS=1")
    for pin in ("onedl-mmengine==0.10.12", "onedl-mmcv==2.3.6", "onedl-mmdetection==3.5.1"):
        assert pin in command


def test_mmcv_without_operators_is_compiled_again():
    problems, command = complaint(FakeEnvironment(MAINTAINED, ops="No module named 'mmcv._ext'"))
    assert "mmcv._ext" in problems
    assert "uninstall -y onedl-mmcv &&" in command
    assert "MMCV_WITH_OPS=1" in command
    assert "--no-build-isolation --no-cache-dir --no-deps onedl-mmcv==2.3.6" in command
    assert "mmdet" not in command


def test_opencv_without_its_libraries_is_replaced_and_mmcv_kept():
    error = "libGL.so.1: cannot open shared object file: No such file or directory"
    environment = FakeEnvironment(MAINTAINED, opencv=error, ops=error)
    problems, command = complaint(environment)
    assert f"- OpenCV, which mmcv imports, does not load: {error}" in problems
    assert "uninstall -y opencv-python-headless opencv-python " in command
    assert command.endswith(
        f" -m pip install opencv-python-headless\nmmcv's installation guide: {GUIDE}"
    )
    assert "onedl-mmcv" not in command and environment.tried == ["cv2"]


def test_missing_numba_is_installed():
    problems, command = complaint(FakeEnvironment(MAINTAINED, missing={"numba"}))
    assert "- numba is not installed" in problems
    assert ' -m pip install "numba>=0.60"\n' in command and "mmcv==" not in command


@pytest.mark.parametrize(
    ("base", "module", "name", "version"),
    [
        (MAINTAINED, "mmcv", "onedl-mmcv", "2.2.0"),
        (MAINTAINED, "mmcv", "onedl-mmcv", "2.4.0"),
        (MAINTAINED, "mmdet", "onedl-mmdetection", "3.4.9"),
        (MAINTAINED, "mmengine", "onedl-mmengine", "0.11.0"),
        (ORIGINAL, "mmcv", "mmcv", "2.2.0"),
        (ORIGINAL, "mmcv", "mmcv", "1.7.2"),
        (ORIGINAL, "mmdet", "mmdet", "2.28.2"),
        (ORIGINAL, "mmengine", "mmengine", "0.7.4"),
    ],
)
def test_version_outside_the_range_is_replaced(base, module, name, version):
    problems, command = complaint(FakeEnvironment({**base, module: {name: version}}))
    ((_, tested),) = base[module].items()
    assert f"{name} {version} is not supported" in problems
    assert f"uninstall -y {name} " in command
    assert f"{name}=={tested}" in command


def test_two_lines_over_each_other():
    both = {"mmcv": "2.1.0", "onedl-mmcv": "2.3.6"}
    problems, command = complaint(FakeEnvironment({**MAINTAINED, "mmcv": both}))
    assert "both installed" in problems
    assert "uninstall -y mmcv onedl-mmcv " in command
    assert "onedl-mmcv==2.3.6" in command


def test_mixed_lines():
    problems, command = complaint(FakeEnvironment({**ORIGINAL, "mmdet": MAINTAINED["mmdet"]}))
    assert "onedl-mmdetection 3.5.1 does not go with the original line" in problems
    assert "mmdet==3.3.0" in command


def test_module_of_unknown_origin():
    # mmcv-lite installs a module mmcv that has no operators
    problems, _ = complaint(FakeEnvironment({**MAINTAINED, "mmcv": {}}))
    assert "mmcv can be imported, but neither onedl-mmcv nor mmcv is installed" in problems


def install(site, module, distribution, version):
    (site / module).mkdir(parents=True)
    (site / module / "__init__.py").touch()
    metadata = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    )


def test_metadata_beside_the_module_counts(tmp_path, monkeypatch):
    hidden, venv = tmp_path / "hidden", tmp_path / "venv"
    install(hidden, "mmdet", "mmdet", "3.3.0")
    install(venv, "mmdet", "onedl-mmdetection", "3.5.1")
    monkeypatch.setattr(sys, "path", [str(venv), str(hidden)])
    monkeypatch.delitem(sys.modules, "mmdet", raising=False)
    assert installed_versions("mmdet") == {"onedl-mmdetection": "3.5.1"}


IMPORT_WITHOUT = """
import importlib.abc, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
import mmvis_plugin
"""


@pytest.mark.parametrize(
    ("blocked", "remedy"),
    [
        ("mmcv._ext", "MMCV_WITH_OPS=1"),
        ("cv2", "pip install opencv-python-headless\n"),
    ],
)
def test_import_fails_with_the_message_alone(blocked, remedy):
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT.format(blocked=blocked)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "ImportError: mmvis_plugin cannot run in this environment" in result.stderr
    assert f"No module named {blocked!r}" in result.stderr
    assert remedy in result.stderr
    assert "During handling" not in result.stderr
