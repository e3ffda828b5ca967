_base_ = "./maskprop_r50-dcn-htc_ytvis19.py"

model = dict(
    detector=dict(
        backbone=dict(depth=101),
        init_cfg=dict(
            checkpoint="https://download.openmmlab.com/mmdetection/v2.0/htc/htc_r101_fpn_20e_coco/"
            "htc_r101_fpn_20e_coco_20200317-9b41b48f.pth"
        ),
    )
)
