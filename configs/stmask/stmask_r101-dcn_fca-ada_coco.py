# R-101, deformable in every third block.
_base_ = "./stmask_r50-dcn_fca-ada_coco.py"

model = dict(
    backbone=dict(
        depth=101,
        dcn_interval=3,
        init_cfg=dict(checkpoint="https://download.pytorch.org/models/resnet101-5d3b4d8f.pth"),
    )
)
