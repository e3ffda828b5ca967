import pytest
import torch
from mmengine.config import Config
from run_config import dataset, run_config

from mmvis_plugin.checkpoint import CheckpointError
from mmvis_plugin.config import ConfigError, set_data_root
from mmvis_plugin.engine import run_settings


@pytest.fixture
def cfg():
    return run_config()


def test_missing_data_tells_what_makes_it(cfg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"make_shapes_vis.py --out data/shapes_vis\. If the data is elsewhere"
    ):
        run_settings.require_data(cfg, ["train_dataloader"])
    large = Config(dict(train_dataloader=dict(dataset=dataset("data/shapes_vis_large/"))))
    with pytest.raises(ConfigError, match=r"--out data/shapes_vis_large --videos 1200\. If"):
        run_settings.require_data(large, ["train_dataloader"])
    root = tmp_path / "ytvis"
    set_data_root(cfg, [str(root)])
    cfg.val_dataloader.dataset.ann_file = "train_sub-val.json"
    with pytest.raises(ConfigError, match="docs/datasets.md.*--data-root"):
        run_settings.require_data(cfg, ["val_dataloader"])
    (root / "valid/JPEGImages").mkdir(parents=True)
    (root / "train.json").touch()
    with pytest.raises(ConfigError, match=f"split_ytvis.py {root}/train.json"):
        run_settings.require_data(cfg, ["val_dataloader"])
    (root / "train_sub-val.json").touch()
    run_settings.require_data(cfg, ["train_dataloader", "val_dataloader", "test_dataloader"])
    (root / "valid/JPEGImages").rmdir()
    with pytest.raises(ConfigError, match="valid/JPEGImages/, which val_dataloader.dataset needs"):
        run_settings.require_data(cfg, ["val_dataloader"])


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
        run_settings.require_data(Config(dict(val_dataloader=loader)), ["val_dataloader"])
    command = f"Create it: python tools/dataset_converters/{advice}. If" if advice else "docs/data"
    assert f"cannot be found. {command.format(root)}" in str(error.value)


def test_weights_that_are_missing_or_unreachable_name_the_way_out(cfg, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"model\.init_cfg: .*whole.pth .*--no-pretrained"):
        run_settings.check_pretrained(cfg)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = "http://127.0.0.1:9/r50.pth"
    cfg.model = dict(backbone=dict(init_cfg=dict(type="Pretrained", checkpoint=url)))
    with pytest.raises(CheckpointError) as error:
        run_settings.check_pretrained(cfg)
    for part in ("model.backbone.init_cfg", url, f"{tmp_path}/hub/checkpoints", "--no-pretrained"):
        assert part in str(error.value)


def test_shipped_weights_that_are_missing_name_what_makes_them(cfg, tmp_path):
    cfg.model, cfg.load_from = {}, f"{tmp_path}/configs/../weights/seqformer_r18_image_shapes.pth"
    with pytest.raises(CheckpointError) as error:
        run_settings.check_pretrained(cfg)
    assert str(error.value) == (
        f"load_from: The checkpoint {tmp_path}/weights/seqformer_r18_image_shapes.pth does not "
        "exist. It comes from `tools/train.py configs/mssts/seqformer_r18_image_shapes.py` "
        "(`make weights` makes all). To start from random weights: --no-pretrained"
    )
    cfg.load_from = "weights/other.pth"
    with pytest.raises(CheckpointError, match="other.pth does not exist. To start from random"):
        run_settings.check_pretrained(cfg)


def test_model_zoo_names_are_left_to_mmengine():
    init_cfg = dict(type="Pretrained", checkpoint="torchvision://resnet50")
    run_settings.check_pretrained(Config(dict(model=dict(init_cfg=init_cfg))))


def test_results_go_to_the_video_metric(tmp_path):
    cfg = Config(dict(test_evaluator=[dict(type="CocoMetric"), dict(type="YTVISMetric")]))
    run_settings.set_result_file(cfg, f"{tmp_path}/out/results.json")
    assert cfg.test_evaluator[1].outfile_prefix == f"{tmp_path}/out/results"
    with pytest.raises(OSError, match="out is a folder"):  # before the test, not after it
        run_settings.set_result_file(cfg, f"{tmp_path}/out")
    with pytest.raises(ConfigError, match="YTVISMetric"):
        run_settings.set_result_file(Config(dict(test_evaluator=dict(type="CocoMetric"))), "x.json")
    with pytest.raises(ConfigError, match="^--show-dir .*YTVISMetric"):
        run_settings.video_evaluator(Config(dict(model=dict())), "--show-dir")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_amp_needs_an_accelerator():
    with pytest.raises(ConfigError, match="GPU"):
        run_settings.use_amp(Config(dict(optim_wrapper=dict(type="OptimWrapper"))))


def test_number_of_classes_is_that_of_the_training_data(cfg):
    heads = [dict(bbox_head=dict(num_classes=40)), dict(bbox_head=dict(num_classes=40))]
    others = dict(rpn_head=dict(num_classes=1), backbone=dict(num_classes=1000))
    cfg.model = dict(roi_head=dict(heads=heads), **others)
    run_settings.require_class_counts(cfg, [str(i) for i in range(40)])
    run_settings.require_class_counts(cfg, ())
    with pytest.raises(ConfigError) as error:
        run_settings.require_class_counts(cfg, list("abcde"))
    assert str(error.value) == (
        "data/shapes_vis/train.json has 5 classes (a, b, c, ...), but "
        "model.roi_head.heads.0.bbox_head.num_classes is 40 and "
        "model.roi_head.heads.1.bbox_head.num_classes is 40: set them to 5"
    )
    heads[0]["bbox_head"]["num_classes"] = 5
    cfg.model = dict(roi_head=dict(heads=heads), **others)
    with pytest.raises(ConfigError, match=r"but model\.roi_head\.heads\.1\..* is 40: set it to 5$"):
        run_settings.require_class_counts(cfg, list("abcde"))


def test_test_data_has_the_classes_of_the_training(cfg):
    cfg.test_dataloader = dict(dataset=dataset())
    for trained, classes in ((("a", "b"), ["a", "b"]), ((), ("a",)), (("a",), ())):
        run_settings.require_classes(cfg, trained, classes, "x.pth")
    with pytest.raises(ConfigError) as error:
        run_settings.require_classes(cfg, tuple("abcdef"), tuple("abxd"), "x.pth")
    assert str(error.value) == (
        "x.pth was trained on other classes than data/shapes_vis/train.json has "
        "(6: ..., c, d, e, ...; here 4: ..., x, d): use the config of its dataset"
    )


def test_learning_rate_follows_the_batch_size():
    cfg = Config(dict(auto_scale_lr=dict(enable=False, base_batch_size=16)))
    run_settings.use_auto_scale_lr(cfg)
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=16)
    with pytest.raises(ConfigError, match="set auto_scale_lr.base_batch_size"):
        run_settings.use_auto_scale_lr(Config(dict(auto_scale_lr=dict(enable=True))))
