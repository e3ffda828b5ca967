# The image model of STMask for the 40 classes of YouTube-VIS: YOLACT++ R-50 (every second block of
# the last three stages deformable, batch normalisation frozen) with feature calibration for
# anchors, and for boxes (adaptive) on the class branch, as released.
_base_ = "./frames.py"

model = dict(
    type="STMaskDetector",
    data_preprocessor=dict(_base_._frames, type="DetDataPreprocessor"),
    backbone=dict(
        type="IntervalDCNResNet",
        dcn_interval=2,
        depth=50,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type="BN", requires_grad=False),
        norm_eval=True,
        style="pytorch",
        dcn=dict(type="Float32DCNv2", deform_groups=1),
        stage_with_dcn=(False, True, True, True),
    ),
    neck=dict(type="STMaskFPN", in_channels=[512, 1024, 2048], out_channels=256, num_outs=5),
    bbox_head=dict(
        type="STMaskHead",
        num_classes=40,
        in_channels=256,
        feat_channels=256,
        kernel_sizes=((3, 3), (3, 5), (5, 3)),
        anchor_sizes=((3, 3), (3, 5), (5, 3)),
        fcb=dict(cls="ada", mask=None, track=None),
        num_tower_convs=2,
        num_coeffs=32,
        embed_dims=128,
        centerness_order="kernel",
    ),
    mask_head=dict(type="MaskPrototypes", in_channels=256, channels=256, num_prototypes=32),
    loss=dict(
        type="STMaskLoss",
        pos_iou=0.5,
        neg_iou=0.4,
        neg_pos_ratio=3,
        box_weight=5.0,
        cls_weight=6.125,
        centerness_weight=20.0,
        mask_weight=6.125,
        track_weight=5.0,
        mask_margin=1.2,
    ),
    test_cfg=dict(score_thr=0.05, iou_thr=0.5, top_k=200, max_per_img=-1, class_agnostic=True),
)
