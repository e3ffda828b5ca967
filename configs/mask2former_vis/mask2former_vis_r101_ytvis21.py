# Mask2Former-VIS R-101 on YouTube-VIS 2021, with MMDetection's settings.
_base_ = "./mask2former_vis_r50_ytvis21.py"

model = dict(
    backbone=dict(depth=101),
    init_cfg=dict(
        checkpoint="https://download.openmmlab.com/mmdetection/v3.0/mask2former/"
        "mask2former_r101_8xb2-lsj-50e_coco/"
        "mask2former_r101_8xb2-lsj-50e_coco_20220426_100250-ecf181e2.pth",
    ),
)
