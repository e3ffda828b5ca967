# SeqFormer R-101 on YouTube-VIS 2019. The backbone starts from torchvision's ImageNet weights.
_base_ = "./seqformer_r50_ytvis19.py"

model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(
            _delete_=True,
            type="Pretrained",
            checkpoint="https://download.pytorch.org/models/resnet101-63fe2227.pth",
        ),
    )
)
