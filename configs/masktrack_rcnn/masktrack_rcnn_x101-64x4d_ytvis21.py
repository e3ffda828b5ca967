# MaskTrack R-CNN with ResNeXt-101 64x4d on YouTube-VIS 2021, trained as on 2019.
_base_ = "./masktrack_rcnn_x101-64x4d_ytvis19.py"

train_dataloader = dict(dataset=_base_._ytvis21.train)
val_dataloader = dict(dataset=_base_._ytvis21.val)
test_dataloader = dict(dataset=_base_._ytvis21.test)
