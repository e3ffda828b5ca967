# Trained on 10 % of the frames of each video.
_base_ = "./minvis_r50_ytvis19.py"

train_dataloader = dict(sampler=dict(frame_ratio=0.1))
