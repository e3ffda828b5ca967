# SeqFormer X-101 32x8d on YouTube-VIS 2019. The backbone starts from torchvision's weights.
_base_ = "./seqformer_r50_ytvis19.py"

model = dict(
    backbone=dict(
        type="ResNeXt",
        depth=101,
        groups=32,
        base_width=8,
        init_cfg=dict(
            _delete_=True,
            type="Pretrained",
            checkpoint="https://download.pytorch.org/models/resnext101_32x8d-8ba56ff5.pth",
        ),
    )
)
