import os

import pytest
import torch
from mmengine.config import Config

from mmvis_plugin import config as tools
from mmvis_plugin.checkpoint import CheckpointError
from mmvis_plugin.config import ConfigError


def dataset(root="data/shapes_vis/", **kwargs):
    return dict(type="YTVISDataset", data_root=root, ann_file="train.json", **kwargs)


@pytest.fixture
def cfg():
    wrapped = dict(type="ConcatDataset", datasets=[dataset(), dict(type="R", dataset=dataset())])
    return Config(
        dict(
            train_dataloader=dict(dataset=wrapped),
            val_dataloader=dict(dataset=dataset(data_prefix=dict(img_path="valid/JPEGImages/"))),
            test_dataloader=None,
            val_evaluator=[dict(type="YTVISMetric", ann_file="data/shapes_vis/valid.json")],
            other="data/shapes_vis/",
            model=dict(
                type="M",
                init_cfg=dict(type="Pretrained", checkpoint="whole.pth"),
                backbone=dict(
                    init_cfg=[
                        dict(type="Kaiming", layer="Conv2d"),
                        dict(type="Pretrained", checkpoint="https://host/r50.pth"),
                    ]
                ),
                heads=[dict(init_cfg=dict(type="Normal", std=0.1))],
            ),
            load_from="start.pth",
        )
    )


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


def test_missing_data_tells_what_makes_it(cfg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"make_shapes_vis.py --out data/shapes_vis\. If the data is elsewhere"
    ):
        tools.require_data(cfg, ["train_dataloader"])
    large = Config(dict(train_dataloader=dict(dataset=dataset("data/shapes_vis_large/"))))
    with pytest.raises(ConfigError, match=r"--out data/shapes_vis_large --videos 1200 60\. If"):
        tools.require_data(large, ["train_dataloader"])
    root = tmp_path / "ytvis"
    tools.set_data_root(cfg, [str(root)])
    cfg.val_dataloader.dataset.ann_file = "train_sub-val.json"
    with pytest.raises(ConfigError, match="docs/datasets.md.*--data-root"):
        tools.require_data(cfg, ["val_dataloader"])
    (root / "valid/JPEGImages").mkdir(parents=True)
    (root / "train.json").touch()
    with pytest.raises(ConfigError, match=f"split_ytvis.py {root}/train.json"):
        tools.require_data(cfg, ["val_dataloader"])
    (root / "train_sub-val.json").touch()
    tools.require_data(cfg, ["train_dataloader", "val_dataloader", "test_dataloader"])
    (root / "valid/JPEGImages").rmdir()
    with pytest.raises(ConfigError, match="valid/JPEGImages/, which val_dataloader.dataset needs"):
        tools.require_data(cfg, ["val_dataloader"])


@pytest.mark.parametrize(
    ("missing", "there", "advice"),
    [
        ("train.json", "", "make_shapes_vis.py --out {} --categories ytvis19"),
        ("train_sub-train.json", "", "make_shapes_vis.py --out {} --categories ytvis19"),
        ("train_sub-train.json", "train.json", "split_ytvis.py {}/train.json"),
        ("valid_stride4.json", "valid.json", "lower_frame_rate.py {}/valid.json --stride 4"),
        ("train_sub-val_stride2.json", "train.json", "split_ytvis.py {}/train.json"),
        (
            "train_sub-val_stride2.json",
            "train_sub-val.json",
            "lower_frame_rate.py {}/train_sub-val.json --stride 2",
        ),
        ("mine.json", "train.json", None),
    ],
)
def test_missing_data_of_shapes_is_told_by_the_file(tmp_path, missing, there, advice):
    root = tmp_path / "shapes_ytvis19"
    if there:
        root.mkdir()
        (root / there).touch()
    loader = dict(dataset=dict(data_root=f"{root}/", ann_file=missing))
    with pytest.raises(ConfigError) as error:
        tools.require_data(Config(dict(val_dataloader=loader)), ["val_dataloader"])
    command = f"Create it: python tools/dataset_converters/{advice}. If" if advice else "docs/data"
    assert f"cannot be found. {command.format(root)}" in str(error.value)


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
    tools.check_pretrained(cfg)


def test_weights_that_are_missing_or_unreachable_name_the_way_out(cfg, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"model\.init_cfg: .*whole.pth .*--no-pretrained"):
        tools.check_pretrained(cfg)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = "http://127.0.0.1:9/r50.pth"
    cfg.model = dict(backbone=dict(init_cfg=dict(type="Pretrained", checkpoint=url)))
    with pytest.raises(CheckpointError) as error:
        tools.check_pretrained(cfg)
    for part in ("model.backbone.init_cfg", url, f"{tmp_path}/hub/checkpoints", "--no-pretrained"):
        assert part in str(error.value)


def test_shipped_weights_that_are_missing_name_what_makes_them(cfg, tmp_path):
    cfg.model, cfg.load_from = {}, f"{tmp_path}/configs/../weights/seqformer_r18_image_shapes.pth"
    with pytest.raises(CheckpointError) as error:
        tools.check_pretrained(cfg)
    assert str(error.value) == (
        f"load_from: The checkpoint {tmp_path}/weights/seqformer_r18_image_shapes.pth does not "
        "exist. It comes from `tools/train.py configs/mssts/seqformer_r18_image_shapes.py` "
        "(`make weights` makes all). To start from random weights: --no-pretrained"
    )
    cfg.load_from = "weights/other.pth"
    with pytest.raises(CheckpointError, match="other.pth does not exist. To start from random"):
        tools.check_pretrained(cfg)


def test_model_zoo_names_are_left_to_mmengine():
    init_cfg = dict(type="Pretrained", checkpoint="torchvision://resnet50")
    tools.check_pretrained(Config(dict(model=dict(init_cfg=init_cfg))))


def test_resume_needs_the_state_of_a_training_run(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(dict(state_dict={}), path)
    with pytest.raises(CheckpointError, match=f"load_from={path}"):
        tools.set_resume(Config(dict(work_dir=str(tmp_path))), str(path))


def test_resume_takes_the_seed_of_the_checkpoint(tmp_path):
    path = tmp_path / "iter_5.pth"
    torch.save(dict(meta=dict(seed=7), optimizer={}, message_hub={}), path)
    (tmp_path / "last_checkpoint").write_text(str(path))
    randomness = dict(seed=0, deterministic=True)
    cfg = Config(dict(model={}, work_dir=str(tmp_path), randomness=randomness))
    tools.set_resume(cfg, "auto")
    assert cfg.resume and cfg.load_from == str(path)
    assert cfg.randomness == dict(seed=7, deterministic=True)


def test_resume_does_without_the_weights_of_the_start(cfg, tmp_path):
    path = tmp_path / "iter_5.pth"
    cfg.work_dir = str(tmp_path)
    tools.set_resume(cfg, "auto")  # nothing to resume: it starts with them
    assert len(tools.pretrained_weights(cfg)) == 3
    torch.save(dict(meta={}, optimizer={}, message_hub={}), path)
    tools.set_resume(cfg, str(path))
    assert tools.pretrained_weights(cfg) == dict(load_from=str(path))
    tools.check_pretrained(cfg)


def test_latest_checkpoint(tmp_path):
    assert tools.latest_checkpoint(tmp_path) is None
    for age, name in enumerate(["iter_9.pth", "iter_10.pth", "best_ytvis.pth"]):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    record = tmp_path / "last_checkpoint"
    record.write_text(str(tmp_path / "iter_9.pth"))
    assert tools.latest_checkpoint(tmp_path) == str(tmp_path / "iter_9.pth")
    record.write_text("/moved/since/iter_9.pth")
    assert tools.latest_checkpoint(tmp_path) == str(tmp_path / "iter_9.pth")
    record.write_text("")  # killed while writing it
    assert tools.latest_checkpoint(tmp_path) == str(tmp_path / "iter_10.pth")


def test_latest_checkpoint_of_a_copied_run_is_the_copy(tmp_path):
    first, copy = tmp_path / "a", tmp_path / "b"
    for folder in (first, copy):
        folder.mkdir()
        (folder / "iter_9.pth").touch()
    (copy / "last_checkpoint").write_text(str(first / "iter_9.pth"))
    assert tools.latest_checkpoint(copy) == str(copy / "iter_9.pth")
    (copy / "iter_9.pth").unlink()  # checkpoints may also go to another folder than logs
    assert tools.latest_checkpoint(copy) == str(first / "iter_9.pth")


def test_results_go_to_the_video_metric(tmp_path):
    cfg = Config(dict(test_evaluator=[dict(type="CocoMetric"), dict(type="YTVISMetric")]))
    tools.set_result_file(cfg, f"{tmp_path}/out/results.json")
    assert cfg.test_evaluator[1].outfile_prefix == f"{tmp_path}/out/results"
    with pytest.raises(OSError, match="out is a folder"):  # before the test, not after it
        tools.set_result_file(cfg, f"{tmp_path}/out")
    with pytest.raises(ConfigError, match="YTVISMetric"):
        tools.set_result_file(Config(dict(test_evaluator=dict(type="CocoMetric"))), "x.json")
    with pytest.raises(ConfigError, match="^--show-dir .*YTVISMetric"):
        tools.video_evaluator(Config(dict(model=dict())), "--show-dir")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_amp_needs_an_accelerator():
    with pytest.raises(ConfigError, match="GPU"):
        tools.use_amp(Config(dict(optim_wrapper=dict(type="OptimWrapper"))))


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


# --- classes ------------------------------------------------------------------------------------


def test_number_of_classes_is_that_of_the_training_data(cfg):
    heads = [dict(bbox_head=dict(num_classes=40)), dict(bbox_head=dict(num_classes=40))]
    others = dict(rpn_head=dict(num_classes=1), backbone=dict(num_classes=1000))
    cfg.model = dict(roi_head=dict(heads=heads), **others)
    tools.require_class_counts(cfg, [str(i) for i in range(40)])
    tools.require_class_counts(cfg, ())
    with pytest.raises(ConfigError) as error:
        tools.require_class_counts(cfg, list("abcde"))
    assert str(error.value) == (
        "data/shapes_vis/train.json has 5 classes (a, b, c, ...), but "
        "model.roi_head.heads.0.bbox_head.num_classes is 40 and "
        "model.roi_head.heads.1.bbox_head.num_classes is 40: set them to 5"
    )
    heads[0]["bbox_head"]["num_classes"] = 5
    cfg.model = dict(roi_head=dict(heads=heads), **others)
    with pytest.raises(ConfigError, match=r"but model\.roi_head\.heads\.1\..* is 40: set it to 5$"):
        tools.require_class_counts(cfg, list("abcde"))


def test_test_data_has_the_classes_of_the_training(cfg):
    cfg.test_dataloader = dict(dataset=dataset())
    for trained, classes in ((("a", "b"), ["a", "b"]), ((), ("a",)), (("a",), ())):
        tools.require_classes(cfg, trained, classes, "x.pth")
    with pytest.raises(ConfigError) as error:
        tools.require_classes(cfg, tuple("abcdef"), tuple("abxd"), "x.pth")
    assert str(error.value) == (
        "x.pth was trained on other classes than data/shapes_vis/train.json has "
        "(6: ..., c, d, e, ...; here 4: ..., x, d): use the config of its dataset"
    )
