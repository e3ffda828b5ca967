# Table 1a: queries see those of the same frame only.
_base_ = "../efficientvis_r18_shapes.py"

model = dict(tracklet_head=dict(stage=dict(self_attention="spatial")))
