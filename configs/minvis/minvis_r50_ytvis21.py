# MinVIS R-50 on YouTube-VIS 2021.
_base_ = "./minvis_r50_ytvis19.py"

train_dataloader = dict(dataset=_base_._ytvis21.train)
val_dataloader = dict(dataset=_base_._ytvis21.val)
test_dataloader = dict(dataset=_base_._ytvis21.test)

_max_iters = 8000
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters)
param_scheduler = [dict(_base_.param_scheduler[0], end=_max_iters, milestones=[5500])]
