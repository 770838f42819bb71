"""How far embeddings are from having collapsed to one point."""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def spread(embeddings: Tensor) -> Tensor:
    r"""Return the spread of directions, 1 for vectors that fill the sphere, 0 for vectors that all agree.

    .. math:: \sqrt{1 - \lVert \bar z \rVert^2} = \sqrt{d} \cdot \mathrm{std}(z)

    with :math:`z` the vectors scaled to unit length, :math:`\bar z` their mean, and the standard deviation taken over
    the vectors and averaged over the :math:`d` dimensions as a root mean square.

    Shape:
        - embeddings: :math:`(N, d)`; output: scalar.
    """
    mean = F.normalize(embeddings.float(), dim=1).mean(dim=0)
    return (1 - mean.square().sum()).clamp(min=0).sqrt()
