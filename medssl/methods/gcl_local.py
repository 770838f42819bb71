"""The second stage of GCL as published: places of a slice differ, behind an encoder that learns no more."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.methods.spread import collapse_metrics
from medssl.networks.unet import UNetDecoder

SIDE = 3  # of a region, places of the map


class GCLLocal(nn.Module):
    r"""Pre-train the first levels of a decoder by telling regions of a map from their neighbours.

    .. math:: \mathcal{L} = \operatorname{mean}_{i, v, r} -\log \frac{\exp(z_r \cdot z'_r / \tau)}
        {\exp(z_r \cdot z'_r / \tau) + \sum_{s \in N(r)} \exp(z_r \cdot z_s / \tau) + \exp(z_r \cdot z'_s / \tau)}

    with :math:`z_r` the nine vectors of region r of slice i in view v as one vector of unit length, :math:`z'` those of
    the other view, whose places are the same, and N(r) the regions nearest to r. This is the paper's :math:`L^R`. Where
    its regions lie, and which are neighbours, the paper lists by hand; here they are a grid of 3 x 3 and one of 2 x 2
    between, and the nearest.

    Args:
        encoder: image to list of features, finest first; frozen, its normalisation as well.
        decoder: of those features; its levels finer than ``finest`` are frozen too, untrained.
        head: map :math:`(n, C, h, w)` of the decoder to :math:`(n, D, h, w)`.
        finest: level of the map, 2 for a quarter of the image's size as in the paper.
        num_neighbours: regions of N(r), 5 in the paper.
        temperature: :math:`\tau`.

    Shape:
        - batch: ``view_1``, ``view_2`` :math:`(n, C, H, W)`, the same places.
        - output: scalars ``loss``, ``spread`` and effective ``rank`` of the regions of an image.

    Raises:
        TypeError: for another decoder.
        ValueError: for a level that the decoder has not or a number of neighbours that 13 regions have not; when
            called, if they do not fit the map.

    Reference:
        Chaitanya et al., Contrastive Learning of Global and Local Features for Medical Image Segmentation with Limited
        Annotations, NeurIPS 2020, arXiv:2006.10511.
    """

    near: Tensor
    centres: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: UNetDecoder,
        head: nn.Module,
        finest: int = 2,
        num_neighbours: int = 5,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        if not isinstance(decoder, UNetDecoder):
            raise TypeError(f"decoder must be a UNetDecoder, which stops at a level, got {type(decoder).__name__}.")
        centres = region_centres()
        if not 0 <= finest < len(decoder.levels):
            raise ValueError(f"finest must be a level of the decoder, 0 to {len(decoder.levels) - 1}, got {finest}.")
        if not 0 < num_neighbours < len(centres):
            raise ValueError(f"num_neighbours must be 1 to {len(centres) - 1}, got {num_neighbours}; the paper has 5.")
        self.encoder, self.decoder, self.head = encoder.requires_grad_(False).eval(), decoder, head
        for blocks in (decoder.ups, decoder.levels):
            blocks[len(blocks) - finest :].requires_grad_(False)
        self.finest, self.temperature = finest, temperature
        distance = (centres[:, None] - centres).square().sum(dim=2)  # whole numbers: what is as near stays so
        nearest = distance.argsort(dim=1, stable=True)[:, 1 : num_neighbours + 1]
        near = torch.zeros(len(centres), len(centres), dtype=torch.bool).scatter_(1, nearest, True)
        self.register_buffer("near", near, persistent=False)  # (R, R)
        self.register_buffer("centres", centres, persistent=False)  # (R, 2)

    def train(self, mode: bool = True) -> "GCLLocal":
        """Set the mode of all but the encoder, whose statistics stay."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss and what is worth watching."""
        z_1, z_2 = (self.regions(batch[view]) for view in ("view_1", "view_2"))  # (n, R, D)
        loss = (self.contrast(z_1, z_2) + self.contrast(z_2, z_1)) / 2
        return {"loss": loss, **collapse_metrics(z_1)}

    def regions(self, image: Tensor) -> Tensor:
        """Return the vector of every region :math:`(n, R, 9 D)`, of unit length."""
        with torch.no_grad():
            features = self.encoder(image)
        maps = self.head(self.decoder(features, self.finest))
        return F.normalize(region_vectors(maps, self.centres).float(), dim=2)

    def contrast(self, z: Tensor, other: Tensor) -> Tensor:
        """Return the loss of the regions of one view."""
        with torch.autocast(z.device.type, enabled=False):
            logits = torch.cat([z @ other.mT, z @ z.mT], dim=2) / self.temperature  # (n, R, 2R)
        itself = torch.eye(len(self.near), dtype=torch.bool, device=z.device)
        seen = torch.cat([self.near | itself, self.near], dim=1)
        logits = logits.masked_fill(~seen, torch.finfo(logits.dtype).min)
        own = torch.arange(len(self.near), device=z.device).repeat(len(z))
        return F.cross_entropy(logits.flatten(0, 1), own)


def region_centres() -> Tensor:
    """Return the centres of the regions (13, 2), in sixths of the map: a grid of 3 x 3 and one of 2 x 2 between."""
    grids = [torch.tensor(places) for places in ((1, 3, 5), (2, 4))]
    return torch.cat([torch.cartesian_prod(grid, grid) for grid in grids])


def region_vectors(maps: Tensor, centres: Tensor) -> Tensor:
    """Return the vectors of the places of each region, in a row: maps (n, D, h, w) to (n, 13, 9 D).

    Below 18 places a side, regions of the two grids share some.
    """
    if min(maps.shape[2:]) < 3 * SIDE:
        raise ValueError(
            f"regions of {SIDE} x {SIDE} places must fit three times into a map, got {tuple(maps.shape[2:])}; take "
            "larger images, or a finer level."
        )
    offsets = torch.arange(SIDE, device=maps.device) - SIDE // 2
    rows, columns = (centres[:, axis, None] * maps.shape[2 + axis] // 6 + offsets for axis in (0, 1))  # (13, 3)
    places = maps[:, :, rows[:, :, None], columns[:, None, :]]  # (n, D, 13, 3, 3)
    return places.movedim(1, 2).flatten(2)
