"""What a run reads and says before its first iteration."""

import json
import sys

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmvis_plugin.apis import build_video_segmentor
from mmvis_plugin.config import ConfigError, remove_pretrained

SMALL = [f"{name}_dataloader.num_workers=0" for name in ("train", "val", "test")]


@pytest.fixture
def random_maskprop(tmp_path):
    """A checkpoint of the shapes MaskProp with random weights."""
    init_default_scope("mmdet")
    cfg = Config.fromfile("configs/maskprop/maskprop_r18_shapes.py")
    remove_pretrained(cfg)
    torch.manual_seed(0)
    path = tmp_path / "random.pth"
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), path)
    return path


def test_a_test_opens_its_checkpoint_once(tool, shapes, random_maskprop, tmp_path, monkeypatch):
    opened, load = [], torch.load

    def counting(file, *args, **kwargs):
        opened.append(str(file))
        return load(file, *args, **kwargs)

    monkeypatch.setattr(torch, "load", counting)
    options = ["--cfg-options", f"experiment_name={tmp_path}", *SMALL]
    places = ["--data-root", shapes, "--work-dir", tmp_path]
    tool("test", "maskprop_r18_shapes", random_maskprop, *places, *options)
    assert opened == [str(random_maskprop)]


def test_the_log_before_the_first_iteration_is_a_screen(finish, shapes, tmp_path):
    """It names weights, data, parameters, and the first setting that was changed."""
    finish(
        *(sys.executable, "tools/train.py", "maskprop_r18_shapes", "--data-root", shapes),
        *("--work-dir", tmp_path / "run", "--cfg-options", *SMALL, "train_cfg.max_iters=1"),
        *("train_cfg.val_begin=100", "default_hooks.logger.interval=1"),
        *(
            "train_dataloader.batch_size=1",
            "model.detector.roi_head.bbox_head.reg_class_agnostic=1",
        ),
    )
    lines = (tmp_path / "process0.txt").read_text().splitlines()
    before = lines[: next(i for i, line in enumerate(lines) if "Iter(train)" in line)]
    text = "\n".join(before)
    assert len(before) <= 24, text
    assert "train_cfg.max_iters is 1 instead of" in text or "more settings differ" in text
    assert "PyTorch threads: 1, set by OMP_NUM_THREADS" in text
    assert "Training data: 2 videos" in text and "6 classes (striped_circle" in text
    assert "Loaded 138 of 140 weights of detector from" in text
    assert "2 parameters have another shape than in the weights" in text
    assert "million at lr 0.0001" in text and "million at lr 0.001" in text
    (log,) = (tmp_path / "run").glob("*/*.log")
    assert len(log.read_text().splitlines()) <= 30
    assert "PyTorch" in (log.parent / "environment.txt").read_text()
    config = Config.fromfile(tmp_path / "run/maskprop_r18_shapes.py", import_custom_modules=False)
    assert config.train_cfg.max_iters == 1
    entry = json.loads((log.parent / "vis_data/scalars.json").read_text().splitlines()[0])
    assert entry["step"] == 1


@pytest.mark.parametrize("way", ["load_from", "init_cfg"])
def test_weights_of_a_detector_find_their_place(tool, shapes, tmp_path, way):
    """The setting that the message names is the one that takes them."""
    weights = "weights/mask_rcnn_r18_shapes.pth"
    common = ["--data-root", shapes, "--work-dir", tmp_path / way]
    options = ["--cfg-options", f"experiment_name={tmp_path}/{way}", *SMALL]
    length = ["train_cfg.max_iters=1", "train_cfg.val_begin=100", "train_dataloader.batch_size=1"]
    command = ["train", "maskprop_r18_shapes", *common, *options, *length]
    if way == "load_from":
        message = "fits nothing of MaskProp: .* of them fit detector: use --cfg-options load_from"
        with pytest.raises(SystemExit, match=message):
            tool(*command, f"load_from={weights}")
    else:
        setting = "model.detector.init_cfg"
        tool(
            *command,
            "load_from=None",
            f"{setting}.type=Pretrained",
            f"{setting}.checkpoint={weights}",
        )
        log = next((tmp_path / way).glob("*/*.log")).read_text()
        assert f"Loaded 140 of 140 weights of detector from {weights}" in log


@pytest.mark.parametrize("names", [("cat",), tuple("abcdefg")])
def test_a_model_needs_a_name_for_each_class(tmp_path, names):
    """One fewer was an IndexError while drawing, and one more wrong names."""
    weights = torch.load("weights/maskprop_r18_shapes.pth", weights_only=True)
    torch.save(dict(weights, meta=dict(dataset_meta=dict(classes=names))), tmp_path / "names.pth")
    message = rf"names\.pth names {len(names)} class.* but .*\.num_classes is 6"
    with pytest.raises(ConfigError, match=message):
        build_video_segmentor("maskprop_r18_shapes", tmp_path / "names.pth", device="cpu")
