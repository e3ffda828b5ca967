from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from run_config import run_config

from mmvis_plugin import config as tools
from mmvis_plugin.config import ConfigError

ROOT = Path(__file__).resolve().parents[1]


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
    with pytest.raises(FileNotFoundError, match="did you mean maskprop_r18_shapes, "):
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
    for name in ("x.txt", "x.yaml", "x.json"):
        (tmp_path / name).touch()
        with pytest.raises(ConfigError, match=f"{name} is not a Python file"):
            tools.load_config(tmp_path / name)
    (tmp_path / "empty.py").touch()
    with pytest.raises(ConfigError, match="empty.py has no model"):
        tools.load_config(tmp_path / "empty.py")


def test_old_paths_work_with_a_warning(tmp_path):
    old = ROOT / "configs/maskprop/maskprop_r18_clip5_shapes.py"
    with pytest.warns(FutureWarning, match="has moved to .*ablations/maskprop_r18_clip5_shapes"):
        assert tools.load_config(old).model.reach == 2
    mine = tmp_path / "mine.py"
    mine.write_text(f"_base_ = '{old}'\nwork_dir = '{{{{ fileDirname }}}}/here'\n")
    (tmp_path / "heir.py").write_text("_base_ = './mine.py'\n")
    for name in ("mine.py", "heir.py"):
        with pytest.warns(FutureWarning, match="has moved to"):
            cfg = tools.load_config(tmp_path / name)
        assert cfg.model.reach == 2 and cfg.work_dir == f"{tmp_path}/here"
        assert cfg.filename == str(tmp_path / name)


def test_helpers_of_a_base_that_are_set_again_are_named(tmp_path):
    base = ROOT / "configs/maskprop/maskprop_r18_shapes.py"
    (tmp_path / "mine.py").write_text(
        f"_base_ = '{base}'\n_max_iters = 5\nmax_iters = 5\nmine = 3\n_data_root = 'x/'\n"
        "train_dataloader = dict(dataset=dict(data_root=_data_root))\n"
    )
    with pytest.warns(UserWarning) as warned:
        cfg = tools.load_config(tmp_path / "mine.py")
    messages = [str(w.message) for w in warned if "does nothing" in str(w.message)]
    assert len(messages) == 2
    for message, name in zip(messages, ("_max_iters", "max_iters"), strict=True):
        assert f"mine.py: {name} does nothing here" in message
        assert message.endswith("; set train_cfg.max_iters")
    assert not [name for name in cfg if name.startswith("_")]


def test_options_replace_settings_that_something_reads(cfg):
    tools.set_options(cfg, {"train_dataloader.batch_size": 7, "sync_bn": "torch"})
    assert cfg.train_dataloader.batch_size == 7 and cfg.sync_bn == "torch"
    with pytest.raises(ConfigError, match="option.*val_evaluator.5.type: .*Index 5"):
        tools.set_options(cfg, {"val_evaluator.5.type": 7})
    with pytest.raises(ConfigError, match="betas: nothing reads it"):
        tools.set_options(cfg, {"optim_wrapper.optimizer.betas": 1})


def test_options_set_numbers_inside_of_lists():
    mean = "model.data_preprocessor.mean"
    cfg = tools.load_config("maskprop_r18_shapes", {f"{mean}.0": 5, f"{mean}.2": 7})
    before = tools.load_config("maskprop_r18_shapes").model.data_preprocessor.mean
    assert cfg.model.data_preprocessor.mean == [5, before[1], 7]
    with pytest.raises(ConfigError, match="mean.3: .*mean has 3 entries, counted from 0"):
        tools.load_config("maskprop_r18_shapes", {f"{mean}.3": 1})


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("max_iters", "nothing reads max_iters; set train_cfg.max_iters"),
        ("data_root", "nothing reads data_root; set --data-root FOLDER"),
        ("launcher", "nothing reads launcher; set --launcher NAME"),
        ("vis_backends", "nothing reads vis_backends; set visualizer.vis_backends"),
        ("other", "nothing reads other"),
        ("zzz", "nothing reads zzz"),
        ("train_dataloder.x", "nothing reads train_dataloder; did you mean train_dataloader, .*"),
        (
            "train_pipeline.0.frame_range",
            "nothing reads train_pipeline; set train_dataloader.dataset.pipeline.0.frame_range",
        ),
        ("data.ann_file", r"nothing reads data; set .*train_dataloader\.dataset\.ann_file.*"),
        ("head.num_classes", r"nothing reads head; set model\.detector.*num_classes"),
        ("model..reach", "a name is missing beside a dot"),
        ("model.raech", "MaskProp takes no such argument; did you mean reach.*"),
        ("model.detector.backbone.dept", "ResNet takes no such argument; did you mean depth.*"),
        ("auto_scale_lr.enabled", "nothing reads it; did you mean enable.*"),
        ("randomness.sed", "nothing reads it; did you mean seed.*"),
        ("env_cfg.mp_cgf.opencv_num_threads", "nothing reads it; did you mean mp_cfg.*"),
        (
            "model.detector.test_cfg.rcnn.scor_thr",
            "model.detector.test_cfg.rcnn has no scor_thr; did you mean score_thr.*",
        ),
        ("default_hooks.loger.interval", "default_hooks has no loger; did you mean logger.*"),
        ("train_dataloader.batchsize", "nothing reads it; did you mean batch_size.*"),
    ],
)
def test_options_that_nothing_reads_are_refused(option, message):
    with pytest.raises(ConfigError, match=rf"^option {option}: {message}\??$"):
        tools.load_config("maskprop_r18_shapes", {option: 1})


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("train_cfg.max_iters", None, "None is not a whole number"),
        ("model", 5, "5 is not .*"),
        ("optim_wrapper.optimizer.type", "Adamm", "there is no Adamm; did you mean .*Adam.*"),
        ("default_hooks.checkpoint.interval", "abc", "'abc' is not a number, such as 250"),
        ("train_dataloader.batch_size", "abc", "'abc' is not .*"),
        ("model.reach", "far", "'far' is not a whole number"),
    ],
)
def test_values_of_a_wrong_type_are_refused(option, value, message):
    with pytest.raises(ConfigError, match=f"^option {option}: {message}$"):
        tools.load_config("maskprop_r18_shapes", {option: value})


@pytest.mark.parametrize(
    "option",
    [
        "auto_scale_lr.enable",
        "randomness.deterministic",
        "env_cfg.resource_limit",
        "train_dataloader.pin_memory",
        "model.detector.train_cfg.rpn.min_pos_iou",
        "model.detector.test_cfg.rpn.nms_post",
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


SETTINGS = Config.fromfile(ROOT / "configs/maskprop/maskprop_r18_shapes.py")
LEAVES = [
    f"{place}.{name}"
    for key in SETTINGS
    for place, node in tools.dicts_in(SETTINGS[key], key)
    for name in node
]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
)


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(
        st.one_of(
            st.sampled_from(LEAVES),
            st.sampled_from(LEAVES).map(lambda name: name + ".more"),
            st.sampled_from(LEAVES).map(lambda name: name[:-1]),
            st.from_regex(r"(model|train_cfg|[a-z]?)(\.[a-z0-9]{0,3}){0,3}", fullmatch=True),
        ),
        VALUES,
        min_size=1,
        max_size=2,
    )
)
def test_options_of_any_type_end_in_one_line_at_most(options):
    try:
        tools.set_options(SETTINGS.copy(), options)
    except ConfigError as error:
        assert "\n" not in str(error).strip()


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
