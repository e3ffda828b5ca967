# Table 1a: queries see their own other frames only.
_base_ = "../efficientvis_r50_ytvis19.py"

model = dict(tracklet_head=dict(stage=dict(self_attention="temporal")))
