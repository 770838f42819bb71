"""Paint over boxes of every image of a batch, or over all but some, on whatever device holds it."""

import torch
from torch import Tensor, nn

MOST = 5  # boxes of an image
KEPT, PAINTED = (3 / 7, 4 / 7), (1 / 6, 1 / 3)  # smallest and largest side of a box, in parts of the image's


class RandPaintingBatch(nn.Module):
    """Replace parts of images by noise: out-painting leaves a few large boxes, in-painting takes a few small ones away.

    Noise is uniform in [0, 1), drawn for every pixel. After a first box there is each time a further one with
    probability .95, five at most.

    Args:
        probability: of painting at all, .9 in Models Genesis.
        outer: share of out-painting, .8 there.

    Shape:
        - images: :math:`(B, C, *)`, in [0, 1]; output alike.

    Reference:
        Zhou et al., Models Genesis, Medical Image Analysis 2021, arXiv:2004.07882.
    """

    def __init__(self, probability: float = 0.9, outer: float = 0.8) -> None:
        super().__init__()
        if not (0 <= probability <= 1 and 0 <= outer <= 1):
            raise ValueError(f"probability and outer must lie in [0, 1], got {probability} and {outer}.")
        self.probability, self.outer = probability, outer

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the painted batch; the draw comes from torch's default generator."""
        count, size, device = len(images), images.shape[2:], images.device
        happens, outer = torch.rand(2, count, 1, device=device).unbind()
        happens, outer = happens < self.probability, outer < self.outer  # (B, 1)
        going_on = torch.rand(count, MOST, device=device) < 0.95
        going_on[:, 0] = True
        there = going_on.long().cumprod(dim=1).bool()  # (B, 5)
        boxes = there.view(count, MOST, *[1] * len(size))
        for axis, pixels in enumerate(size):
            draws = torch.rand(2, count, MOST, device=device)
            low = torch.where(outer, KEPT[0], PAINTED[0])
            high = torch.where(outer, KEPT[1], PAINTED[1])
            side = low + (high - low) * draws[0]  # (B, 5)
            start = (1 - side) * draws[1]
            place = (torch.arange(pixels, device=device) + 0.5) / pixels
            inside = (place >= start[..., None]) & (place < (start + side)[..., None])  # (B, 5, pixels)
            boxes = boxes & inside.view(count, MOST, *[pixels if other == axis else 1 for other in range(len(size))])
        inside = boxes.any(dim=1)[:, None]  # (B, 1, *)
        wide = (count, 1, *[1] * len(size))
        painted = happens.view(wide) & (inside ^ outer.view(wide))
        return torch.where(painted, torch.rand_like(images), images)
