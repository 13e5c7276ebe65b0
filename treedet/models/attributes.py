"""Attribute heads: what is said about a crown that was found, such as its species or whether it is alive.

Each head is a small network of its own on the features of the ResNet body in and around a crown. So adding, removing
or training one changes neither the boxes nor what the others say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from treedet.core.spec import HeadFacts, ModelSpec
from treedet.models.pooling import crown_cells, pool_crowns

FINEST = 3
"""Body levels that heads look at, from the finest: colour and texture are there, shapes further up."""
LEVEL_CHANNELS = 32
CHANNELS = 64
DROPOUT = 0.3


class AttributeHeads(nn.ModuleDict):
    """The heads of a model by attribute, in the order of its schema.

    Args:
        spec: Labels and architecture.
        widths: Channels of the body's maps, finest first.
    """

    def __init__(self, spec: ModelSpec, widths: Sequence[int]) -> None:
        super().__init__(
            {name: AttributeHead(widths[:FINEST], len(values)) for name, values in spec.labels.attributes.items()}
        )

    def forward(
        self,
        body: Sequence[Tensor],
        strides: Sequence[int],
        boxes: Sequence[Tensor],
        *,
        size: tuple[int, int],
        context: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the logits of all crowns of a batch.

        Args:
            body: The body's maps ``[B, C_l, H_l, W_l]``, finest first.
            strides: Pixels from one value of a map to the next.
            boxes: Float32 ``[N_b, 4]`` for each window, in its pixels.
            size: Height and width of the windows in pixels, without padding.
            context: Bool ``[N]``, N the sum of N_b: False where nothing around a crown shall be seen. None: all is.

        Returns:
            Float32 ``[N, K]`` by attribute, the crowns of the windows one after the other.
        """
        counts = torch.tensor([len(one) for one in boxes])
        every = torch.cat([one.to(body[0].device, torch.float32) for one in boxes])
        window = torch.arange(len(boxes)).repeat_interleave(counts).to(every.device)
        return {
            name: head(body[:FINEST], strides[:FINEST], every, window, size=size, context=context)
            for name, head in self.items()
        }


class AttributeHead(nn.Module):
    """One attribute: the body's maps are projected, pooled over each crown and its surroundings, and classified.

    Projecting the maps first makes pooling cheap: it moves a few channels per crown instead of some hundred.

    Args:
        widths: Channels of the body's maps.
        classes: Number of classes K.
    """

    own: Tensor

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, LEVEL_CHANNELS, kernel_size=1, bias=False), nn.BatchNorm2d(LEVEL_CHANNELS))
            for width in widths
        )
        # One channel more says which cells are seen.
        self.conv = nn.Sequential(*_block(len(widths) * LEVEL_CHANNELS + 1, CHANNELS), *_block(CHANNELS, CHANNELS))
        self.dropout = nn.Dropout(DROPOUT)
        self.logits = nn.Linear(2 * CHANNELS, classes)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.zeros_(self.logits.bias)
        self.register_buffer("own", crown_cells(), persistent=False)

    def forward(
        self,
        body: Sequence[Tensor],
        strides: Sequence[int],
        boxes: Tensor,
        window: Tensor,
        *,
        size: tuple[int, int],
        context: Tensor | None = None,
    ) -> Tensor:
        """Return float32 ``[N, K]`` for boxes ``[N, 4]`` of windows ``[N]``; see :class:`AttributeHeads`."""
        if not len(boxes):
            # Nothing to normalise over; still connected to the graph.
            empty: Tensor = self.logits(self.logits.weight.new_zeros(0, self.logits.in_features))
            return empty.float()
        maps = [project(values) for project, values in zip(self.project, body, strict=True)]
        pooled, seen = pool_crowns(maps, strides, boxes, window, size=size)
        if context is not None:
            seen = seen & (self.own | context[:, None, None])
        mask = seen[:, None].to(pooled.dtype)
        cells = torch.cat([torch.relu(pooled) * mask, mask], dim=1)
        found = self.conv(cells.to(self.logits.weight.dtype).contiguous(memory_format=torch.channels_last))
        summed = torch.cat([found.mean(dim=(2, 3)), found.amax(dim=(2, 3))], dim=1)
        logits: Tensor = self.logits(self.dropout(summed))
        return logits.float()


def _block(before: int, after: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(before, after, kernel_size=3, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


def probabilities(logits: Mapping[str, Tensor], spec: ModelSpec) -> dict[str, Tensor]:
    """Return the probability of each class ``[N, K]`` by attribute, calibrated by what is known about each head."""
    found = {}
    for name, values in logits.items():
        facts = spec.heads.get(name, HeadFacts())
        offsets = [facts.offsets.get(one, 0.0) for one in spec.labels.attributes[name]]
        found[name] = (values / facts.temperature + values.new_tensor(offsets)).softmax(dim=1)
    return found
