# R-101, deformable in every third block.
_base_ = "./stmask_r50-dcn_fca-ada_ovis.py"

model = dict(
    detector=dict(
        backbone=dict(depth=101, dcn_interval=3),
        init_cfg=dict(
            checkpoint="https://download.openmmlab.com/mmdetection/v2.0/yolact/yolact_r101_1x8_coco/"
            "yolact_r101_1x8_coco_20200908-4cbe9101.pth"
        ),
    )
)
