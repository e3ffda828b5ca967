# MaskProp with Hybrid Task Cascade R-50 and deformable convolutions in stages 3 to 5 (c3-c5): the
# paper's kind of detector with a smaller backbone. It has MMDetection's values but no semantic
# branch, since videos come without semantic ground truth. Backbone, FPN and RPN are those of Mask
# R-CNN; three stages of boxes and masks follow.
_base_ = "./maskprop_r50_ytvis19.py"

_rcnn = _base_.model.detector.train_cfg.rcnn
model = dict(
    detector=dict(
        backbone=dict(
            dcn=dict(type="Float32DCN", deform_groups=1, fallback_on_stride=False),
            stage_with_dcn=(False, True, True, True),
        ),
        type="HybridTaskCascade",
        rpn_head=dict(
            loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=1.0 / 9.0, loss_weight=1.0)
        ),
        roi_head=dict(
            type="HybridTaskCascadeRoIHead",
            interleaved=True,
            mask_info_flow=True,
            num_stages=3,
            stage_loss_weights=[1, 0.5, 0.25],
            bbox_head=[
                dict(
                    type="Shared2FCBBoxHead",
                    in_channels=256,
                    fc_out_channels=1024,
                    roi_feat_size=7,
                    num_classes=40,
                    bbox_coder=dict(
                        type="DeltaXYWHBBoxCoder", target_means=[0.0] * 4, target_stds=target_stds
                    ),
                    reg_class_agnostic=True,
                    loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
                    loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0),
                )
                for target_stds in (
                    [0.1, 0.1, 0.2, 0.2],
                    [0.05, 0.05, 0.1, 0.1],
                    [0.033, 0.033, 0.067, 0.067],
                )
            ],
            mask_head=[
                dict(
                    type="HTCMaskHead",
                    # The first stage has no features of a stage before it to take in.
                    with_conv_res=stage > 0,
                    num_convs=4,
                    in_channels=256,
                    conv_out_channels=256,
                    num_classes=40,
                    loss_mask=dict(type="CrossEntropyLoss", use_mask=True, loss_weight=1.0),
                )
                for stage in range(3)
            ],
        ),
        train_cfg=dict(
            rpn=dict(allowed_border=0),
            rpn_proposal=dict(max_per_img=2000),
            rcnn=[
                dict(
                    _rcnn,
                    assigner=dict(
                        _rcnn.assigner, pos_iou_thr=thr, neg_iou_thr=thr, min_pos_iou=thr
                    ),
                )
                for thr in (0.5, 0.6, 0.7)
            ],
        ),
        # No COCO weights are published with deformable convolutions on this backbone: those of the
        # plain one are loaded, and the offsets start at zero, where both compute the same.
        init_cfg=dict(
            checkpoint="https://download.openmmlab.com/mmdetection/v2.0/htc/"
            "htc_r50_fpn_20e_coco/htc_r50_fpn_20e_coco_20200319-fe28c577.pth",
        ),
    )
)
