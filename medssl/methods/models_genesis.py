"""Models Genesis: a slice is restored from what shuffling, bending of intensities and painting have left of it."""

import torch.nn.functional as F
from torch import Tensor, nn


class ModelsGenesis(nn.Module):
    r"""Pre-train an encoder and a decoder by restoring damaged images.

    .. math:: \mathcal{L} = \operatorname{mean} \left(\sigma(h(x')) - x\right)^2

    with :math:`x'` the damaged image, x the image in [0, 1], :math:`\sigma` the logistic function.

    The method is the subject of a patent application of its authors' university: ask there before commercial use.

    Args:
        encoder: image to list of features, finest first.
        decoder: that list to one map at the image's size.
        head: that map to the logits of the intensities :math:`(n, C, *)`.

    Shape:
        - batch: ``view_1`` :math:`(n, C, *)`, damaged; ``target`` :math:`(n, C, *)`, in [0, 1].
        - output: scalar ``loss``.

    Reference:
        Zhou et al., Models Genesis, Medical Image Analysis 2021, arXiv:2004.07882.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder, self.head = encoder, decoder, head

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss."""
        restored = self.head(self.decoder(self.encoder(batch["view_1"]))).float().sigmoid()
        return {"loss": F.mse_loss(restored, batch["target"].float())}
