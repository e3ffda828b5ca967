# A plain convolution in the place of feature alignment.
_base_ = "../sipmask_r18_shapes.py"

model = dict(detector=dict(bbox_head=dict(align_groups=None)))
