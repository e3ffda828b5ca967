import os

import pytest
import torch
from mmengine.config import Config

from mmvis_plugin.utils import CheckpointError, ConfigError
from mmvis_plugin.utils import config as tools


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


def test_missing_data_tells_what_makes_it(cfg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="make_shapes_vis.py --out data/shapes_vis"):
        tools.require_data(cfg, ["train_dataloader"])
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
    cfg = Config(dict(work_dir=str(tmp_path), randomness=dict(seed=0, deterministic=True)))
    tools.set_resume(cfg, "auto")
    assert cfg.resume and cfg.load_from == str(path)
    assert cfg.randomness == dict(seed=7, deterministic=True)


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


def test_results_go_to_the_video_metric():
    cfg = Config(dict(test_evaluator=[dict(type="CocoMetric"), dict(type="YTVISMetric")]))
    tools.set_result_file(cfg, "out/results.json")
    assert cfg.test_evaluator[1].outfile_prefix == "out/results"
    with pytest.raises(ConfigError, match="YTVISMetric"):
        tools.set_result_file(Config(dict(test_evaluator=dict(type="CocoMetric"))), "x.json")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_amp_needs_an_accelerator():
    with pytest.raises(ConfigError, match="GPU"):
        tools.use_amp(Config(dict(optim_wrapper=dict(type="OptimWrapper"))))


def test_config_file_that_does_not_exist():
    with pytest.raises(ConfigError, match="configs/nothing.py does not exist"):
        tools.load_config("configs/nothing.py")
