# Table 1b: dynamic convolution on the frame itself only.
_base_ = "../efficientvis_r50_ytvis19.py"

model = dict(tracklet_head=dict(stage=dict(dynamic_conv_cfg=dict(temporal=False))))
