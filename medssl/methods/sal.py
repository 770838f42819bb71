"""Self-supervised alignment learning: like places, and like windows of neighbouring slices, are alike."""

import torch
from torch import Tensor, nn

from medssl.losses import GlobalPositionalLoss, LocalAlignmentLoss
from medssl.losses.global_positional import positional_pairs
from medssl.methods.embed import embed
from medssl.methods.spread import collapse_metrics, spread


class SAL(nn.Module):
    r"""Pre-train an encoder by the positional and the local alignment loss on slices of two subjects.

    .. math:: \mathcal{L} = \frac{1}{2n} \sum_i \mathcal{L}_{pos,i}
        + \lambda \frac{1}{|P^A|} \sum_{(i,j) \in P^A} \mathcal{L}_{align}(i, j)

    with :math:`P^A` the ordered pairs of different samples of one volume closer than t of its depth.

    Args:
        encoder: image to list of features, finest first.
        head: pooled last features :math:`(n, C)` to embeddings :math:`(n, D)`.
        embedding: E, maps the aligned features :math:`(n, c, h, w)`, a 1x1 convolution in the paper.
        threshold: t of both losses; .35 for ACDC, .1 for CHD (from PCL, the paper gives none).
        temperature: of the positional loss.
        window_size: side of the windows in which a vector looks for its match; None for the whole plane.
        alignment_weight: :math:`\lambda`; 0 leaves the positional loss alone.
        level: which features are aligned, 0 the finest; the paper's s = 4 is 3, an eighth of the image's size.
        within_view: align different slices of one view only: where these share one spatial map, equal windows show
            equal anatomy.
        predictor: of a vector from its match, whose gradient is stopped, after SimSiam (Chen, He 2021): the match is no
            longer drawn along, and collapse no longer the way down. None for the paper's loss.

    Shape:
        - batch: ``view_1``, ``view_2`` :math:`(n, C, H, W)`; integers ``subject``, ``index``, ``depth`` :math:`(n)`;
          half of the slices of one subject, then half of another, as
          :py:class:`medssl.data.SubjectPairSampler` draws them.
        - output: scalars ``loss``, ``positional``, ``alignment``, ``spread`` and effective ``rank`` of the embeddings,
          ``local_spread`` of the aligned vectors.

    Raises:
        ValueError: if ``alignment_weight`` is negative; when called, for an odd number of slices.

    Reference:
        Li, Ouyang, Wan, Self-Supervised Alignment Learning for Medical Image Segmentation, arXiv:2406.15699.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        embedding: nn.Module,
        threshold: float = 0.35,
        temperature: float = 0.1,
        window_size: int | None = 2,
        alignment_weight: float = 1.0,
        level: int = 3,
        within_view: bool = False,
        predictor: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if alignment_weight < 0:
            raise ValueError(f"alignment_weight must not be negative, got {alignment_weight}; the paper takes 1.")
        self.encoder, self.head, self.embedding, self.predictor = encoder, head, embedding, predictor
        self.positional = GlobalPositionalLoss(threshold, temperature)
        self.alignment = LocalAlignmentLoss(window_size)
        self.alignment_weight, self.level = alignment_weight, level
        self.within_view = within_view

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss and what is worth watching."""
        if len(batch["view_1"]) % 2:
            raise ValueError(
                "a batch must have an even number of slices, half of them of each subject, got "
                f"{len(batch['view_1'])}; draw them by SubjectPairSampler."
            )
        views = [self.encoder(batch[view]) for view in ("view_1", "view_2")]
        embeddings = torch.cat([embed(self.head, features) for features in views])  # (2n, D)
        positional = self.positional(embeddings, batch["index"].repeat(2), batch["depth"].repeat(2))
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.alignment_weight != 0):  # at 0 only logged
            local = self.embedding(torch.cat([features[self.level] for features in views]))  # (2n, c, h, w)
            pairs = self.pairs(batch["subject"], batch["index"], batch["depth"])
            local = by_subject(local)
            if self.predictor is None:
                alignment = self.alignment(local, pairs)
            else:
                alignment = self.alignment(self.predictor(local), pairs, local.detach())
        return {
            "loss": positional + self.alignment_weight * alignment,
            "positional": positional.detach(),
            "alignment": alignment.detach(),
            **collapse_metrics(embeddings),
            "local_spread": spread(local.detach().movedim(1, -1).flatten(0, -2)),
        }

    def pairs(self, subject: Tensor, index: Tensor, depth: Tensor) -> Tensor:
        """Which ordered pairs of samples of each subject are aligned, :math:`(2, n, n)`."""
        view = torch.arange(2, device=subject.device).repeat_interleave(len(subject))
        subject, index, depth, view = (
            by_subject(x) for x in (subject.repeat(2), index.repeat(2), depth.repeat(2), view)
        )
        # In the sampler's order the subjects of a pair are equal; another order would lose pairs, not add wrong ones.
        pairs = positional_pairs(index, depth, self.positional.threshold) & (subject[:, None] == subject)
        if self.within_view:  # where a slice that was drawn twice is the same image
            pairs &= (view[:, None] == view) & (index[:, None] != index)
        pairs = pairs.fill_diagonal_(False).unflatten(0, (2, -1)).unflatten(2, (2, -1))  # (2, n, 2, n)
        return pairs.diagonal(dim1=0, dim2=2).movedim(-1, 0)


def by_subject(samples: Tensor) -> Tensor:
    """Reorder 2n samples from (view, subject, slice) to (subject, view, slice): pairs lie within subjects."""
    return samples.unflatten(0, (2, 2, -1)).transpose(0, 1).flatten(0, 2)
