# The image model of SipMask for the 40 classes of YouTube-VIS, with the track branch.
# Detectron's ResNets: BGR, not scaled.
_frames = dict(
    mean=[102.9801, 115.9465, 122.7717],
    std=[1.0, 1.0, 1.0],
    bgr_to_rgb=False,
    pad_mask=True,
    pad_size_divisor=32,
)
model = dict(
    type="SipMaskDetector",
    data_preprocessor=dict(_frames, type="DetDataPreprocessor"),
    backbone=dict(
        type="ResNet",
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type="BN", requires_grad=False),
        norm_eval=True,
        style="caffe",
    ),
    neck=dict(
        type="FPN",
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        start_level=1,
        add_extra_convs="on_output",
        relu_before_extra_convs=True,
        num_outs=5,
    ),
    bbox_head=dict(
        type="SipMaskHead",
        num_classes=40,
        in_channels=256,
        feat_channels=256,
        stacked_convs=3,
        strides=(8, 16, 32, 64, 128),
        regions=2,
        num_basis=32,
        basis_channels=512,
        align_groups=4,
        embed_dims=512,
        norm_cfg=dict(type="GN", num_groups=32),
    ),
    loss=dict(type="SipMaskLoss", ranges=(64, 128, 256, 512), radius=1.5),
    test_cfg=dict(nms_pre=200, score_thr=0.03, iou_thr=0.5, top_k=200, max_per_img=10),
)
