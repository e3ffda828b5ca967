# EfficientVIS R-50 on YouTube-VIS 2021. Its videos may be longer than a clip, so clips are trained
# in pairs; an epoch is taken for one pair from each of the 2,985 videos.
_base_ = "./efficientvis_r50_ytvis19.py"

data_root = "data/youtube_vis_2021/"
train_pipeline = [
    dict(type="ClipSample", clip_length=_base_.clip_length, num_clips=2),
    *_base_.train_pipeline[1:],
]
train_dataloader = dict(
    dataset=dict(
        data_root=data_root, ann_file="train/instances_sub-train.json", pipeline=train_pipeline
    )
)
val_dataloader = dict(dataset=dict(data_root=data_root, ann_file="train/instances_sub-val.json"))
test_dataloader = dict(dataset=dict(data_root=data_root, ann_file="valid/instances.json"))

epoch = 2985 // 4
max_iters = 33 * epoch
train_cfg = dict(max_iters=max_iters, val_interval=3 * epoch)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(
        type="MultiStepLR",
        by_epoch=False,
        begin=0,
        end=max_iters,
        milestones=[27 * epoch],
        gamma=0.1,
    ),
]
default_hooks = dict(checkpoint=dict(interval=epoch))
