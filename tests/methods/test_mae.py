import pytest
import torch

from medssl.methods import MAE
from medssl.methods.mae import patchify
from medssl.networks import MAEDecoder, ViTEncoder


def make_mae(**options):
    torch.manual_seed(0)
    encoder = ViTEncoder(patch_size=8, hidden_size=16, mlp_dim=32, num_layers=4)
    return MAE(encoder, MAEDecoder(16, 64, hidden_size=16, mlp_dim=32, num_layers=1, num_heads=2), **options)


@pytest.mark.usefixtures("double")
def test_two_steps_equal_those_by_hand(make_batch, assert_two_steps_equal):
    """The masked patches, and what the decoder is given, are put together patch by patch."""
    images = make_batch()["view_1"]  # 4 x 4 patches, 4 of them seen

    def loss_by_hand(method):
        torch.manual_seed(3)
        order = torch.rand(4, 16).argsort(dim=1)
        total = 0.0
        for i in range(4):
            tokens = method.encoder.embed(images[i : i + 1])
            encoded = method.encoder.encode(tokens[:, order[i, :4]])[-1]
            restored = method.decoder(encoded, order[i : i + 1], (4, 4))[0]
            for place in order[i, 4:].tolist():
                row, column = divmod(place, 4)
                pixels = images[i, 0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].flatten()
                mean = pixels.sum() / 64
                deviation = ((pixels - mean).square().sum() / 63 + 1e-6).sqrt()
                total = total + (restored[place] - (pixels - mean) / deviation).square().sum() / 64
        return total / (4 * 12)

    method = make_mae()
    forward = method.forward

    def seeded(batch):
        torch.manual_seed(3)
        return forward(batch)

    method.forward = seeded
    assert_two_steps_equal(method, {"view_1": images}, loss_by_hand)


def test_what_is_masked_reaches_neither_the_encoder_nor_what_it_makes_of_the_rest(make_batch):
    method, images = make_mae().eval(), make_batch()["view_1"]
    torch.manual_seed(3)
    hidden = torch.rand(4, 16).argsort(dim=1)[:, 4:]
    changed = images.clone()
    for i in range(4):
        for row, column in (divmod(place, 4) for place in hidden[i].tolist()):
            changed[i, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 5
    restored = []
    method.decoder.register_forward_hook(lambda _, inputs, output: restored.append(output))
    for given in (images, changed):
        torch.manual_seed(3)
        method({"view_1": given})
    torch.testing.assert_close(*restored)


def test_patches_come_row_by_row_their_pixels_before_their_channels():
    images = torch.arange(2 * 4 * 6.0).view(1, 2, 4, 6)
    patches = patchify(images, 2)
    assert patches.shape == (1, 6, 8)
    assert patches[0, 4].tolist() == [images[0, c, 2 + p, 2 + q] for p in (0, 1) for q in (0, 1) for c in (0, 1)]


def test_refuses_shares_that_leave_nothing_and_other_encoders(make_batch):
    with pytest.raises(ValueError, match=r"mask_ratio must lie between 0 and 1, got 1; the paper takes 0.75"):
        make_mae(mask_ratio=1)
    with pytest.raises(ValueError, match=r"no patch of 16 would be seen at a mask_ratio of 0.95; lower it"):
        make_mae(mask_ratio=0.95)(make_batch())
    with pytest.raises(TypeError, match="encoder must be a ViTEncoder, got Identity"):
        MAE(torch.nn.Identity(), torch.nn.Identity())
