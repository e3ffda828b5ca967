# MS-STS VIS Swin-L, trained jointly on YouTube-VIS 2019 and COCO's images as clips.
_base_ = "./mssts_swin-l_ytvis19.py"

train_dataloader = dict(dataset=_base_._joint_dataset)
