# MS-STS VIS R-50, trained jointly on YouTube-VIS 2021 and COCO's images as clips.
_base_ = "./mssts_r50_ytvis21.py"

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="ConcatDataset",
        datasets=[_base_.train_dataloader.dataset, _base_.coco_train],
    )
)
param_scheduler = dict(
    network=_base_.joint_param_scheduler, discriminator=_base_.joint_param_scheduler
)
