# Only instances of one class match; not the paper's rule.
_base_ = "../maskprop_r18_v2_shapes.py"

model = dict(tracker=dict(within_class=True))
