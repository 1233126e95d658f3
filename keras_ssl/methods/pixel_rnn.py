"""PixelRNN: predict each value of an image from all values before it, by recurrent layers.

van den Oord, Kalchbrenner, Kavukcuoglu 2016, https://arxiv.org/abs/1601.06759. Departures from the
authors' code (none was published): those of the layers; rates of the optimizer, which the paper
sets by hand, follow a cosine; by default a network for two cores, of 2 layers of 32 units (the
paper's for CIFAR-10: 12 of 128).
"""

import keras
from keras import ops

from keras_ssl import distribute, optimizers, views
from keras_ssl.backbones import Backbone
from keras_ssl.backbones.backbone import check_image_shape
from keras_ssl.engine import SSLModel
from keras_ssl.layers.fixed_kernels import fixed_kernels
from keras_ssl.layers.masked_conv import MaskedConv2D
from keras_ssl.layers.pixel_lstm import DiagonalBiLSTM, RowLSTM
from keras_ssl.methods import raster
from keras_ssl.ops import grey_values, to_unit_range

LSTMS = {"diagonal": DiagonalBiLSTM, "row": RowLSTM}
_FIRST_KERNEL = 7
_VALUES = 256


@keras.saving.register_keras_serializable("keras_ssl")
class PixelRNN(SSLModel):
    """Factorise p(x) over pixels in the order of rows, columns and colours; a softmax for each.

        L = mean_i sum_d -log p(x_id | x_i1, ..., x_i,d-1),    d = 1, ..., D = H W C,

    in nats an image; the likelihood of 8-bit images is exact. A masked 7x7 convolution, then
    residual LSTM layers: "diagonal" (Diagonal BiLSTM), which sees all pixels before in its first
    layer, or "row" (Row LSTM), faster, which sees a triangle above; then two masked 1x1
    convolutions. A layer takes H + W - 1 steps, or H, one after the other: slower than `PixelCNN`.

    `encode` gives the mean over places of what the LSTM layer in the middle gives: those near the
    end know the next value alone. `log_prob`, `sample` and `complete` draw or measure 8-bit images.

    Args:
        input_shape: (height, width, channels) of the images.
        lstm: "diagonal" or "row".
        units: width of the states, at least one a colour; maps between layers have twice as many.
        depth: number of LSTM layers, 1 or more.
        hidden: channels between the layers and the softmax.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of one float tensor `(batch, height, width, channels)` in [0, 1].

    Raises:
        ValueError: if an argument is outside its range.
    """

    family = "generative"
    likelihood_kind = "exact"
    image_side = 32
    short_run = optimizers.ShortRun(below=10_000, learning_rate=2e-3)
    rows_a_step = 1

    def __init__(
        self,
        input_shape,
        lstm: str = "diagonal",
        units: int = 32,
        depth: int = 2,
        hidden: int = 32,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.input_shape = check_image_shape(input_shape)
        self.lstm, self.units, self.depth, self.hidden = lstm, units, depth, hidden
        _check(lstm, units, depth, hidden, self.input_shape[2])
        self.network, middle = _network(self.input_shape, LSTMS[lstm], units, depth, hidden)
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
        """`count` images drawn value by value, float32 multiples of 1 / 255; a function of `seed`.

        Args:
            count: number of images.
            seed: of the noise, one uniform number a value.
            cached: whether states are carried on from pixel to pixel. If not, each value costs a
                forward pass over the image; the images are the same.
        """
        return raster.draw(self, raster.blank(self, count), 0, seed, cached)

    def complete(self, images, rows, seed=0, cached=True):
        """Images whose first `rows` rows are those of `images`, the others drawn; as `sample`."""
        return raster.draw(self, images, rows, seed, cached)

    def default_views(self, image_size):
        """The image, mirrored or not."""
        return views.plain(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        """RMSProp from 3e-4 along a cosine to zero; the paper does not tell its rates."""
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
        """The rows of the image under the first kernel, and the states of each layer: zeros."""
        _, width, channels = self.input_shape
        first = self.network.get_layer("first")
        rows = ops.zeros((count, first.rows_above, width, channels), "float32")
        return [rows, [layer.start(count, width) for layer in self._recurrent()]]

    def draw_rows(self, state, known, keep, noise):
        """The next row, `(B, 1, W, C)`, and `state` after it; see `PixelCNN.draw_rows`."""
        with fixed_kernels(self.network):
            return self._draw_row(*state, known[:, 0], keep[0], noise[:, 0])

    def _draw_row(self, rows, states, known, keep, noise):
        first, layers = self.network.get_layer("first"), self._recurrent()
        sides = [first.above(ops.cast(rows, first.compute_dtype))]
        sides += [layer.before_row(own) for layer, own in zip(layers, states)]
        known = ops.where(keep, known, -1.0)
        count, (_, _, channels) = known.shape[0], self.input_shape
        left = [ops.zeros((count, first.columns_left, channels), "float32")]
        left += [ops.zeros((count, layer.kept), layer.compute_dtype) for layer in layers]

        def column(left, at):
            *side, given, u = at
            pixel, kept = self._draw(left, side, given, u)
            pixels = ops.concatenate([left[0][:, 1:], self._scaled(pixel)[:, None]], axis=1)
            return [pixels, *kept], [pixels, *kept]  # `scan` wants both of one form

        columns = [ops.swapaxes(x, 0, 1) for x in (*sides, known, noise)]
        _, found = ops.scan(column, left, columns)
        scaled, *taken = (ops.swapaxes(x, 0, 1) for x in found)
        scaled = scaled[:, :, -1]
        states = [layer.after_row(own, kept) for layer, own, kept in zip(layers, states, taken)]
        rows = ops.concatenate([rows[:, 1:], scaled[:, None]], axis=1)
        return [rows, states], grey_values((scaled[:, None] + 1.0) / 2.0) / 255.0

    def draw_pixel(self, images, row, column, noise):
        """Images with the pixel at (row, column) drawn, by a forward pass for each colour."""
        for c in range(self.input_shape[2]):
            logits = raster.at_pixel(self._logits(self.network(images)), row, column)
            pixel = raster.at_pixel(images, row, column)
            pixel = raster.with_colour(pixel, c, raster.value(logits[:, c], noise[:, c]))
            images = raster.with_pixel(images, row, column, pixel)
        return images

    def _draw(self, left, side, given, noise):
        """A pixel `(B, C)`, and what each layer keeps of it; colours >= 0 in `given` stay."""
        pixel = ops.zeros_like(given)
        for c in range(self.input_shape[2]):
            logits, kept = self._at(pixel, left, side)
            drawn = raster.value(logits[:, c], noise[:, c])
            drawn = ops.where(given[:, c] >= 0, given[:, c], drawn)
            pixel = raster.with_colour(pixel, c, drawn)
        return pixel, kept  # the last colour has no part in it: no layer sees it at its own pixel

    def _at(self, pixel, left, side):
        """Logits `(B, C, 256)` at a pixel of which some colours are known; what layers keep."""
        first = self.network.get_layer("first")
        own, taps = (ops.cast(x, first.compute_dtype) for x in (self._scaled(pixel), left[0]))
        x, kept = side[0] + first.here(own, taps), []
        for layer, old, given in zip(self._recurrent(), left[1:], side[1:]):
            x, new = layer.pixel(x, old, given)
            kept.append(new)
        return self._logits(_output(self.network, x[:, None, None])[:, 0, 0]), kept

    def _scaled(self, values):
        return self.network.get_layer("scaled")(values)

    def _recurrent(self):
        return [self.network.get_layer(f"lstm_{i}") for i in range(1, self.depth + 1)]


def _network(shape, lstm, units, depth, hidden):
    """The network from images in [0, 1] to logits `(B, H, W, 256 C)`, and its middle map."""
    groups = shape[2]
    images = keras.Input(shape, name="images")
    # In float32: the 256 values are not all different in half precision on [0, 1].
    x = keras.layers.Rescaling(2.0, -1.0, dtype="float32", name="scaled")(images)
    x = MaskedConv2D(2 * units, _FIRST_KERNEL, "A", groups, name="first")(x)
    middle = None
    for i in range(1, depth + 1):
        x = lstm(units, groups, name=f"lstm_{i}")(x)
        if i == (depth + 1) // 2:
            middle = x
    x = keras.layers.ReLU(name="output_relu_0")(x)
    x = MaskedConv2D(hidden, 1, "B", groups, name="output_0")(x)
    x = keras.layers.ReLU(name="output_relu_1")(x)
    x = MaskedConv2D(_VALUES * groups, 1, "B", groups, dtype="float32", name="logits")(x)
    return keras.Model(images, x, name="pixel_rnn"), middle


def _output(network, x):
    """Logits of what the last LSTM layer gives."""
    for name in ("output_relu_0", "output_0", "output_relu_1", "logits"):
        x = network.get_layer(name)(x)
    return x


def _check(lstm, units, depth, hidden, colours):
    if lstm not in LSTMS:
        raise ValueError(f"`lstm` must be one of {tuple(LSTMS)}. Received: lstm={lstm!r}.")
    if units < colours or hidden < colours:
        raise ValueError(
            f"`units` and `hidden` must have a channel for each of the {colours} colours. "
            f"Received: units={units}, hidden={hidden}."
        )
    if depth < 1:
        raise ValueError(f"`depth` must be >= 1. Received: depth={depth}.")
