# SeqFormer R-50: 6 encoder and 6 decoder layers, 300 queries, whole videos of up to 48 frames.
# MS-STS VIS adds encoder.ms_sts, decoder.temporal_attention and a discriminator.
_base_ = "./frames.py"

_num_classes = 40
model = dict(
    type="MSSTSVIS",
    data_preprocessor=dict(_base_._frames, type="TrackDataPreprocessor"),
    backbone=dict(
        type="ResNet",
        depth=50,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type="BN", requires_grad=False),
        norm_eval=True,
        style="pytorch",
    ),
    neck=dict(
        type="ChannelMapper",
        in_channels=[512, 1024, 2048],
        kernel_size=1,
        out_channels=256,
        bias=True,
        act_cfg=None,
        norm_cfg=dict(type="GN", num_groups=32),
        num_outs=4,
    ),
    positional_encoding=dict(
        type="SinePositionalEncoding",
        num_feats=128,
        temperature=10000,
        normalize=True,
        offset=-0.5,
    ),
    encoder=dict(
        type="SeqFormerEncoder",
        num_layers=6,
        channels=256,
        num_heads=8,
        num_levels=4,
        num_points=4,
        ffn_channels=1024,
        dropout=0.1,
        with_cp=False,
    ),
    decoder=dict(
        type="SeqFormerDecoder",
        num_classes=_num_classes,
        unused_logits=(1, 1),
        num_layers=6,
        num_queries=300,
        channels=256,
        num_heads=8,
        num_levels=4,
        num_points=4,
        ffn_channels=1024,
        dropout=0.1,
        temporal_attention=False,
        with_cp=False,
    ),
    mask_head=dict(
        type="SeqFormerMaskHead",
        channels=256,
        mid_channels=64,
        out_channels=8,
        hidden_channels=8,
        stride=8,
    ),
    criterion=dict(
        type="SeqFormerCriterion",
        assigner=dict(
            type="HungarianAssigner",
            match_costs=[
                dict(type="FocalLossCost", alpha=0.25, gamma=2, eps=1e-8, weight=2.0),
                dict(type="ClipBoxL2Cost", weight=5.0),
                dict(type="ClipGIoUCost", weight=2.0),
            ],
        ),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, alpha=0.25, gamma=2.0, loss_weight=2.0),
        loss_bbox=dict(type="L1Loss", loss_weight=5.0),
        loss_iou=dict(type="GIoULoss", eps=1e-12, loss_weight=2.0),
        loss_mask=dict(type="FocalLoss", use_sigmoid=True, alpha=0.25, gamma=2.0, loss_weight=2.0),
        loss_dice=dict(type="DiceLoss", naive_dice=True, eps=1.0, loss_weight=5.0),
    ),
    windows=dict(length=48, overlap=16, min_iou=0.5),
    tracks_per_window=10,
    frames_per_batch=8,
)

# Larger backbones: of torchvision's weights, and of the authors' on ImageNet-22K.
_r101 = dict(
    depth=101,
    init_cfg=dict(
        _delete_=True,
        type="Pretrained",
        checkpoint="https://download.pytorch.org/models/resnet101-63fe2227.pth",
    ),
)
_swin_l = dict(
    _delete_=True,
    type="SwinTransformer",
    pretrain_img_size=384,
    embed_dims=192,
    depths=(2, 2, 18, 2),
    num_heads=(6, 12, 24, 48),
    window_size=12,
    drop_path_rate=0.3,
    out_indices=(1, 2, 3),
    with_cp=False,
    convert_weights=True,
    init_cfg=dict(
        type="Pretrained",
        checkpoint="https://github.com/SwinTransformer/storage/releases/download/v1.0.0/"
        "swin_large_patch4_window12_384_22k.pth",
    ),
)
