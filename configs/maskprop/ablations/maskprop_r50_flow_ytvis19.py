# Optical flow in place of the propagation head, as in Table 3 of the paper.
_base_ = "../maskprop_r50_ytvis19.py"

model = dict(propagation_head=dict(_delete_=True, type="FlowPropagation"))
