# MS-STS VIS R-101 on YouTube-VIS 2019. The backbone starts from torchvision's ImageNet weights.
_base_ = "./mssts_r50_ytvis19.py"

model = dict(backbone=_base_._r101)
