_base_ = "./sipmask_r50_ytvis19.py"

model = dict(
    detector=dict(
        backbone=dict(depth=101),
        init_cfg=dict(
            checkpoint="https://download.openmmlab.com/mmdetection/v2.0/fcos/"
            "fcos_r101_caffe_fpn_gn-head_1x_coco/fcos_r101_caffe_fpn_gn-head_1x_coco-0e37b982.pth"
        ),
    )
)
