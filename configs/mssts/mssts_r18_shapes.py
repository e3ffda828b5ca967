# MS-STS VIS on ShapesVIS: MS-STS attention, temporal attention in the decoder and the
# foreground-background separability loss, with a discriminator and an optimizer for it.
_base_ = "./ablations/mssts_r18_decoder_shapes.py"

model = dict(
    discriminator=dict(
        type="SeparabilityDiscriminator", channels=96, hidden_channels=(16, 32, 64, 128)
    )
)

optim_wrapper = dict(
    _delete_=True,
    constructor="AdversarialOptimWrapperConstructor",
    network=_base_.optim_wrapper,
    discriminator=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=5e-4)),
)
param_scheduler = dict(
    _delete_=True, network=_base_.param_scheduler, discriminator=_base_.param_scheduler
)
model_wrapper_cfg = dict(type="AdversarialDistributedDataParallel", broadcast_buffers=False)
