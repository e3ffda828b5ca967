# MS-STS VIS R-50 on YouTube-VIS 2019: MS-STS attention in the encoder, temporal attention in the
# decoder, and the foreground-background separability loss, with a discriminator and an optimizer
# for it.
_base_ = "./ablations/mssts_r50_decoder_ytvis19.py"

model = dict(discriminator=dict(type="SeparabilityDiscriminator", channels=256))

optim_wrapper = dict(
    _delete_=True,
    constructor="AdversarialOptimWrapperConstructor",
    network=_base_.optim_wrapper,
    discriminator=dict(
        type="OptimWrapper", optimizer=dict(type="AdamW", lr=2e-4, weight_decay=1e-4)
    ),
)
param_scheduler = dict(
    _delete_=True, network=_base_.param_scheduler, discriminator=_base_.param_scheduler
)
model_wrapper_cfg = dict(type="AdversarialDistributedDataParallel", broadcast_buffers=False)
