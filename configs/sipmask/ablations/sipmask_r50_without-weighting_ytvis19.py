# All locations weigh the same in the mask loss.
_base_ = "../sipmask_r50_ytvis19.py"

model = dict(detector=dict(loss=dict(align_weighting=False)))
