# MinVIS Swin-L on YouTube-VIS 2019, tested at a short side of 480.
_base_ = "./minvis_r50_ytvis19.py"

model = _base_._swin_l
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_._swin_l_custom_keys))
val_dataloader = dict(dataset=dict(pipeline=_base_._test_pipeline_480))
test_dataloader = dict(dataset=dict(pipeline=_base_._test_pipeline_480))
