# MS-STS VIS R-50, trained jointly on YouTube-VIS 2021 and COCO's images as clips.
_base_ = "./mssts_r50_ytvis21.py"

train_dataloader = dict(dataset=_base_._joint_dataset)
