# Attention within frames and over time by turns.
_base_ = "../ifc_r50_ytvis19.py"

model = dict(network=dict(encoder=dict(communication="divided")))
