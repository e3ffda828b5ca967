"""tools/train.py and tools/test.py: what they refuse, and how they say so."""

import os

import pytest
import torch

ONE_ITERATION = "train_cfg = dict(max_iters=1)\n"
SAVED = dict(meta=dict(seed=0), state_dict={}, message_hub={}, optimizer={})


class RunsOnLoad:
    """Pickles as a call that writes a marker file when it is loaded."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("way", ["resume", "auto", "load_from", "init_cfg", "test"])
def test_malicious_checkpoint_does_not_run(toy_config, tool, tmp_path, way):
    marker, path = tmp_path / "marker", tmp_path / "iter_1.pth"
    torch.save(dict(SAVED, extra=RunsOnLoad(marker)), path)
    (tmp_path / "last_checkpoint").write_text(str(path))
    extra = {
        "load_from": f"load_from = '{path}'\n",
        "init_cfg": f"model['init_cfg'] = dict(type='Pretrained', checkpoint='{path}')\n",
    }.get(way, "")
    config = toy_config(ONE_ITERATION + extra)
    options = {
        "resume": ["train", config, "--resume", path],
        "auto": ["train", config, "--resume"],
        "test": ["test", config, path],
    }.get(way, ["train", config])
    with pytest.raises(SystemExit, match=r"^error: .*iter_1\.pth was not loaded.*system"):
        tool(*options, "--work-dir", tmp_path)
    assert not marker.exists()


def test_no_pretrained_trains_without_the_weights(toy_config, train_here, tool, tmp_path, capsys):
    weights = dict(type="Pretrained", checkpoint="https://127.0.0.1:9/start.pth")
    config = toy_config(ONE_ITERATION + f"model['init_cfg'] = {weights}\nload_from = 'none.pth'\n")
    with pytest.raises(SystemExit, match="https://127.0.0.1:9/start.pth.*--no-pretrained"):
        tool("train", config, "--work-dir", tmp_path)
    capsys.readouterr()
    train_here(config, tmp_path / "run", "--no-pretrained")
    assert (tmp_path / "run/iter_1.pth").exists()
    output = "".join(capsys.readouterr())
    assert "not loading model.init_cfg = https://127.0.0.1:9/start.pth" in output
    assert "not loading load_from = none.pth" in output


@pytest.mark.parametrize("name", ["train", "test"])
def test_errors_are_one_line(toy_config, tool, tmp_path, name):
    checkpoint = tmp_path / "weights.pth"
    torch.save(SAVED, checkpoint)
    arguments = [checkpoint] if name == "test" else []
    with pytest.raises(SystemExit, match="^error: The config file none.py does not exist.$"):
        tool(name, "none.py", *arguments)
    loader = "train_dataloader" if name == "train" else "test_dataloader"
    missing = f"{loader}['dataset'].update(data_root='{tmp_path}/shapes/', ann_file='train.json')\n"
    with pytest.raises(SystemExit, match="^error: .*shapes/train.json.*make_shapes_vis.py"):
        tool(name, toy_config(ONE_ITERATION + missing), *arguments)
    with pytest.raises(SystemExit, match="^error: --launcher slurm"):
        tool(name, toy_config(), *arguments, "--launcher", "slurm", "--work-dir", tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_amp_without_a_gpu(toy_config, tool, tmp_path):
    with pytest.raises(SystemExit, match="^error: --amp .* GPU"):
        tool("train", toy_config(), "--amp", "--work-dir", tmp_path)


def test_results_need_a_json_name_and_a_video_metric(toy_config, tool, tmp_path, capsys):
    checkpoint = tmp_path / "weights.pth"
    torch.save(SAVED, checkpoint)
    with pytest.raises(SystemExit):
        tool("test", toy_config(), checkpoint, "--out", "results.pkl")
    assert "--out must end in .json" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="^error: --out .*YTVISMetric"):
        tool("test", toy_config(), checkpoint, "--out", "results.json")


@pytest.mark.parametrize("name", ["train", "test"])
def test_help_has_an_example(tool, capsys, name):
    with pytest.raises(SystemExit) as stop:
        tool(name, "--help")
    assert stop.value.code == 0
    assert f"python tools/{name}.py configs/" in capsys.readouterr().out
