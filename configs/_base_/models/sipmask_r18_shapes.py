# The image model of SipMask for ShapesVIS: every part, narrow. The frames and their objects are
# small, so the pyramid begins at stride 4.
_base_ = "./frames.py"

model = dict(
    type="SipMaskDetector",
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
    neck=dict(
        type="FPN",
        in_channels=[32, 64, 128, 256],
        out_channels=64,
        add_extra_convs="on_output",
        relu_before_extra_convs=True,
        num_outs=5,
    ),
    bbox_head=dict(
        type="SipMaskHead",
        num_classes=6,
        in_channels=64,
        feat_channels=64,
        strides=(4, 8, 16, 32, 64),
        num_basis=8,
        basis_channels=64,
        embed_dims=None,
        norm_cfg=dict(type="GN", num_groups=8),
    ),
    loss=dict(type="SipMaskLoss", ranges=(16, 32, 64, 128)),
    test_cfg=dict(nms_pre=200, score_thr=0.03, iou_thr=0.5, top_k=200, max_per_img=100),
)
