"""How far embeddings are from having collapsed to one point, or to few directions."""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def spread(embeddings: Tensor) -> Tensor:
    r"""Return the spread of directions, 1 for vectors that fill the sphere, 0 for vectors that all agree.

    .. math:: \sqrt{1 - \lVert \bar z \rVert^2} = \sqrt{d} \cdot \mathrm{std}(z)

    with :math:`z` the vectors scaled to unit length, :math:`\bar z` their mean, and the standard deviation taken over
    the vectors and averaged over the :math:`d` dimensions as a root mean square. Vectors of zeros are left out; where
    there are no others it is 0.

    Shape:
        - embeddings: :math:`(N, d)`, or several such sets, over which the mean is taken; output: scalar.
    """
    z = F.normalize(embeddings.float(), dim=-1)
    count = z.square().sum(dim=(-2, -1))
    mean = z.sum(dim=-2) / count.clamp(min=1)[..., None]
    return ((count > 0).float() - mean.square().sum(dim=-1)).clamp(min=0).sqrt().mean()


@torch.no_grad()
def effective_rank(embeddings: Tensor) -> Tensor:
    r"""Return how many directions embeddings take up, 1 for vectors along one line, at most the lesser of N and d.

    .. math:: \frac{\left(\sum_i \lambda_i\right)^2}{\sum_i \lambda_i^2} = \frac{N^2}{\sum_{ij} (z_i \cdot z_j)^2}

    with :math:`z` the vectors scaled to unit length and :math:`\lambda` the eigenvalues of :math:`\sum_i z_i z_i^T`:
    the participation ratio. It takes no eigenvalues, for which a GPU would have to wait.

    Shape:
        - embeddings: :math:`(N, d)`, or several such sets, over which the mean is taken; output: scalar.
    """
    z = F.normalize(embeddings.float(), dim=-1)
    with torch.autocast(z.device.type, enabled=False):
        products = z @ z.mT if z.shape[-2] < z.shape[-1] else z.mT @ z  # either has the sum of squares asked for
    squares = products.square().sum(dim=(-2, -1)).clamp(min=torch.finfo(z.dtype).tiny)  # the rank is 0 if all are 0
    return (z.square().sum(dim=(-2, -1)) ** 2 / squares).mean()


def collapse_metrics(embeddings: Tensor) -> dict[str, Tensor]:
    """Return the scalars that tell of collapse: ``spread``, to a point, and ``rank``, to few directions."""
    return {"spread": spread(embeddings), "rank": effective_rank(embeddings)}
