# OVIS: 25 classes.
_base_ = "./sipmask_r50_ytvis19.py"

model = dict(detector=dict(bbox_head=dict(num_classes=25)))
train_dataloader = dict(dataset=_base_._ovis.train)
val_dataloader = dict(dataset=_base_._ovis.val)
test_dataloader = dict(dataset=_base_._ovis.test)
