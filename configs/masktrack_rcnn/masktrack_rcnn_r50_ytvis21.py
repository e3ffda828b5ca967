# MaskTrack R-CNN R-50 on YouTube-VIS 2021, trained as on 2019.
_base_ = "./masktrack_rcnn_r50_ytvis19.py"

data_root = "data/youtube_vis_2021/"
train_dataloader = dict(
    dataset=dict(data_root=data_root, ann_file="train/instances_sub-train.json")
)
val_dataloader = dict(dataset=dict(data_root=data_root, ann_file="train/instances_sub-val.json"))
test_dataloader = dict(dataset=dict(data_root=data_root, ann_file="valid/instances.json"))
