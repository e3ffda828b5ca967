import pytest
import torch
from mmengine.config import Config
from run_config import run_config

from mmvis_plugin import config as tools
from mmvis_plugin.config import ConfigError


@pytest.fixture
def cfg():
    return run_config()


def test_data_root_moves_every_dataset_and_evaluator(cfg):
    tools.set_data_root(cfg, ["/new"])
    roots = {name: d.data_root for name, d in tools.dataset_configs(cfg)}
    assert roots == {
        "train_dataloader.dataset.datasets.0": "/new/",
        "train_dataloader.dataset.datasets.1.dataset": "/new/",
        "val_dataloader.dataset": "/new/",
    }
    assert cfg.val_evaluator[0].ann_file == "/new/valid.json"
    assert cfg.val_dataloader.dataset.ann_file == "train.json"


def test_several_data_roots_move_one_by_one(cfg):
    cfg.train_dataloader.dataset.datasets[0].data_root = "data/shapes_vis_large"
    with pytest.raises(ConfigError, match="--data-root data/shapes_vis_large/=DIR"):
        tools.set_data_root(cfg, ["/new"])
    tools.set_data_root(cfg, ["data/shapes_vis=/a"])
    roots = [d.data_root for _, d in tools.dataset_configs(cfg)]
    assert roots == ["data/shapes_vis_large", "/a/", "/a/"]
    with pytest.raises(ConfigError, match="data/coco/.*there are: data/shapes_vis_large/, /a/"):
        tools.set_data_root(cfg, ["data/coco=/b"])
    with pytest.raises(ConfigError, match="OLD=NEW"):
        tools.set_data_root(cfg, ["/a=/b", "/c"])


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_persist_only_where_there_are_any(workers):
    cfg = tools.load_config("maskprop_r18_shapes", {"test_dataloader.num_workers": workers})
    assert cfg.test_dataloader.persistent_workers == (workers > 0)
    assert cfg.val_dataloader.persistent_workers
    for loader in (cfg.test_dataloader, cfg.val_dataloader):
        options = {name: loader[name] for name in ("num_workers", "persistent_workers")}
        torch.utils.data.DataLoader([0], **options)  # a combination that PyTorch takes


def test_no_pretrained_removes_weights_at_any_depth(cfg):
    removed = tools.remove_pretrained(cfg)
    assert removed == {
        "model.init_cfg": "whole.pth",
        "model.backbone.init_cfg.1": "https://host/r50.pth",
        "load_from": "start.pth",
    }
    assert "init_cfg" not in cfg.model
    assert cfg.model.backbone.init_cfg == [dict(type="Kaiming", layer="Conv2d")]
    assert cfg.model.heads[0].init_cfg.type == "Normal"
    assert cfg.load_from is None
    assert tools.pretrained_weights(cfg) == {}


# --- reading ------------------------------------------------------------------------------------


def test_config_that_does_not_exist():
    with pytest.raises(ConfigError, match="configs/nothing.py: no such config file"):
        tools.load_config("configs/nothing.py")
    with pytest.raises(FileNotFoundError, match="close to it: maskprop_r18_shapes, "):
        tools.load_config("maskprop_r18_shape")
    # A name with a folder is a path.
    with pytest.raises(ConfigError, match="no such config file"):
        tools.load_config("x/maskprop_r18_shapes")


@pytest.mark.parametrize("name", ["maskprop_r18_shapes", "maskprop_r18_shapes.py"])
def test_configs_of_the_package_go_by_their_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tools.load_config(name).model.type == "MaskProp"
    (tmp_path / name).write_text("model = dict(type='Mine')\n")  # a file comes first
    if name.endswith(".py"):
        assert tools.load_config(name).model.type == "Mine"


def test_shipped_configs_are_whole_ones():
    assert "default_runtime" not in tools.shipped_configs()
    assert "stmask_r50-dcn_fca-ada_ovis" in tools.shipped_configs()


@pytest.mark.parametrize(
    "text, message",
    [
        ("a = 1\nmodel = dict(\n", r"line 2: '\(' was never closed$"),
        ("_base_ = './base.py'\n", r"line 3 of one of its bases: invalid syntax$"),
        ("a = 1\nmodel = b\n", r"mine.py, line 2: NameError: name 'b' is not defined$"),
        ("_base_ = './gone.py'\n", "FileNotFoundError: .*gone.py"),
        ("_base_ = './good.py'\na = _base_.b\n", "mine.py, line 2: AttributeError: .* 'b'$"),
        ("_base_ = './good.py'\na = {{_base_.b}}\n", "KeyError: 'b'$"),
        ("_base_ = './late.py'\n", "late.py, line 2: ZeroDivisionError: division by zero$"),
        (
            "custom_imports = dict(imports=['no_module'], allow_failed_imports=False)\n",
            "ImportError: Failed to import no_module$",
        ),
    ],
)
def test_mistakes_in_a_config_are_named(tmp_path, text, message):
    (tmp_path / "base.py").write_text("a = 1\nb = 2\nc = = 3\n")
    (tmp_path / "good.py").write_text("c = 3\n")
    (tmp_path / "late.py").write_text("a = 1\nb = a / 0\n")
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.py cannot be read as a config: .*" + message):
        tools.load_config(tmp_path / "mine.py")


def test_checkpoint_in_the_place_of_the_config(tmp_path):
    (tmp_path / "x.pth").touch()
    with pytest.raises(ConfigError, match=r"x\.pth is a checkpoint, .* CONFIG CHECKPOINT$"):
        tools.load_config(tmp_path / "x.pth")
    (tmp_path / "x.txt").touch()
    with pytest.raises(ConfigError, match=r"x\.txt cannot be read as a config: .*Only py"):
        tools.load_config(tmp_path / "x.txt")


def test_options_replace_settings_that_something_reads(cfg):
    tools.set_options(cfg, {"other": 1, "train_dataloader.batch_size": 7, "sync_bn": "torch"})
    assert cfg.other == 1 and cfg.train_dataloader.batch_size == 7 and cfg.sync_bn == "torch"
    with pytest.raises(ConfigError, match="train_dataloder.x: .*close to it: train_dataloader, "):
        tools.set_options(cfg, {"train_dataloder.x": 7})
    with pytest.raises(ConfigError, match="has no zzz, and MMEngine knows none$"):
        tools.set_options(cfg, {"zzz": 7})
    with pytest.raises(ConfigError, match="option.*val_evaluator.5.type: .*Index 5"):
        tools.set_options(cfg, {"val_evaluator.5.type": 7})


@pytest.mark.parametrize(
    ("option", "close"),
    [
        ("auto_scale_lr.enabled", "auto_scale_lr has no enabled; close to it: enable"),
        ("randomness.sed", "randomness has no sed; close to it: seed"),
        ("env_cfg.mp_cgf.opencv_num_threads", "env_cfg has no mp_cgf; close to it: mp_cfg"),
        (
            "model.detector.test_cfg.rcnn.scor_thr",
            "model.detector.test_cfg.rcnn has no scor_thr; close to it: .*",
        ),
        ("default_hooks.loger.interval", "default_hooks has no loger; close to it: logger"),
        (
            "train_dataloader.batchsize",
            "train_dataloader has no batchsize; close to it: batch_size",
        ),
    ],
)
def test_misspelled_options_are_refused_where_no_class_would(option, close):
    with pytest.raises(ConfigError, match=f"^option {option}: {close}$"):
        tools.load_config("maskprop_r18_shapes", {option: 1})


@pytest.mark.parametrize(
    "option",
    [
        "auto_scale_lr.enable",
        "randomness.deterministic",
        "env_cfg.resource_limit",
        "train_dataloader.pin_memory",
        "train_cfg.type",
        "train_cfg.max_epochs",
        "train_cfg.dynamic_intervals",
        "model.detector.train_cfg.rpn.min_pos_iou",
        "model.detector.test_cfg.rpn.nms_post",
        "model.detector.roi_head.nosuch",  # for its class to refuse
        "param_scheduler.1.end",
        "default_hooks.mine.type",
        "train_dataloader.dataset.data_prefix.img",
        "train_dataloader.dataset.metainfo.classes",
        "optim_wrapper.paramwise_cfg.custom_keys.neck.lr_mult",
        "optim_wrapper.paramwise_cfg.bias_decay_mult",
        "optim_wrapper.clip_grad.error_if_nonfinite",
    ],
)
def test_new_options_pass_where_dicts_are_open(option):
    tools.load_config("maskprop_r18_shapes", {option: 1})


# --- building -----------------------------------------------------------------------------------


class Parent:
    def __init__(self, depth=1):
        self.depth = depth


class Child(Parent):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)


def test_arguments_that_a_class_does_not_take_are_named():
    parts = dict(neck=dict(type="Child", dept=3), head=dict(type="Other"))
    cfg = Config(dict(model=dict(type="M", **parts)))
    message = "^model.neck.dept: Child takes no such argument$"
    with pytest.raises(ConfigError, match=message), tools.naming_settings(cfg):
        Child(dept=3)
    # Of several the one whose type the error names.
    cfg.model.head = dict(type=Parent, dept=3)
    message = "^model.head.dept: Parent takes no such argument$"
    with pytest.raises(ConfigError, match=message), tools.naming_settings(cfg):
        Parent(dept=3)


@pytest.mark.parametrize(
    "mistake", [lambda: Parent(width=3), lambda: len(3), lambda: sorted([], depth=3), lambda: {}[1]]
)
def test_mistakes_of_a_program_stay_what_they_are(mistake):
    cfg = Config(dict(model=dict(type="Parent", depth=3)))
    with pytest.raises((KeyError, TypeError)) as error, tools.naming_settings(cfg):
        mistake()
    assert not isinstance(error.value, ConfigError)
