# EfficientVIS R-101 on YouTube-VIS 2019.
_base_ = "./efficientvis_r50_ytvis19.py"

_weights = (
    "https://download.openmmlab.com/mmdetection/v2.0/queryinst/"
    "queryinst_r101_fpn_mstrain_480-800_3x_coco/"
    "queryinst_r101_fpn_mstrain_480-800_3x_coco_20210904_104048-91f9995b.pth"
)
model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint=_weights)),
    neck=dict(init_cfg=dict(checkpoint=_weights)),
)
