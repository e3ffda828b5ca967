# OVIS: 25 classes, 20 epochs.
_base_ = "./stmask_r50-dcn_fca-ada_ytvis19.py"

model = dict(detector=dict(bbox_head=dict(num_classes=25)))
train_dataloader = dict(dataset=_base_._ovis.train)
val_dataloader = dict(dataset=_base_._ovis.val)
test_dataloader = dict(dataset=_base_._ovis.test)

_max_epochs = 20
train_cfg = dict(max_epochs=_max_epochs)
param_scheduler = [
    dict(type="LinearLR", start_factor=1.0 / 3, by_epoch=False, begin=0, end=500),
    dict(
        type="MultiStepLR", by_epoch=True, begin=0, end=_max_epochs, milestones=[13, 18], gamma=0.1
    ),
]
