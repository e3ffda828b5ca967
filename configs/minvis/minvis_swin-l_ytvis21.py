# MinVIS Swin-L on YouTube-VIS 2021, tested at a short side of 360 as by its authors, not at 480.
_base_ = "./minvis_r50_ytvis21.py"

model = _base_._swin_l
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_._swin_l_custom_keys))
