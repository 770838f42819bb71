"""Masked autoencoder: a quarter of a slice's patches is seen, the others are restored."""

import torch
from torch import Tensor, nn

from medssl.networks.mae_decoder import MAEDecoder
from medssl.networks.vit import ViTEncoder


class MAE(nn.Module):
    r"""Pre-train a vision transformer by restoring the patches that it was not shown.

    .. math:: \mathcal{L} = \operatorname{mean}_{i \text{ masked}} \frac{1}{p^2 C} \lVert \hat x_i - x_i \rVert^2

    with :math:`x_i` the pixels of patch i, brought to mean 0 and variance 1 (unbiased, 1e-6 added) within the patch.

    Args:
        encoder: the vision transformer; sees the other patches alone.
        decoder: restores all of them.
        mask_ratio: share of the patches that are masked.

    Shape:
        - batch: ``view_1`` :math:`(n, C, H, W)`.
        - output: scalar ``loss``.

    Raises:
        TypeError: if the encoder is no :py:class:`medssl.networks.ViTEncoder`.
        ValueError: if ``mask_ratio`` does not lie between 0 and 1; when called, if it leaves no patch to be seen.

    Reference:
        He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, arXiv:2111.06377.
    """

    def __init__(self, encoder: ViTEncoder, decoder: MAEDecoder, mask_ratio: float = 0.75) -> None:
        super().__init__()
        if not 0 < mask_ratio < 1:
            raise ValueError(f"mask_ratio must lie between 0 and 1, got {mask_ratio}; the paper takes 0.75.")
        if not isinstance(encoder, ViTEncoder):
            raise TypeError(
                f"encoder must be a ViTEncoder, got {type(encoder).__name__}; list no other network after mae."
            )
        self.encoder, self.decoder, self.mask_ratio = encoder, decoder, mask_ratio

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss."""
        images, size = batch["view_1"], self.encoder.patch_size
        tokens = self.encoder.embed(images)  # (n, L, D)
        count, length = tokens.shape[:2]
        kept = int(length * (1 - self.mask_ratio))
        if kept < 1:
            raise ValueError(f"no patch of {length} would be seen at a mask_ratio of {self.mask_ratio}; lower it.")
        order = torch.rand(count, length, device=images.device).argsort(dim=1)
        seen = tokens.gather(1, order[:, :kept, None].expand(-1, -1, tokens.shape[2]))
        grid = (images.shape[2] // size, images.shape[3] // size)
        restored = self.decoder(self.encoder.encode(seen)[-1], order, grid).float()  # (n, L, p p C)
        target = patchify(images, size).float()
        variance, mean = torch.var_mean(target, dim=2, keepdim=True)
        target = (target - mean) / (variance + 1e-6).sqrt()
        error = (restored - target).square().mean(dim=2)  # (n, L)
        return {"loss": error.gather(1, order[:, kept:]).mean()}


def patchify(images: Tensor, size: int) -> Tensor:
    """Return the pixels of every patch :math:`(n, L, p p C)`, patches row by row, then pixels, then channels."""
    patches = images.unfold(2, size, size).unfold(3, size, size)  # (n, C, h, w, p, p)
    return patches.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
