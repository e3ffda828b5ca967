# Mask R-CNN for ShapesVIS: the parts of Mask R-CNN R-50 FPN at a quarter of the width, with
# anchors for objects of 16 to 128 pixels, since the frames are small. The methods that start from
# COCO weights in their papers start from this detector's weights here.
_base_ = "./mask_rcnn_r50_fpn.py"

_num_classes = 6
_channels = 64
model = dict(
    backbone=dict(depth=18, base_channels=32, frozen_stages=-1, norm_eval=False),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=_channels, num_outs=4),
    rpn_head=dict(
        in_channels=_channels,
        feat_channels=_channels,
        anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32]),
        loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=1.0 / 9.0, loss_weight=1.0),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            roi_layer=dict(sampling_ratio=1), out_channels=_channels, finest_scale=24
        ),
        bbox_head=dict(
            in_channels=_channels,
            fc_out_channels=128,
            num_classes=_num_classes,
            loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=1.0, loss_weight=1.0),
        ),
        mask_roi_extractor=dict(
            roi_layer=dict(sampling_ratio=1), out_channels=_channels, finest_scale=24
        ),
        mask_head=dict(
            num_convs=3,
            in_channels=_channels,
            conv_out_channels=_channels,
            num_classes=_num_classes,
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=400, max_per_img=200),
        rcnn=dict(sampler=dict(num=32, pos_fraction=0.5)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=100), rcnn=dict(max_per_img=20)),
    init_cfg=None,
)
