# VisTR R-50 with a 3 x 3 convolution in each frame in place of the 3-D convolutions.
_base_ = "../vistr_r50_ytvis19.py"

model = dict(network=dict(mask_head=dict(clip_channels=None)))
