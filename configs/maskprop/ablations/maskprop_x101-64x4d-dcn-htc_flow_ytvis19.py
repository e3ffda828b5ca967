# Table 3 of the paper: optical flow in place of the propagation head, on the best detector.
_base_ = "../maskprop_x101-64x4d-dcn-htc_ytvis19.py"

model = dict(propagation_head=dict(_delete_=True, type="FlowPropagation"))
