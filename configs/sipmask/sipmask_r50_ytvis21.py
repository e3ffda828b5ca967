_base_ = "./sipmask_r50_ytvis19.py"

train_dataloader = dict(dataset=_base_._ytvis21.train)
val_dataloader = dict(dataset=_base_._ytvis21.val)
test_dataloader = dict(dataset=_base_._ytvis21.test)
