# MS-STS VIS Swin-L on YouTube-VIS 2019. The backbone starts from the authors' ImageNet-22K weights.
_base_ = "./mssts_r50_ytvis19.py"

model = dict(backbone=_base_._swin_l, neck=dict(in_channels=[384, 768, 1536]))
# 10 GPUs with one clip each.
train_dataloader = dict(batch_size=1)
