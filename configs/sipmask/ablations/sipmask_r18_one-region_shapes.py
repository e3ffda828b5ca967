# One set of coefficients for the whole box.
_base_ = "../sipmask_r18_shapes.py"

model = dict(detector=dict(bbox_head=dict(regions=1)))
