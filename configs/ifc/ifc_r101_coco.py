# IFC's network with ResNet-101 on COCO, 500 epochs.
_base_ = "./ifc_r50_coco.py"

model = _base_._r101

_max_iters = 1848000
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters // 50)
param_scheduler = [dict(_base_.param_scheduler[0], end=_max_iters, milestones=[1232000])]
