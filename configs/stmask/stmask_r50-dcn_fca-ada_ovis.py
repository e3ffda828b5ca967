# OVIS: 25 classes, 20 epochs.
_base_ = "./stmask_r50-dcn_fca-ada_ytvis19.py"

data_root = "data/ovis/"
model = dict(detector=dict(bbox_head=dict(num_classes=25)))
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

max_epochs = 20
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type="LinearLR", start_factor=1.0 / 3, by_epoch=False, begin=0, end=500),
    dict(
        type="MultiStepLR", by_epoch=True, begin=0, end=max_epochs, milestones=[13, 18], gamma=0.1
    ),
]
