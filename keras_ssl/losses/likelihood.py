"""Negative log-likelihoods of images, in nats: one number an image, summed over its dimensions.

Dimensions are summed, never averaged, so that terms of one bound (likelihood and Kullback-Leibler
divergence) keep their weights; the mean over the batch is the caller's.
"""

import math
from typing import Any

from keras import ops

from keras_ssl.ops import grey_values

_LOWEST_LOG_SCALE = -7.0  # of a logistic on [-1, 1]: a grey value then has 97 % of the mass
_HIGHEST_LOG_SCALE = 30.0  # where all values are equal to the last digit, and the next would be 0


def bernoulli(images: Any, logits: Any, weights: Any = 1.0) -> Any:
    """Cross-entropy of independent binary pixels: -log p(x) for x in {0, 1}.

        sum_d  max(a_d, 0) - a_d x_d + log(1 + exp(-|a_d|)),    a = logits.

    For grey values between 0 and 1 the same sum is a score without a normalising constant, not a
    likelihood (Loaiza-Ganem and Cunningham 2019, https://arxiv.org/abs/1907.06845).
    Departures from the authors' code: none known; Kingma and Welling 2013,
    https://arxiv.org/abs/1312.6114, appendix C.1, gives the formula.

    Args:
        images: `(B, ...)`, float in [0, 1].
        logits: log-odds of white, of the same shape.
        weights: factor of each term of the sum, of a shape that broadcasts.

    Returns:
        float32 `(B,)`, >= 0, in nats.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_shapes(images, logits=logits)
    x, a = _float32(images, logits)
    return _sum(weights * (ops.maximum(a, 0.0) - a * x + ops.softplus(-ops.abs(a))))


def squared_error(images: Any, mean: Any, weights: Any = 1.0) -> Any:
    """Sum of squared differences, sum_d (x_d - m_d)^2.

    Twice the negative log-density of a Gaussian of variance 1, up to a constant.

    Args:
        images: `(B, ...)`, float.
        mean: of the same shape.
        weights: factor of each term of the sum, of a shape that broadcasts.

    Returns:
        float32 `(B,)`, >= 0, in the square of the images' unit.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_shapes(images, mean=mean)
    x, m = _float32(images, mean)
    return _sum(weights * ops.square(x - m))


def gaussian(images: Any, mean: Any, log_scale: Any) -> Any:
    """Negative log-density of a diagonal Gaussian.

        sum_d  ((x_d - m_d) / s_d)^2 / 2 + log s_d + log(2 pi) / 2,    s = exp(log_scale).

    A density: it can be negative. It bounds the probability of 8-bit values only for images with
    uniform noise on them: with y = (k + u) / 256, -log P(k) <= E_u[this value at y] + D log 256.

    Args:
        images: `(B, ...)`, float.
        mean: of the same shape.
        log_scale: log of the standard deviation, of a shape that broadcasts to it.

    Returns:
        float32 `(B,)`, in nats.

    Raises:
        ValueError: if the shapes of images and mean differ.
    """
    _check_shapes(images, mean=mean)
    x, m, log_s = _float32(images, mean, log_scale)
    standardised = (x - m) * ops.exp(-log_s)
    return _sum(0.5 * ops.square(standardised) + log_s + 0.5 * math.log(2 * math.pi))


def discretized_logistic(images: Any, mean: Any, log_scale: Any) -> Any:
    """-log P of 8-bit values: a logistic distribution on [-1, 1], cut into 256 bins.

    With x the grey value on the grid -1, -1 + 2/255, ..., 1, s = exp(log_scale),
    a = (x - m + 1/255) / s and b = (x - m - 1/255) / s the ends of its bin,

        P(x) = sigmoid(a) - sigmoid(b),    sigmoid(a) at x = -1,    1 - sigmoid(b) at x = 1,

    so the outer bins hold the tails and the 256 probabilities sum to 1 for any mean. Inside, log P
    is -softplus(-a) - softplus(b) + log(1 - exp(-2 / (255 s))), exact wherever the bin lies.

    Salimans et al. 2017, https://arxiv.org/abs/1701.05517, section 2.1, with one component.
    Departures from the authors' code: the closed form in the place of a density approximation where
    the difference underflows.

    Args:
        images: `(B, ...)`, float in [0, 1]; rounded to k / 255 here.
        mean: m, of the same shape, on the scale from -1 (black) to 1 (white); may lie outside.
        log_scale: log s on that scale, of a shape that broadcasts; below -7 it counts as -7.

    Returns:
        float32 `(B,)`, >= 0, in nats; D log 256 for a distribution that is uniform.

    Raises:
        ValueError: if the shapes of images and mean differ.
    """
    _check_shapes(images, mean=mean)
    x, m, log_s = _float32(images, mean, log_scale)
    return -_sum(_log_bins(grey_values(x), m, log_s, 256))


def discretized_logistic_mixture(images: Any, parameters: Any, levels: int = 256) -> Any:
    """-log P of pixels: a mixture of M logistics for all colours of a pixel, cut into bins.

        P(r, g, b) = sum_k w_k P(r; m_1k) P(g; m_2k + a_k r) P(b; m_3k + b_k r + c_k g),

    with the bins of `discretized_logistic`, scales exp(log_scale) of each colour and component, and
    w the softmax of the logits. Colours on the right are true values on the scale from -1 to 1;
    a, b and c are in (-1, 1). Of grey images there are no coefficients.

    Salimans et al. 2017, https://arxiv.org/abs/1701.05517, sections 2.1 and 2.2. Departures from
    the authors' code: the closed form in the place of a density approximation where the difference
    underflows.

    Args:
        images: `(..., C)` with C 3 or 1, float in [0, 1]; rounded to the grid of `levels`.
        parameters: `(..., 10 M)`, or `(..., 3 M)` for one colour: M logits, then for each colour M
            means, M log-scales (below -7 they count as -7) and, of three colours, M coefficients,
            of which tanh is taken: a, b and c stand with red, green and blue.
        levels: number of values of a colour, 256 for 8 bits.

    Returns:
        float32 of the shape of `images` without its last axis, >= 0, in nats a pixel.

    Raises:
        ValueError: if the shapes do not fit.
    """
    logits, means, log_scales, coefficients = mixture_parameters(parameters, images.shape[-1])
    grid = ops.round((levels - 1.0) * ops.cast(images, "float32"))
    means = mixture_means(2.0 / (levels - 1.0) * grid - 1.0, means, coefficients)
    bins = _log_bins(grid[..., None], means, log_scales, levels)
    return -ops.logsumexp(ops.sum(bins, axis=-2) + ops.log_softmax(logits, axis=-1), axis=-1)


def mixture_parameters(parameters: Any, channels: int) -> tuple:
    """The parts of the parameters of `discretized_logistic_mixture`, float32.

    Returns:
        Logits `(..., M)`; means, log-scales and coefficients, each `(..., C, M)`, the last None for
        one colour.

    Raises:
        ValueError: if they are of another number, or there are not 1 or 3 channels.
    """
    numbers = parameters.shape[-1]
    a_component = {1: 3, 3: 10}.get(channels)
    if a_component is None or numbers % a_component:
        raise ValueError(
            "`parameters` must have 10 numbers a component for 3 colours, or 3 for one. Received: "
            f"parameters.shape={tuple(parameters.shape)}, {channels} colours. Convert the images "
            "to RGB or to grey, or change the network's last layer."
        )
    components = numbers // a_component
    parameters = ops.cast(parameters, "float32")
    logits, rest = parameters[..., :components], parameters[..., components:]
    parts = rest.shape[-1] // (channels * components)
    rest = ops.reshape(rest, (*ops.shape(rest)[:-1], channels, parts * components))
    means, log_scales, *others = ops.split(rest, parts, axis=-1)
    return logits, means, log_scales, ops.tanh(others[0]) if others else None


def mixture_means(colours: Any, means: Any, coefficients: Any) -> Any:
    """Means `(..., C, M)` of the colours of a pixel, given those before them.

    Args:
        colours: `(..., C)`, on the scale from -1 to 1; the last is not read.
        means: `(..., C, M)`, as of `mixture_parameters`.
        coefficients: the same, or None for one colour.
    """
    if coefficients is None:
        return means
    red, green = colours[..., 0, None], colours[..., 1, None]
    a, b, c = (coefficients[..., i, :] for i in range(3))
    shift = ops.stack([ops.zeros_like(a), a * red, b * red + c * green], axis=-2)
    return means + shift


def _log_bins(grid: Any, mean: Any, log_scale: Any, levels: int) -> Any:
    """Log P of values 0, 1, ..., levels - 1 under a logistic on [-1, 1], elementwise.

    The difference of two sigmoids underflows far from the mean; its logarithm, written with
    softplus, does not.
    """
    half = 1.0 / (levels - 1.0)
    inverse_scale = ops.exp(-ops.clip(log_scale, _LOWEST_LOG_SCALE, _HIGHEST_LOG_SCALE))
    centred = 2.0 * half * grid - 1.0 - mean
    below = -ops.softplus(-(centred + half) * inverse_scale)  # log P(value <= upper end)
    above = -ops.softplus((centred - half) * inverse_scale)  # log P(value >= lower end)
    width = ops.log(-ops.expm1(-2.0 * half * inverse_scale))
    inner = below + above + width
    return ops.where(grid < 0.5, below, ops.where(grid > levels - 1.5, above, inner))


def standard_normal(z: Any) -> Any:
    """Negative log-density of independent normal variables, sum_d z_d^2 / 2 + log(2 pi) / 2.

    Args:
        z: `(B, ...)`.

    Returns:
        float32 `(B,)`, in nats.
    """
    (z,) = _float32(z)
    return _sum(0.5 * ops.square(z) + 0.5 * math.log(2 * math.pi))


def standard_logistic(z: Any) -> Any:
    """Negative log-density of independent logistic variables, sum_d softplus(z_d) + softplus(-z_d).

    Its mean is 0, its variance pi^2 / 3; at 0 a dimension has log 4.

    Args:
        z: `(B, ...)`.

    Returns:
        float32 `(B,)`, in nats.
    """
    (z,) = _float32(z)
    return _sum(ops.softplus(z) + ops.softplus(-z))


def kl_standard_normal(mean: Any, log_variance: Any) -> Any:
    """Kullback-Leibler divergence of a diagonal Gaussian from the standard normal distribution.

        KL(N(m, diag v) || N(0, I)) = 1/2 sum_d (m_d^2 + v_d - 1 - log v_d)

    Kingma and Welling 2013, https://arxiv.org/abs/1312.6114, appendix B.

    Args:
        mean: m, `(B, ...)`.
        log_variance: log v, of the same shape.

    Returns:
        float32 `(B,)`, >= 0, in nats; 0 for m = 0 and v = 1.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_shapes(mean, "mean", log_variance=log_variance)
    mean, log_variance = _float32(mean, log_variance)
    return 0.5 * _sum(ops.square(mean) + ops.expm1(log_variance) - log_variance)


def _sum(x: Any) -> Any:
    """Sum over all axes but the first."""
    return ops.sum(x, axis=tuple(range(1, len(x.shape))))


def _float32(*tensors: Any) -> list:
    return [ops.cast(tensor, "float32") for tensor in tensors]


def _check_shapes(first: Any, label: str = "images", **others: Any) -> None:
    for name, other in others.items():
        shapes = tuple(first.shape), tuple(other.shape)
        same = all(a == b or a is None or b is None for a, b in zip(*shapes))
        if len(shapes[0]) < 2 or len(shapes[0]) != len(shapes[1]) or not same:
            raise ValueError(
                f"`{label}` and `{name}` must have one shape, the batch first and at least one "
                f"axis after it. Received: {label}.shape={shapes[0]}, {name}.shape={shapes[1]}. "
                "Broadcasting here would count dimensions twice."
            )
