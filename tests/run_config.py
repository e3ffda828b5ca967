"""A small config with every place that a tool changes."""

from mmengine.config import Config


def dataset(root="data/shapes_vis/", **kwargs):
    return dict(type="YTVISDataset", data_root=root, ann_file="train.json", **kwargs)


def run_config():
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
