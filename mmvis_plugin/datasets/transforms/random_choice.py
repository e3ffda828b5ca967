"""Choosing among transforms for all frames of a clip alike."""

from mmcv.transforms import RandomChoice
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SharedRandomChoice(RandomChoice):
    """mmcv's ``RandomChoice``, which also works in ``TransformBroadcaster(share_random_params)``.

    mmcv notes which methods of a class are random in a list that subclasses share. MMDetection's
    ``RandAugment``, a subclass of ``RandomChoice``, enters the method of the same name again, and
    ``RandomChoice`` then takes itself to have chosen twice. This class has a list of its own.

    Args:
        transforms (list[list]): Candidates, each a list of transforms; an empty one does nothing.
        prob (list[float], optional): How often each is taken. Defaults to None: equally often.
    """

    _methods_with_randomness = ("random_pipeline_index",)
