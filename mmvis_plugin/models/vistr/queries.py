"""The learnt queries of a clip: one for every instance in every frame."""

from torch import Tensor, nn

KINDS = ("prediction", "instance", "frame", "clip")


class ClipQueries(nn.Module):
    """Learnt vectors of N instances in each of T frames.

    Source: VisTR (Wang et al., CVPR 2021), Sec. 3.2 and Table 1. How vectors are shared follows the
    names there: with one vector for each instance, say, the N vectors are repeated in every frame.

    Args:
        per: What has a vector of its own: each ``"prediction"`` of the T N ones; each
            ``"instance"``, the same in all frames; each ``"frame"``, the same for all instances; or
            the ``"clip"``, the same for all.
        num_frames: T.
        num_instances: N.
        channels: Length of a vector.

    Raises:
        ValueError: If there is no such ``per``.
    """

    def __init__(self, per: str, num_frames: int, num_instances: int, channels: int) -> None:
        super().__init__()
        if per not in KINDS:
            raise ValueError(f"queries.per must be one of {', '.join(KINDS)}, got {per!r}")
        self.num_instances = num_instances
        # Vectors that are the same in all frames are of no certain number of frames.
        self.num_frames = num_frames if per in ("prediction", "frame") else None
        frames = 1 if self.num_frames is None else num_frames
        instances = num_instances if per in ("prediction", "instance") else 1
        self.shape = frames, instances
        self.vectors = nn.Embedding(frames * instances, channels)

    def forward(self, num_frames: int) -> Tensor:
        """The queries of a clip.

        Args:
            num_frames: T.

        Returns:
            (T N, C), frame by frame.

        Raises:
            ValueError: If the vectors are of another number of frames.
        """
        if self.num_frames not in (None, num_frames):
            raise ValueError(
                f"a clip of {num_frames} frames came to queries of {self.num_frames} frames: set "
                "length of the clip sampling and model.network.queries.num_frames alike"
            )
        vectors = self.vectors.weight.unflatten(0, self.shape)
        return vectors.expand(num_frames, self.num_instances, -1).flatten(0, 1)
