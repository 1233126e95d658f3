"""The grid behind a sequence of tokens."""

from collections.abc import Sequence

_PREFIXES = (1, 5, 0)  # class token; class token and four registers (DINOv2); neither


def token_grid(num_patches: int, image_shape: Sequence[int]) -> tuple[int, int] | None:
    """(h, w) of `num_patches` in the proportions of an image (H, W, ...), or None.

    Sides that the patch size does not divide are cut off, so proportions hold to within one patch.
    """
    height, width = image_shape[:2]
    rows = round((max(num_patches, 0) * height / width) ** 0.5)
    if rows < 1 or num_patches % rows:
        return None
    columns = num_patches // rows
    return (rows, columns) if abs(rows * width - columns * height) < max(height, width) else None


def token_prefix(
    num_tokens: int | None, image_shape: Sequence[int], known: int | None = None
) -> int:
    """Number of tokens before those of the grid: 1, 5 or 0, whichever leaves a grid, in this order.

    Args:
        num_tokens: of the network.
        image_shape: (H, W, ...).
        known: the number, where it is known; then it is checked alone.

    Raises:
        ValueError: if none does.
    """
    for prefix in _PREFIXES if known is None else (known,):
        if num_tokens is not None and token_grid(num_tokens - prefix, image_shape):
            return prefix
    raise ValueError(
        "`network` gives tokens, which must be a grid in the proportions of the image, with a "
        "class token (and four registers) before it or not. "
        f"Received: {num_tokens} tokens for images {tuple(image_shape)}. "
        "End the network with its feature map or with pooling."
    )
