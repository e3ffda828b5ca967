"""Training loops."""

from mmengine.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import DataLoader


class _ResumedBatches:
    """Batches of an endless data loader that begins at batch ``skipped``, counted from batch 0.

    MMEngine's loop asks for the batches that a resumed run has had already, one by one or, in later
    versions, through ``skip_iter``. They are counted here, not loaded.

    Args:
        dataloader: Its sampler begins after the skipped samples.
        skipped: Number of batches before the first one that is loaded.
    """

    def __init__(self, dataloader: DataLoader, skipped: int) -> None:
        self.batches = iter(dataloader)
        self.skipped = skipped

    def __next__(self):
        if self.skipped > 0:
            self.skipped -= 1
            return None
        return next(self.batches)

    def skip_iter(self, num_iters: int) -> None:
        for _ in range(num_iters):
            next(self)


@LOOPS.register_module()
class ResumableIterBasedTrainLoop(IterBasedTrainLoop):
    """Iteration-based training that goes on where it stopped without loading the data in between.

    With a sampler that can ``skip`` (``InfiniteKeyFrameSampler``, later MMEngine's
    ``InfiniteSampler``) a resumed run begins at once; with any other it loads what it has seen
    before, as MMEngine's own loop does. Arguments are those of ``IterBasedTrainLoop``.
    """

    def run(self):
        """Train up to ``max_iters`` and return the model."""
        sampler, batch_size = self.dataloader.sampler, self.dataloader.batch_size
        # batch_size is None where a batch sampler of the user's forms the batches.
        if self._iter > 0 and batch_size is not None and hasattr(sampler, "skip"):
            sampler.skip(self._iter * batch_size)
            # MMEngine's fast_forward_on_resume takes no batch for the iterations that were done.
            takes_none = getattr(self, "fast_forward_on_resume", False)
            skipped = 0 if takes_none else self._iter
            self.dataloader_iterator = _ResumedBatches(self.dataloader, skipped)
        return super().run()
