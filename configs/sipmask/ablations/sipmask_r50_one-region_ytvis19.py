# One set of coefficients for the whole box.
_base_ = "../sipmask_r50_ytvis19.py"

model = dict(detector=dict(bbox_head=dict(regions=1)))
