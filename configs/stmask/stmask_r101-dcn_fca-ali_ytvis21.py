_base_ = "./stmask_r101-dcn_fca-ali_ytvis19.py"

data_root = "data/youtube_vis_2021/"
train_dataloader = dict(
    dataset=dict(data_root=data_root, ann_file="train/instances_sub-train.json")
)
val_dataloader = dict(dataset=dict(data_root=data_root, ann_file="train/instances_sub-val.json"))
test_dataloader = dict(dataset=dict(data_root=data_root, ann_file="valid/instances.json"))
