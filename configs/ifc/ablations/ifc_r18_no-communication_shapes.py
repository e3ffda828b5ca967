# Every frame is encoded by itself.
_base_ = "../ifc_r18_shapes.py"

model = dict(network=dict(encoder=dict(communication="none")))
