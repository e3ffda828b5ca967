# Hybrid Task Cascade R-50 FPN with MMDetection's values for the 40 classes of YouTube-VIS, started
# from its COCO weights. It has no semantic branch, since videos come without semantic ground truth.
# Backbone, FPN and RPN are those of Mask R-CNN; three stages of boxes and masks follow.
_base_ = "./mask_rcnn_r50_fpn.py"

rcnn = _base_.model.train_cfg.rcnn
model = dict(
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
                rcnn,
                assigner=dict(rcnn.assigner, pos_iou_thr=thr, neg_iou_thr=thr, min_pos_iou=thr),
            )
            for thr in (0.5, 0.6, 0.7)
        ],
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.001)),
    init_cfg=dict(
        checkpoint="https://download.openmmlab.com/mmdetection/v2.0/htc/"
        "htc_r50_fpn_20e_coco/htc_r50_fpn_20e_coco_20200319-fe28c577.pth",
    ),
)
del rcnn
