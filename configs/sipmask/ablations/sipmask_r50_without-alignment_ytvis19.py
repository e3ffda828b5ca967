# A plain convolution in the place of feature alignment.
_base_ = "../sipmask_r50_ytvis19.py"

model = dict(detector=dict(bbox_head=dict(align_groups=None)))
