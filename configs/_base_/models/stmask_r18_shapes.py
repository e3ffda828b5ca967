# The image model of STMask for ShapesVIS: every part, narrow. The frames and their objects are
# small, so the pyramid begins at stride 4, with anchors of 12 pixels. The backbone is the plain
# ResNet-18 of all shapes configs: its blocks have no deformable form.
_base_ = "./frames.py"

model = dict(
    type="STMaskDetector",
    data_preprocessor=dict(_base_._frames, type="DetDataPreprocessor"),
    backbone=dict(
        type="ResNet",
        depth=18,
        base_channels=32,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=True,
        style="pytorch",
    ),
    neck=dict(type="STMaskFPN", in_channels=[32, 64, 128, 256], out_channels=56, num_outs=5),
    bbox_head=dict(
        type="STMaskHead",
        num_classes=6,
        in_channels=56,
        feat_channels=56,
        kernel_sizes=((3, 3), (3, 5), (5, 3)),
        anchor_sizes=((3, 3), (3, 5), (5, 3)),
        fcb=dict(cls="ada", mask=None, track=None),
        num_tower_convs=2,
        num_coeffs=16,
        embed_dims=32,
        centerness_order="position",
    ),
    mask_head=dict(type="MaskPrototypes", in_channels=56, channels=56, num_prototypes=16),
    loss=dict(type="STMaskLoss"),
    test_cfg=dict(score_thr=0.05, iou_thr=0.5, top_k=200, max_per_img=-1, class_agnostic=True),
)
