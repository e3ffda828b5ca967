# Table 1f: one embedding per tracklet for the whole clip.
_base_ = "../efficientvis_r50_ytvis19.py"

model = dict(tracklet_head=dict(stage=dict(time_shared=True)))
