# Mask2Former-VIS R-50 on YouTube-VIS 2021, with MMDetection's settings.
_base_ = "./mask2former_vis_r50_ytvis19.py"

data_root = "data/youtube_vis_2021/"
train_dataloader = dict(
    dataset=dict(data_root=data_root, ann_file="train/instances_sub-train.json")
)
val_dataloader = dict(dataset=dict(data_root=data_root, ann_file="train/instances_sub-val.json"))
test_dataloader = dict(dataset=dict(data_root=data_root, ann_file="valid/instances.json"))

max_iters = 8000
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="MultiStepLR", by_epoch=False, begin=0, end=max_iters, milestones=[5500], gamma=0.1)
]
