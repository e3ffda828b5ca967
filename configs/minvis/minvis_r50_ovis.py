# MinVIS R-50 on OVIS.
_base_ = "./minvis_r50_ytvis19.py"

model = dict(panoptic_head=dict(num_classes=25))

train_dataloader = dict(dataset=_base_._ovis.train)
val_dataloader = dict(dataset=_base_._ovis.val)
test_dataloader = dict(dataset=_base_._ovis.test)

_max_iters = 10000
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters)
param_scheduler = [dict(_base_.param_scheduler[0], end=_max_iters, milestones=[7000])]
