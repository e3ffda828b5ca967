# All cells of all frames attend to each other.
_base_ = "../ifc_r50_ytvis19.py"

model = dict(network=dict(encoder=dict(communication="full")))
