"""Cut every image of a batch into a grid of tiles, on whatever device holds it."""

import torch
from torch import Tensor, nn

SIDE = 3  # cells along each axis


class RandTilesBatch(nn.Module):
    """Cut a tile out of every cell of a 3 x 3 grid over the image, at a random place within the cell.

    What is left free between the tiles keeps lines and textures that run on from one to the next from telling where a
    tile belongs.

    Args:
        tile_size: pixels of a tile's side, at most that of a cell; 64 of 85 in PIRL.

    Shape:
        - images: :math:`(B, C, H, W)`; what is left over where the grid does not divide them is cut off.
        - output: :math:`(B, S, C, h, h)` with S = 9 tiles, row by row, and h their side.
    """

    def __init__(self, tile_size: int) -> None:
        super().__init__()
        if tile_size < 1:
            raise ValueError(f"tile_size must be at least 1, got {tile_size}; three fit along a side: enlarge images.")
        self.tile_size = tile_size

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the tiles; the draw comes from torch's default generator."""
        cells = [side // SIDE for side in images.shape[-2:]]
        if images.ndim != 4 or min(cells) < self.tile_size:
            raise ValueError(
                f"images must be (B, C, H, W) and hold {SIDE} tiles of {self.tile_size} pixels along each "
                f"axis, got {tuple(images.shape)}; lower tile_size."
            )
        device, count = images.device, SIDE**2
        cell = torch.arange(count, device=device)
        within = torch.arange(self.tile_size, device=device)
        places = [
            (number * side + torch.randint(side - self.tile_size + 1, (len(images), count), device=device))[..., None]
            + within  # (B, S, h)
            for number, side in zip((cell // SIDE, cell % SIDE), cells, strict=True)
        ]
        image = torch.arange(len(images), device=device)[:, None, None, None]
        tiles = images.movedim(1, -1)[image, places[0][..., :, None], places[1][..., None, :]]  # (B, S, h, h, C)
        return tiles.movedim(-1, 2)
