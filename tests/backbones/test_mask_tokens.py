import torch
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip

from clipself.backbones.mask_tokens import embed_mask_tokens, patches_of


def test_a_mask_of_everything_is_the_class_token() -> None:
    for clip, side in ((tiny_openai_clip(), 32), (tiny_eva_clip(), 64)):
        images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
        masks = torch.full((2, 3, 4, 4), 5.0)
        embedded = embed_mask_tokens(clip, images, masks)
        whole = clip.encode_image(images, normalize=False)
        torch.testing.assert_close(embedded, whole[:, None].expand(-1, 3, -1), atol=2e-5, rtol=2e-5)


def test_masks_do_not_see_one_another_unless_their_logits_are_only_raised() -> None:
    clip = tiny_openai_clip()
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    masks = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    alone = torch.cat([embed_mask_tokens(clip, images, masks[:, place : place + 1]) for place in range(4)], dim=1)
    torch.testing.assert_close(embed_mask_tokens(clip, images, masks), alone, atol=1e-5, rtol=1e-5)
    raised = embed_mask_tokens(clip, images, masks, blocking="raised")
    assert float((raised - alone).abs().max()) > 1e-3


def test_one_pixel_is_enough_for_a_patch() -> None:
    masks = torch.full((1, 1, 16, 16), -9.0)
    masks[0, 0, 9, 2] = 9.0
    found = patches_of(masks, size=torch.Size((16, 16)), patch=8)
    assert found[0, 0].tolist() == [False, False, True, False]
