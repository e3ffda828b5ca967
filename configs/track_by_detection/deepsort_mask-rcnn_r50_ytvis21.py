# DeepSORT on YouTube-VIS 2021, as on 2019.
_base_ = "./deepsort_mask-rcnn_r50_ytvis19.py"

train_dataloader = dict(dataset=_base_._ytvis21.train)
val_dataloader = dict(dataset=_base_._ytvis21.val)
test_dataloader = dict(dataset=_base_._ytvis21.test)
