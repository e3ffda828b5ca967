# SeqFormer Swin-L on YouTube-VIS 2019. The backbone starts from the authors' ImageNet-22K weights.
_base_ = "./seqformer_r50_ytvis19.py"

model = dict(
    backbone=dict(
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
    ),
    neck=dict(in_channels=[384, 768, 1536]),
)
# 16 GPUs with one clip each.
train_dataloader = dict(batch_size=1)
