# Every frame is encoded by itself.
_base_ = "../ifc_r50_ytvis19.py"

model = dict(network=dict(encoder=dict(communication="none")))
