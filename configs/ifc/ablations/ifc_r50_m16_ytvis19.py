# 16 memory tokens a frame.
_base_ = "../ifc_r50_ytvis19.py"

model = dict(network=dict(encoder=dict(num_memory=16)))
