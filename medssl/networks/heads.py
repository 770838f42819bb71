"""Heads that pre-training puts on an encoder, and leaves behind."""

from torch import Tensor, nn


def linear_head(in_features: int, out_features: int = 512, norm: bool = False) -> nn.Sequential:
    """Return one linear layer, the head of SAL and of MoCo v1.

    Args:
        in_features: channels of the encoder's last features.
        out_features: length of the embedding; SAL gives none, MoCo 128.
        norm: batch normalisation without parameters in front, see :py:func:`mlp_head`.

    Shape:
        - input: (B, in_features), output: (B, out_features).

    Reference:
        Li, Ouyang, Wan, Self-Supervised Alignment Learning for Medical Image Segmentation, arXiv:2406.15699; He et al.,
        Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020.
    """
    return nn.Sequential(*input_norm(in_features, norm), nn.Linear(in_features, out_features))


def mlp_head(in_features: int, out_features: int = 512, norm: bool = False) -> nn.Sequential:
    """Return the head of PCL and of MoCo v2: linear, ReLU, linear, the hidden layer as wide as the input.

    Args:
        in_features: channels of the encoder's last features.
        out_features: length of the embedding.
        norm: batch normalisation without parameters in front. Pooled features are positive and much alike; at small
            widths their cosines are all near 1 and the loss starts, and stays, at its collapse constant.

    Shape:
        - input: (B, in_features), output: (B, out_features).

    Reference:
        Zeng et al., Positional Contrastive Learning for Volumetric Medical Image Segmentation, MICCAI 2021; Chen
        et al., Improved Baselines with Momentum Contrastive Learning, arXiv:2003.04297.
    """
    hidden = nn.Linear(in_features, in_features)
    return nn.Sequential(*input_norm(in_features, norm), hidden, nn.ReLU(), nn.Linear(in_features, out_features))


def simsiam_head(in_features: int, out_features: int = 2048) -> nn.Sequential:
    """Return SimSiam's projection: three linear layers, each normalised over the batch, the last one without a scale.

    Args:
        in_features: channels of the encoder's last features.
        out_features: length of the embedding, and of the hidden layers.

    Shape:
        - input: (B, in_features), output: (B, out_features).

    Reference:
        Chen, He, Exploring Simple Siamese Representation Learning, CVPR 2021.
    """
    return nn.Sequential(
        nn.Linear(in_features, out_features, bias=False),
        nn.BatchNorm1d(out_features),
        nn.ReLU(),
        nn.Linear(out_features, out_features, bias=False),
        nn.BatchNorm1d(out_features),
        nn.ReLU(),
        nn.Linear(out_features, out_features, bias=False),
        nn.BatchNorm1d(out_features, affine=False),
    )


def byol_head(in_features: int, out_features: int = 256, hidden_features: int = 4096) -> nn.Sequential:
    """Return BYOL's projection, and its predictor: linear, batch normalisation, ReLU, linear.

    Args:
        in_features: channels of the encoder's last features, or length of the embedding.
        out_features: length of the embedding.
        hidden_features: width of the hidden layer.

    Shape:
        - input: (B, in_features), output: (B, out_features).

    Reference:
        Grill et al., Bootstrap Your Own Latent, NeurIPS 2020.
    """
    hidden = nn.Linear(in_features, hidden_features)
    return nn.Sequential(hidden, nn.BatchNorm1d(hidden_features), nn.ReLU(), nn.Linear(hidden_features, out_features))


def simsiam_predictor(features: int) -> nn.Sequential:
    """Return SimSiam's predictor of one embedding from another: a bottleneck of a quarter of the features.

    Args:
        features: length of the embeddings, a multiple of 4.

    Shape:
        - input: (B, features), output: (B, features).

    Reference:
        Chen, He, Exploring Simple Siamese Representation Learning, CVPR 2021.
    """
    hidden = features // 4
    bottleneck = nn.Linear(features, hidden, bias=False)
    return nn.Sequential(bottleneck, nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, features))


def gcl_local_head(in_features: int, out_features: int = 128) -> nn.Sequential:
    """Return the head of GCL's second stage, at every place of a map: linear, normalised, ReLU, linear.

    Args:
        in_features: channels of the decoder's map, and of the hidden layer.
        out_features: length of the vector of a place.

    Shape:
        - input: (B, in_features, H, W), output: (B, out_features, H, W).

    Reference:
        Chaitanya et al., Contrastive Learning of Global and Local Features for Medical Image Segmentation with Limited
        Annotations, NeurIPS 2020.
    """
    hidden = nn.Conv2d(in_features, in_features, 1, bias=False)
    return nn.Sequential(hidden, nn.BatchNorm2d(in_features), nn.ReLU(), nn.Conv2d(in_features, out_features, 1))


def relative_location_head(in_features: int, hidden_features: int = 4096, dropout: float = 0.5) -> nn.Sequential:
    """Return a classifier of eight places from the features of two tiles: linear, normalised, ReLU, dropout, linear.

    Args:
        in_features: channels of the encoder's last features, of one tile.
        hidden_features: width of the hidden layer.
        dropout: probability of losing one of its features.

    Shape:
        - input: (B, 2 in_features), output: (B, 8).

    Reference:
        Doersch, Gupta, Efros, Unsupervised Visual Representation Learning by Context Prediction, ICCV 2015; widths of
        OpenMMLab's recipe.
    """
    hidden = nn.Linear(2 * in_features, hidden_features)
    norm = nn.BatchNorm1d(hidden_features, momentum=0.003)
    return nn.Sequential(hidden, norm, nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden_features, 8))


class Pointwise(nn.Module):
    """Apply a head for pooled features at every place of a map, with the same weights.

    Args:
        head: :math:`(n, C)` to :math:`(n, D)`.

    Shape:
        - input: :math:`(B, C, *)`, output: :math:`(B, D, *)`.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        """Return the embedding of every place."""
        places = features.movedim(1, -1)  # (B, *, C)
        embedded: Tensor = self.head(places.flatten(0, -2))
        return embedded.unflatten(0, places.shape[:-1]).movedim(-1, 1)


def input_norm(features: int, norm: bool) -> list[nn.Module]:
    """Batch normalisation without parameters, or nothing."""
    return [nn.BatchNorm1d(features, affine=False)] if norm else []
