"""The decoder that a masked autoencoder needs while it learns, and nobody after that."""

import torch
from torch import Tensor, nn

from medssl.networks.vit import initialise, positions, transformer_layers


class MAEDecoder(nn.Module):
    r"""Restore the pixels of all patches from the encoded few.

    Args:
        in_features: length of an encoded token.
        patch_values: pixels times channels of a patch.
        hidden_size, mlp_dim, num_layers, num_heads: of the decoder's own transformer; those of the paper.

    Shape:
        - input: encoded class token and patches :math:`(B, 1 + K, D)`; ``order`` :math:`(B, L)`, the places of all
          patches, those of the K encoded ones first; ``grid``, patches along each axis.
        - output: :math:`(B, L, \text{patch\_values})`, row by row.

    Reference:
        He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, arXiv:2111.06377.
    """

    def __init__(
        self,
        in_features: int,
        patch_values: int,
        hidden_size: int = 512,
        mlp_dim: int = 2048,
        num_layers: int = 8,
        num_heads: int = 16,
    ) -> None:
        super().__init__()
        self.narrow = nn.Linear(in_features, hidden_size)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.layers = transformer_layers(num_layers, hidden_size, mlp_dim, num_heads)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-6)
        self.pixels = nn.Linear(hidden_size, patch_values)
        initialise(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, encoded: Tensor, order: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the pixels of every patch."""
        tokens = self.narrow(encoded)
        class_token, seen = tokens[:, :1], tokens[:, 1:]
        hidden = self.mask_token.to(seen.dtype).expand(len(seen), order.shape[1] - seen.shape[1], -1)
        listed = torch.cat([seen, hidden], dim=1)  # (B, L, D), in the order of the draw
        patches = listed.gather(1, order.argsort(dim=1)[..., None].expand_as(listed))
        patches = patches + positions(grid, patches.shape[2], patches.device)
        tokens = torch.cat([class_token, patches], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        restored: Tensor = self.pixels(self.norm(tokens[:, 1:]))
        return restored
