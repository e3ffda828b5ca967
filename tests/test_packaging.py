"""Set-up, the wheel's contents, and publishing weights."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from scripts import load_script

import mmvis_plugin
from mmvis_plugin.environment import LINES, TORCH
from mmvis_plugin.files import resource_root

ROOT = Path(__file__).resolve().parent.parent


setup_env = load_script("tools/setup_env.py")
publish_weights = load_script("tools/model_converters/publish_weights.py")


def pins(name):
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


class TestRequirements:
    @pytest.mark.parametrize(
        "path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.stem
    )
    @pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
    def test_every_python_gets_one_exact_version(self, path, python):
        applying = [
            pin
            for pin in pins(path.name)
            if pin.marker is None or pin.marker.evaluate({"python_version": python})
        ]
        names = [pin.name for pin in applying]
        assert {pin.name for pin in pins(path.name)} == set(names)
        assert len(names) == len(set(names))
        for pin in applying:
            assert [spec.operator for spec in pin.specifier] == ["=="]

    def test_import_check_names_the_pins(self):
        assert [str(pin) for pin in pins("torch.txt")] == [TORCH]
        for line, file in (
            ("maintained", "openmmlab.txt"),
            ("original", "openmmlab-original.txt"),
        ):
            packages = LINES[line].values()
            # mmdet imports imaug; it is installed like the packages and not checked like them.
            pinned = [pin for pin in pins(file) if pin.name != "imaug"]
            assert [f"{p.distribution}=={p.tested}" for p in packages] == list(map(str, pinned))
            assert all(
                pin.specifier.contains(p.tested) for p, pin in zip(packages, pinned, strict=True)
            )
            for package in packages:
                assert Requirement(f"x{package.supported}").specifier.contains(package.tested)

    def test_installing_replaces_nothing_of_the_environment(self):
        config = ConfigParser(interpolation=None)
        config.read(ROOT / "setup.cfg")
        wanted = config["options"]["install_requires"].split()
        named = {Requirement(line).name for line in wanted}
        lines = {package.distribution for line in LINES.values() for package in line.values()}
        opencv = {"opencv-python", "opencv-python-headless"}
        assert not named & ({"torch", "torchvision"} | lines | opencv)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the checkout (building writes beside the sources)."""
    source = tmp_path_factory.mktemp("source") / "checkout"
    source.mkdir()
    for name in ("mmvis_plugin", "configs", "weights"):
        shutil.copytree(
            ROOT / name,
            source / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "weights/made_for_this_test.pth").write_bytes(b"weights")
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
        + ["--disable-pip-version-check", "-w", str(out), str(source)],
        check=True,
    )
    (file,) = out.glob("*.whl")
    return file


class TestWheel:
    def test_carries_every_config_and_weight(self, wheel):
        names = set(zipfile.ZipFile(wheel).namelist())
        configs = [path.relative_to(ROOT) for path in ROOT.glob("configs/**/*.py")]
        weights = [path.relative_to(ROOT) for path in ROOT.glob("weights/*.pth")]
        assert configs
        for path in [*configs, *weights, "weights/made_for_this_test.pth"]:
            assert f"mmvis_plugin/{path}" in names

    def test_carries_every_module_and_nothing_else(self, wheel):
        names = set(zipfile.ZipFile(wheel).namelist())
        modules = {
            str(path.relative_to(ROOT))
            for path in (ROOT / "mmvis_plugin").rglob("*.py")
            if not {"configs", "weights"} & set(path.relative_to(ROOT).parts)
        }
        carried = {
            name
            for name in names
            if name.endswith(".py") and not name.startswith("mmvis_plugin/configs/")
        }
        assert carried == modules
        assert {name.split("/")[0] for name in names} == {
            "mmvis_plugin",
            f"mmvis_plugin-{mmvis_plugin.__version__}.dist-info",
        }

    def test_configs_find_their_weights_and_bases_once_installed(self, wheel, tmp_path):
        zipfile.ZipFile(wheel).extractall(tmp_path)
        code = (
            "from mmengine import Config\n"
            "import mmvis_plugin\n"
            "from mmvis_plugin.files import resource_root\n"
            "root = resource_root()\n"
            "assert (root / 'weights/made_for_this_test.pth').is_file()\n"
            "for file in root.glob('configs/[!_]*/**/*.py'):\n"
            "    Config.fromfile(file)\n"
            "print(root)\n"
        )
        # On PYTHONPATH the wheel comes before an editable install of the checkout.
        result = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        assert Path(result.stdout.splitlines()[-1]) == tmp_path / "mmvis_plugin"


def test_resource_root_of_a_checkout():
    assert (resource_root() / "configs").resolve() == ROOT / "configs"
    assert (resource_root() / "weights").resolve() == ROOT / "weights"


class TestSetupEnv:
    def test_ready_until_a_requirement_changes(self, tmp_path, monkeypatch):
        requirements = tmp_path / "requirements"
        shutil.copytree(ROOT / "requirements", requirements)
        monkeypatch.setattr(setup_env, "REQUIREMENTS", requirements)
        venv = tmp_path / "venv"
        (venv / "bin").mkdir(parents=True)
        key = setup_env.fingerprint(requirements / "openmmlab.txt")
        (venv / setup_env.STAMP).write_text(key)
        assert not setup_env.is_ready(venv, key), "no Python in it"
        (venv / "bin/python").touch()
        assert setup_env.is_ready(venv, key)
        other = setup_env.fingerprint(requirements / "openmmlab-original.txt")
        assert not setup_env.is_ready(venv, other)
        with (requirements / "runtime.txt").open("a") as file:
            file.write("extra==1.0\n")
        assert not setup_env.is_ready(venv, setup_env.fingerprint(requirements / "openmmlab.txt"))

    @staticmethod
    def toolkit(place, release, header=True):
        (place / "bin").mkdir(parents=True)
        (place / "include").mkdir()
        nvcc = place / "bin/nvcc"
        nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V1'\n")
        nvcc.chmod(0o755)
        if header:
            (place / "include/cuda_runtime.h").touch()
        return place

    def test_toolkit_has_headers_and_the_release_of_torch(self, tmp_path):
        script = self.toolkit(tmp_path / "script", "13.0", header=False)
        old = self.toolkit(tmp_path / "old", "12.8")
        fitting = self.toolkit(tmp_path / "fitting", "13.1")
        places = [tmp_path / "absent", script, old, fitting]
        assert setup_env.cuda_toolkit("13.0", places) == fitting
        assert setup_env.cuda_toolkit("12.4", places) == old
        assert setup_env.cuda_toolkit("11.8", places) is None
        assert setup_env.cuda_toolkit(None, places) is None

    def test_toolkit_whose_nvcc_does_not_run(self, tmp_path):
        place = self.toolkit(tmp_path / "stub", "13.0")
        (place / "bin/nvcc").write_text("#!/bin/sh\nexec /not/there/nvcc\n")
        assert setup_env.cuda_toolkit("13.0", [place]) is None

    def test_cuda_torch_is_kept_only_where_it_can_be_built_for(self, tmp_path, monkeypatch):
        place = self.toolkit(tmp_path / "cuda", "13.0")
        monkeypatch.setattr(setup_env, "toolkit_places", lambda: [place])
        facts = {"version": "2.11.0", "cuda": "13.0", "available": True, "site": "/x"}
        for changed, kept in (
            ({}, True),
            ({"available": False}, False),
            ({"cuda": None, "available": False}, False),
            ({"cuda": "12.8"}, False),
        ):
            monkeypatch.setattr(
                setup_env, "torch_facts", lambda python, found=changed: {**facts, **found}
            )
            assert bool(setup_env.cuda_torch(Path("python"))) == kept
        monkeypatch.setattr(setup_env, "torch_facts", lambda python: None)
        assert setup_env.cuda_torch(Path("python")) is None

    def test_build_environment(self, tmp_path):
        cuda = setup_env.build_environment(tmp_path)
        assert cuda["FORCE_CUDA"] == cuda["MMCV_WITH_OPS"] == "1"
        assert cuda["CUDA_HOME"] == str(tmp_path)
        assert "CUDA_VISIBLE_DEVICES" not in cuda
        cpu = setup_env.build_environment(None)
        assert (cpu["MMCV_WITH_OPS"], cpu["FORCE_CUDA"]) == ("1", "0")
        assert cpu["CUDA_VISIBLE_DEVICES"] == ""
        assert int(cpu["MAX_JOBS"]) >= 1

    def test_torch_facts_of_this_python(self, tmp_path):
        assert setup_env.torch_facts(Path(sys.executable))["version"] == torch.__version__
        empty = tmp_path / "python"
        empty.write_text("#!/bin/sh\nexit 1\n")
        empty.chmod(0o755)
        assert setup_env.torch_facts(empty) is None

    def test_wrong_python_is_named(self, monkeypatch):
        monkeypatch.setattr(setup_env.sys, "version_info", (3, 13, 0))
        with pytest.raises(setup_env.SetupError, match=r"Python 3\.13; 3\.10, 3\.11 or 3\.12"):
            setup_env.check_machine()

    def test_other_peoples_directory_is_left_alone(self, tmp_path):
        (tmp_path / "thesis.tex").touch()
        with pytest.raises(setup_env.SetupError, match="not a virtual environment"):
            setup_env.make_venv(tmp_path)
        assert (tmp_path / "thesis.tex").exists()

    def test_failed_step_stops_the_set_up(self, capfd):
        command = ["-c", "import sys; print('the reason'); sys.exit(3)"]
        with pytest.raises(setup_env.SetupError, match="a step failed, see above"):
            setup_env.run(Path(sys.executable), "a step", *command)
        assert capfd.readouterr().out == "the reason\n"


class TestMakeWeights:
    PYTHON = """#!/bin/sh
    case $1 in
    *train.py)
        echo $2 >> trained
        [ "$2" != "$(cat fails)" ] || exit 1
        mkdir -p $4; echo checkpoint > $4/last_checkpoint;;
    *publish_weights.py) mkdir -p weights; echo "$@" > $3;;
    esac
    """

    @pytest.fixture
    def make(self, tmp_path):
        """Function: `make weights`, in which training fails at a config; returns what it trains."""
        shutil.copy(ROOT / "Makefile", tmp_path)
        python = tmp_path / "bin/python"
        python.parent.mkdir()
        python.write_text(textwrap.dedent(self.PYTHON))
        python.chmod(0o755)
        data = [f"-odata/{name}/valid.json" for name in ("shapes_vis", "shapes_vis_large")]

        def run(fails=""):
            (tmp_path / "fails").write_text(fails)
            (tmp_path / "trained").write_text("")
            command = ["make", "weights", "-osetup", *data, "VENV=."]
            env = dict(os.environ, MAKEFLAGS="")  # the tests may be run by make themselves
            done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
            assert (done.returncode == 0) == (fails == ""), done.stderr
            return (tmp_path / "trained").read_text().split()

        return run

    def test_after_an_interruption_it_goes_on(self, make, tmp_path):
        every = make()
        assert len(every) == len(set(every)) == 10
        assert make(fails=every[3]) == every[:4]
        assert make(fails=every[6]) == every[3:7]
        # A file that is not what was published is made again.
        (tmp_path / "weights" / f"{Path(every[1]).stem}.pth").write_text("an older one")
        assert make() == [every[1], *every[6:]]
        assert make() == every


class TestPublishWeights:
    @pytest.fixture
    def checkpoint(self, tmp_path):
        torch.manual_seed(0)
        path = tmp_path / "iter_30.pth"
        state = {"head.weight": torch.randn(8, 4), "bn.num_batches_tracked": torch.tensor(7)}
        meta = {"iter": 30, "seed": 5, "dataset_meta": {"classes": ("disc", "star")}, "cfg": "x"}
        torch.save({"meta": meta, "state_dict": state, "optimizer": {"state": {}}}, path)
        return path

    def publish(self, src, dst, dtype=torch.float16, max_bytes=10**6):
        return publish_weights.publish(src, dst, dtype, max_bytes, {"command": "train"})

    def test_keeps_weights_and_classes_in_half_precision(self, checkpoint, tmp_path):
        dst = tmp_path / "weights/small.pth"
        record = self.publish(checkpoint, dst)
        before = torch.load(checkpoint, weights_only=True)
        after = torch.load(dst, weights_only=True)
        assert after.keys() == {"meta", "state_dict"}
        assert after["meta"] == {"dataset_meta": {"classes": ("disc", "star")}}
        assert after["state_dict"]["head.weight"].dtype == torch.float16
        assert after["state_dict"]["bn.num_batches_tracked"].dtype == torch.int64
        for name, tensor in before["state_dict"].items():
            torch.testing.assert_close(
                after["state_dict"][name].to(tensor.dtype), tensor, rtol=1e-3, atol=1e-6
            )
        assert json.loads(dst.with_suffix(".json").read_text()) == record
        assert record["sha256"] == hashlib.sha256(dst.read_bytes()).hexdigest()
        assert (record["seed"], record["iterations"], record["command"]) == (5, 30, "train")
        assert sorted(path.name for path in dst.parent.iterdir()) == ["small.json", "small.pth"]

    def test_slices_do_not_carry_their_storage(self, checkpoint, tmp_path):
        state = {"slice": torch.zeros(1000, 1000)[:2, :2], "count": torch.arange(10**6)[:1]}
        torch.save({"meta": {}, "state_dict": state}, checkpoint)
        assert self.publish(checkpoint, tmp_path / "small.pth")["bytes"] < 5000

    def test_value_out_of_range_is_refused(self, checkpoint, tmp_path):
        torch.save({"meta": {}, "state_dict": {"fc.bias": torch.tensor([1e6])}}, checkpoint)
        with pytest.raises(ValueError, match=r"fc\.bias .*float16 \(largest: 1e\+06\)"):
            self.publish(checkpoint, tmp_path / "small.pth")
        self.publish(checkpoint, tmp_path / "small.pth", dtype=torch.bfloat16)

    def test_too_large_leaves_the_old_file(self, checkpoint, tmp_path):
        dst = tmp_path / "out/small.pth"
        dst.parent.mkdir()
        dst.write_bytes(b"old")
        with pytest.raises(ValueError, match="over 0.00 MB"):
            self.publish(checkpoint, dst, max_bytes=100)
        assert dst.read_bytes() == b"old"
        assert list(dst.parent.iterdir()) == [dst]

    def test_other_files_are_refused(self, checkpoint, tmp_path):
        torch.save({"model": {}}, checkpoint)
        with pytest.raises(ValueError, match="no state_dict and no meta"):
            self.publish(checkpoint, tmp_path / "small.pth")
        for state, meta, message in (
            ({"a": [1.0]}, {}, "'a' of its state_dict is a list, not a tensor under"),
            ({7: torch.ones(1)}, {}, "7 of its state_dict is a Tensor"),
            ({}, {"iter": "x"}, "iter in its meta is not of type int"),
            ({}, {"cfg": 5}, "cfg in its meta is not of type str"),
        ):
            torch.save({"state_dict": state, "meta": meta}, checkpoint)
            with pytest.raises(ValueError, match=f"^{checkpoint}: {message}"):
                self.publish(checkpoint, tmp_path / "small.pth")
        torch.save({"state_dict": {}, "meta": {"cfg": "model = dict("}}, checkpoint)
        assert self.publish(checkpoint, tmp_path / "small.pth")["file"] == "small.pth"

    def test_metrics_of_the_newest_test_run(self, tmp_path):
        for stamp, ap in (("20250101_000000", 0.1), ("20250102_000000", 0.4)):
            (tmp_path / stamp / "vis_data").mkdir(parents=True)
            metrics = {"ytvis/AP": ap, "time": 1.0, "data_time": 0.1}
            (tmp_path / stamp / f"{stamp}.json").write_text(json.dumps(metrics))
            (tmp_path / stamp / "other.json").write_text("{}")
        assert publish_weights.read_metrics(tmp_path) == {"ytvis/AP": 0.4}
        with pytest.raises(FileNotFoundError, match="no TIMESTAMP/TIMESTAMP.json"):
            publish_weights.read_metrics(tmp_path / "20250101_000000")

    @pytest.mark.parametrize(
        ("src", "metrics", "message"),
        [
            ("none.pth", '{"ytvis/AP": 0.4}', r"error: .*none\.pth"),
            ("iter_30.pth", "{}", r"error: .*metrics\.json holds no metrics"),
            ("iter_30.pth", '{"time": 1.0}', r"error: .*metrics\.json holds no metrics"),
            ("iter_30.pth", "AP 0.4", r"error: .*metrics\.json is not JSON"),
            ("metrics.json", '{"ytvis/AP": 0.4}', r"error: .*metrics\.json"),
        ],
    )
    def test_bad_input_ends_in_one_line(
        self, checkpoint, tmp_path, monkeypatch, capsys, src, metrics, message
    ):
        (tmp_path / "metrics.json").write_text(metrics)
        arguments = [tmp_path / src, tmp_path / "small.pth", "--command", "train", "--seconds", 1]
        arguments += ["--metrics", tmp_path / "metrics.json"]
        monkeypatch.setattr(sys, "argv", ["publish_weights.py", *map(str, arguments)])
        with pytest.raises(SystemExit):
            publish_weights.run(publish_weights.main)
        said = capsys.readouterr().err
        assert re.match(message, said) and said.count("\n") == 1
        assert not (tmp_path / "small.pth").exists()
