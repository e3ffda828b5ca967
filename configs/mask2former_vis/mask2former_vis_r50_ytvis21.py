# Mask2Former-VIS R-50 on YouTube-VIS 2021, with MMDetection's settings.
_base_ = "./mask2former_vis_r50_ytvis19.py"

train_dataloader = dict(dataset=_base_._ytvis21.train)
val_dataloader = dict(dataset=_base_._ytvis21.val)
test_dataloader = dict(dataset=_base_._ytvis21.test)

_max_iters = 8000
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters)
param_scheduler = [
    dict(type="MultiStepLR", by_epoch=False, begin=0, end=_max_iters, milestones=[5500], gamma=0.1)
]
