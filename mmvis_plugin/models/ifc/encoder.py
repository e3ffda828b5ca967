"""IFC's encoder: frames by themselves, and memory tokens by which they tell each other something.

Source: IFC (Hwang et al., NeurIPS 2021), Sec. 3.1 and 3.2, and its repository.
"""

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from ..layers.detr_layers import PostNormEncoderLayer

COMMUNICATIONS = ("memory", "none", "full", "divided")


@MODELS.register_module()
class IFCEncoder(BaseModule):
    """Blocks of Encode-Receive and Gather-Communicate.

    In *Encode-Receive* the cells of a frame and the frame's memory tokens attend to each other; in
    *Gather-Communicate* each memory token attends to itself in all frames of the clip. Frames have
    no positions in time: a clip is a set of them.

    The other ways of communication are rows of the paper's Table 1. How they are built is our
    reading; the repository has none of them.

    Args:
        num_layers: Blocks.
        channels: C.
        num_heads: Divides C.
        ffn_channels: Hidden width of the feed-forward networks.
        dropout: Rate in attention, feed-forward networks and residuals.
        communication: ``"memory"``; ``"none"``, each frame by itself; ``"full"``, all cells of all
            frames attend to each other; ``"divided"``, a layer of attention within each frame and
            one of each cell over time by turns.
        num_memory: M, memory tokens of a frame, with ``communication="memory"``.
        unified_memory: Whether all tokens of all frames attend to each other, where in IFC each
            attends to itself over time.

    Raises:
        ValueError: There is no such communication, or no token.
    """

    def __init__(
        self,
        num_layers: int = 3,
        channels: int = 256,
        num_heads: int = 8,
        ffn_channels: int = 2048,
        dropout: float = 0.1,
        communication: str = "memory",
        num_memory: int = 8,
        unified_memory: bool = False,
    ) -> None:
        super().__init__()
        if communication not in COMMUNICATIONS:
            raise ValueError(
                f"communication is one of {', '.join(COMMUNICATIONS)}; got {communication!r}"
            )
        if num_memory < 1:
            raise ValueError(f"num_memory must be at least 1, got {num_memory}")
        self.communication = communication
        self.unified_memory = unified_memory

        def layers() -> ModuleList:
            return ModuleList(
                PostNormEncoderLayer(channels, num_heads, ffn_channels, dropout)
                for _ in range(num_layers)
            )

        self.frame_layers = layers()
        if communication in ("memory", "divided"):
            self.time_layers = layers()
        if communication == "memory":
            self.memory = nn.Parameter(torch.empty(num_memory, channels))
            self.memory_position = nn.Parameter(torch.empty(num_memory, channels))
            for tokens in (self.memory, self.memory_position):
                nn.init.kaiming_normal_(tokens, mode="fan_out", nonlinearity="relu")

    @property
    def num_memory(self) -> int:
        """M, 0 without memory tokens."""
        return len(self.memory) if self.communication == "memory" else 0

    def with_memory(self, cells: Tensor, tokens: Tensor | None) -> Tensor:
        """Put memory tokens behind the cells of each frame.

        Args:
            cells: (B, T, N, C).
            tokens: (M, C), None without memory tokens.

        Returns:
            (B, T, N + M, C).
        """
        if tokens is None:
            return cells
        return torch.cat([cells, tokens.expand(*cells.shape[:2], -1, -1)], dim=2)

    def forward(
        self, cells: Tensor, position: Tensor, padding: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Encode clips.

        Args:
            cells: (B, T, N, C) of N cells a frame.
            position: (B, T, N, C) added to the queries and keys.
            padding: (B, T, N) bool, true for cells that only pad their frame; None without.

        Returns:
            (B, T, N + M, C) cells and memory tokens, their positions, and their padding, all
            likewise.
        """
        num_cells, tokens = cells.shape[2], None
        if self.communication == "memory":
            tokens = self.memory
            position = self.with_memory(position, self.memory_position)
            if padding is not None:
                padding = nn.functional.pad(padding, (0, self.num_memory), value=False)
        x = self.with_memory(cells, tokens)

        # What attends to each other is one sequence: a frame, or with "full" a clip.
        first = 1 if self.communication == "full" else 0
        merged, sizes = (first, first + 1), x.shape[first : first + 2]
        flat_position = position.flatten(*merged)
        flat_padding = None if padding is None else padding.flatten(*merged)
        for number, layer in enumerate(self.frame_layers):
            x = layer(x.flatten(*merged), flat_position, flat_padding).unflatten(first, sizes)
            if self.communication == "memory":
                gathered = self._gather(self.time_layers[number], x[:, :, num_cells:])
                x = torch.cat([x[:, :, :num_cells], gathered], dim=2)
            elif self.communication == "divided":
                x = over_time(self.time_layers[number], x)
        return x, position, padding

    def _gather(self, layer: PostNormEncoderLayer, tokens: Tensor) -> Tensor:
        """Let the memory tokens (B, T, M, C) of the frames attend to each other."""
        if not self.unified_memory:
            return over_time(layer, tokens)
        return layer(tokens.flatten(1, 2), None, None).unflatten(1, tokens.shape[1:3])


def over_time(layer: PostNormEncoderLayer, x: Tensor) -> Tensor:
    """Let each of (B, T, N, C) attend to itself in all T frames, apart from the other N - 1."""
    sequences = x.transpose(1, 2)
    attended = layer(sequences.flatten(0, 1), None, None)
    return attended.unflatten(0, sequences.shape[:2]).transpose(1, 2)
