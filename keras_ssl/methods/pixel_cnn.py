"""PixelCNN: predict each value of an image from all values before it, by masked convolutions.

van den Oord, Kalchbrenner, Kavukcuoglu 2016, https://arxiv.org/abs/1601.06759 (sections 2, 3.3 and
3.4); gated: van den Oord et al. 2016, https://arxiv.org/abs/1606.05328. Departures from the
authors' code (none was published): rates of the optimizer, which the papers set by hand, follow a
cosine; by default a network for two cores.
"""

import keras
from keras import ops

from keras_ssl import distribute, optimizers, views
from keras_ssl.backbones import Backbone
from keras_ssl.backbones.backbone import check_image_shape
from keras_ssl.engine import SSLModel
from keras_ssl.layers.fixed_kernels import fixed_kernels
from keras_ssl.layers.masked_conv import GatedMaskedConv, MaskedConv2D, MaskedResidualBlock
from keras_ssl.methods import raster
from keras_ssl.ops import grey_values, to_unit_range

_FIRST_KERNEL = 7
_VALUES = 256


@keras.saving.register_keras_serializable("keras_ssl")
class PixelCNN(SSLModel):
    """Factorise p(x) over pixels in the order of rows, columns and colours; a softmax for each.

        L = mean_i sum_d -log p(x_id | x_i1, ..., x_i,d-1),    d = 1, ..., D = H W C,

    in nats an image; the likelihood of 8-bit images is exact. Each of the 256 values of a colour is
    a class. Masked convolutions give all D conditional distributions in one pass. Gated, there are
    two stacks of layers, one for the rows above and one for the row itself, which together see all
    pixels before; without gates one stack of k x k kernels (1601.06759) sees all but a blind spot:
    pixels above and far to the right, at any depth.

    `encode` gives the mean over places of the layer in the middle (the horizontal stack after half
    of the layers): those near the end know the next value alone. `log_prob`, `sample` and
    `complete` draw or measure 8-bit images.

    Args:
        input_shape: (height, width, channels) of the images.
        width: channels of each stack, at least one a colour.
        depth: number of layers after the first, 1 or more.
        kernel_size: k of these layers, odd; the first has 7.
        hidden: channels between the stacks and the softmax.
        gated: whether the layers are those of the gated PixelCNN.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of one float tensor `(batch, height, width, channels)` in [0, 1].

    Raises:
        ValueError: if an argument is outside its range.
    """

    family = "generative"
    likelihood_kind = "exact"
    short_run = optimizers.ShortRun(below=10_000, learning_rate=5e-3)
    image_side = 32
    rows_a_step = 1

    def __init__(
        self,
        input_shape,
        width: int = 24,
        depth: int = 2,
        kernel_size: int = 3,
        hidden: int = 32,
        gated: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.input_shape = check_image_shape(input_shape)
        self.width, self.depth, self.kernel_size = width, depth, kernel_size
        self.hidden, self.gated = hidden, gated
        _check(width, depth, kernel_size, hidden, self.input_shape[2])
        self.network, middle = _network(self.input_shape, width, depth, kernel_size, hidden, gated)
        self.backbone = Backbone(
            keras.Model(self.network.input, middle), name=f"{self.name}_features"
        )

    def compute_losses(self, batch, training):
        """Negative log-likelihood of the global batch, in nats an image."""
        (images,) = batch["views"]
        return {"loss": ops.mean(distribute.all_gather(self._nll(images, training)))}

    def log_prob(self, images, seed=0):
        """Log P of 8-bit images in nats, float32 `(batch,)`; exact, `seed` is not used."""
        return -self._nll(to_unit_range(images), training=False)

    def sample(self, count, seed=0, cached=True):
        """`count` images drawn value by value; a function of `seed`.

        Args:
            count: number of images.
            seed: of the noise, one uniform number a value.
            cached: whether a row goes on from what the rows above have left. If not, each value
                costs a forward pass over the image; the images are the same (in half precision, up
                to rounding).

        Returns:
            float32 in [0, 1], multiples of 1 / 255.
        """
        return raster.draw(self, raster.blank(self, count), 0, seed, cached)

    def complete(self, images, rows, seed=0, cached=True):
        """Images whose first `rows` rows are those of `images`, the others drawn; as `sample`."""
        return raster.draw(self, images, rows, seed, cached)

    def default_views(self, image_size):
        """The image, mirrored or not."""
        return views.plain(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        """RMSProp from 3e-4 along a cosine to zero; the papers do not tell their rates."""
        return keras.optimizers.RMSprop(optimizers.WarmupCosine(3e-4, total_steps))

    def _nll(self, images, training):
        """-log P, `(B,)`."""
        targets = ops.cast(grey_values(images), "int32")
        logits = self._logits(self.network(images, training=training))
        nats = ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)
        return ops.sum(nats, axis=(1, 2, 3))

    def _logits(self, maps):
        """`(..., C, 256)` from the network's output `(..., 256 C)`: groups are contiguous."""
        return ops.reshape(maps, (-1, *maps.shape[1:-1], self.input_shape[2], _VALUES))

    # === Drawing, as `methods.raster` asks for it ===

    @property
    def noise_a_pixel(self):
        """One uniform number a colour."""
        return self.input_shape[2]

    def start_rows(self, count):
        """Inputs of each layer in the rows above the image: zeros."""
        return [
            ops.zeros((count, layer.rows_above, self.input_shape[1], channels), layer.compute_dtype)
            for layer, channels in zip(self._stack(), self._kept_channels())
        ]

    def draw_rows(self, state, known, keep, noise):
        """The next row, `(B, 1, W, C)`, and `state` after it.

        Args:
            state: inputs of each layer in the rows above, as `start_rows` begins it.
            known: the row `(B, 1, W, C)` in [0, 1], where it is given.
            keep: bool `(1,)`, whether it is.
            noise: `(B, 1, W, C)`, uniform in [0, 1).
        """
        with fixed_kernels(self.network):
            return self._draw_row(state, known[:, 0], keep[0], noise[:, 0])

    def draw_pixel(self, images, row, column, noise):
        """Images with the pixel at (row, column) drawn, by a forward pass for each colour."""
        for c in range(self.input_shape[2]):
            logits = raster.at_pixel(self._logits(self.network(images)), row, column)
            pixel = raster.at_pixel(images, row, column)
            pixel = raster.with_colour(pixel, c, raster.value(logits[:, c], noise[:, c]))
            images = raster.with_pixel(images, row, column, pixel)
        return images

    def _draw_row(self, state, known, keep, noise):
        stack, sides, entering, vertical = self._stack(), [], [], None
        for layer, rows in zip(stack, state):
            side, vertical, row = layer.before_row(rows, vertical)
            sides.append(side)
            entering.append(row)
        known = ops.where(keep, known, -1.0)
        columns = [ops.swapaxes(x, 0, 1) for x in (*sides, known, noise)]

        def column(left, at):
            *side, given, u = at
            pixel, taken = self._draw(left[:-1], side, given, u)
            new = [ops.concatenate([old[:, 1:], x[:, None]], 1) for old, x in zip(left, taken)]
            return [*new, pixel], [*new, pixel]  # all that is carried is kept, as `scan` wants it

        left = [
            ops.zeros((known.shape[0], layer.columns_left, channels), layer.compute_dtype)
            for layer, channels in zip(stack, self._kept_channels())
        ]
        _, found = ops.scan(column, [*left, ops.zeros_like(known[:, 0])], columns)
        *taken, pixels = found
        state = [
            ops.concatenate([rows, _row(x) if row is None else row[:, None]], axis=1)[:, 1:]
            for rows, row, x in zip(state, entering, taken)
        ]
        return state, ops.swapaxes(pixels, 0, 1)[:, None]

    def _draw(self, left, side, given, noise):
        """A pixel `(B, C)`, and what each layer takes there; colours >= 0 in `given` stay."""
        pixel = ops.zeros_like(given)
        for c in range(self.input_shape[2]):
            logits, taken = self._logits_at(pixel, left, side)
            drawn = raster.value(logits[:, c], noise[:, c])
            drawn = ops.where(given[:, c] >= 0, given[:, c], drawn)
            pixel = raster.with_colour(pixel, c, drawn)
        # The last colour has no part in what layers take here, but for the first: it takes the
        # image.
        image = ops.cast(self.network.get_layer("scaled")(pixel), taken[0].dtype)
        return pixel, [image, *taken[1:]]

    def _logits_at(self, pixel, left, side):
        """Logits `(B, C, 256)` at a pixel of which some colours are known; what layers take."""
        x, kept = self.network.get_layer("scaled")(pixel), []
        for layer, taps, own in zip(self._stack(), left, side):
            x, taken = layer.pixel(ops.cast(x, layer.compute_dtype), taps, own)
            kept.append(taken)
        return self._logits(_output(self.network, x[:, None, None])[:, 0, 0]), kept

    def _stack(self):
        return [self.network.get_layer(f"layer_{i}") for i in range(self.depth + 1)]

    def _kept_channels(self):
        """Channels of what each layer keeps for the pixels that follow."""
        inner = self.width if self.gated else max(self.width // 2, self.input_shape[2])
        return [self.input_shape[2], *[inner] * self.depth]


def _network(shape, width, depth, kernel_size, hidden, gated):
    """The network from images in [0, 1] to logits `(B, H, W, 256 C)`, and its middle map."""
    groups = shape[2]
    images = keras.Input(shape, name="images")
    # In float32: the 256 values are not all different in half precision on [0, 1].
    x = keras.layers.Rescaling(2.0, -1.0, dtype="float32", name="scaled")(images)
    if gated:
        x = GatedMaskedConv(width, _FIRST_KERNEL, groups, first=True, name="layer_0")(x)
    else:
        x = MaskedConv2D(width, _FIRST_KERNEL, "A", groups, name="layer_0")(x)
    middle = None
    for i in range(1, depth + 1):
        make = GatedMaskedConv if gated else MaskedResidualBlock
        own = {"filters": width} if gated else {}
        x = make(kernel_size=kernel_size, groups=groups, name=f"layer_{i}", **own)(x)
        if i == (depth + 1) // 2:
            middle = x[1] if gated else x
    x = x[1] if gated else x
    x = keras.layers.ReLU(name="output_relu_0")(x)
    x = MaskedConv2D(hidden, 1, "B", groups, name="output_0")(x)
    x = keras.layers.ReLU(name="output_relu_1")(x)
    x = MaskedConv2D(_VALUES * groups, 1, "B", groups, dtype="float32", name="logits")(x)
    return keras.Model(images, x, name="pixel_cnn"), middle


def _output(network, x):
    """Logits of what the last layer of the stack gives."""
    for name in ("output_relu_0", "output_0", "output_relu_1", "logits"):
        x = network.get_layer(name)(x)
    return x


def _row(taken):
    """What was taken column by column, `(W, B, columns left, C)` with the newest last, as a row."""
    return ops.swapaxes(taken[:, :, -1], 0, 1)[:, None]


def _check(width, depth, kernel_size, hidden, colours):
    if width < colours or hidden < colours:
        raise ValueError(
            f"`width` and `hidden` must have a channel for each of the {colours} colours. "
            f"Received: width={width}, hidden={hidden}."
        )
    if depth < 1:
        raise ValueError(f"`depth` must be >= 1. Received: depth={depth}.")
    if kernel_size < 3 or kernel_size % 2 == 0:
        raise ValueError(
            f"`kernel_size` must be odd and >= 3. Received: kernel_size={kernel_size}."
        )
