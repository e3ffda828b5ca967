_base_ = "./maskprop_r50_ytvis19.py"

model = dict(
    detector=dict(
        backbone=dict(depth=101),
        init_cfg=dict(
            checkpoint="https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/"
            "mask_rcnn_r101_fpn_mstrain-poly_3x_coco/"
            "mask_rcnn_r101_fpn_mstrain-poly_3x_coco_20210524_200244-5675c317.pth"
        ),
    )
)
