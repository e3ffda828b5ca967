# Table 1a: all queries of all frames see each other at once.
_base_ = "../efficientvis_r50_ytvis19.py"

model = dict(tracklet_head=dict(stage=dict(self_attention="joint")))
