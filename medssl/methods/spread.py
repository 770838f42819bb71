"""How far embeddings are from having collapsed to one point, or to few directions."""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def spread(embeddings: Tensor) -> Tensor:
    r"""Return the spread of directions, 1 for vectors that fill the sphere, 0 for vectors that all agree.

    .. math:: \sqrt{1 - \lVert \bar z \rVert^2} = \sqrt{d} \cdot \mathrm{std}(z)

    with :math:`z` the vectors scaled to unit length, :math:`\bar z` their mean, and the standard deviation taken over
    the vectors and averaged over the :math:`d` dimensions as a root mean square. Vectors of zeros are left out.

    Shape:
        - embeddings: :math:`(N, d)`; output: scalar.
    """
    z = F.normalize(embeddings.float(), dim=1)
    mean = z.sum(dim=0) / z.square().sum().clamp(min=1)
    return (1 - mean.square().sum()).clamp(min=0).sqrt()


@torch.no_grad()
def effective_rank(embeddings: Tensor) -> Tensor:
    r"""Return how many directions embeddings take up, 1 for vectors along one line, at most the lesser of N and d.

    .. math:: \frac{\left(\sum_i \lambda_i\right)^2}{\sum_i \lambda_i^2} = \frac{N^2}{\sum_{ij} (z_i \cdot z_j)^2}

    with :math:`z` the vectors scaled to unit length and :math:`\lambda` the eigenvalues of :math:`\sum_i z_i z_i^T`:
    the participation ratio. It takes no eigenvalues, for which a GPU would have to wait.

    Shape:
        - embeddings: :math:`(N, d)`; output: scalar.
    """
    z = F.normalize(embeddings.float(), dim=1)
    with torch.autocast(z.device.type, enabled=False):
        products = z @ z.mT if len(z) < z.shape[1] else z.mT @ z  # either has the sum of squares that is asked for
    return z.square().sum() ** 2 / products.square().sum().clamp(min=torch.finfo(z.dtype).tiny)  # 0 if all are 0


def extent(embeddings: Tensor) -> dict[str, Tensor]:
    """Return the scalars that tell of collapse: ``spread``, to a point, and ``rank``, to few directions."""
    return {"spread": spread(embeddings), "rank": effective_rank(embeddings)}
