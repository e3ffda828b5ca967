# OVIS: as YouTube-VIS 2019, in its own layout.
_base_ = "./ytvis19.py"
data_root = "data/ovis/"

train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file="annotations_train_sub-train.json",
        data_prefix=dict(img_path="train/"),
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file="annotations_train_sub-val.json",
        data_prefix=dict(img_path="train/"),
    )
)
test_dataloader = dict(
    dataset=dict(
        data_root=data_root, ann_file="annotations_valid.json", data_prefix=dict(img_path="valid/")
    )
)
