"""Losses of two players on the discriminator's logits, as means over the global batch."""

from typing import Any

from keras import ops


def discriminator_loss(real: Any, fake: Any) -> Any:
    """Cross-entropy of telling real (label 1) from fake (label 0).

        L_D = mean softplus(-real) + mean softplus(fake),    softplus(t) = log(1 + exp(t)).

    At the best discriminator it is log 4 - 2 JSD, JSD the Jensen-Shannon divergence of real and
    fake in nats. Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, equation 1; for pairs of
    image and latent Donahue et al. 2017, https://arxiv.org/abs/1605.09782, section 3. Departures
    from the authors' code: BiGAN's halves both terms.

    Args:
        real: logits of the real examples, of any shape.
        fake: logits of the fake examples, of any shape.

    Returns:
        float32 scalar, > 0; 2 log 2 where the discriminator cannot tell, 0 where it always can.
    """
    return _softplus(-1, real) + _softplus(1, fake)


def joint_generator_loss(real: Any, fake: Any) -> Any:
    """Cross-entropy with exchanged labels, minimised by encoder and generator together.

        L_EG = mean softplus(real) + mean softplus(-fake) = L_D(fake, real)

    The encoder's gradient comes through `real`, logits of (x, E(x)), the generator's through
    `fake`, those of (G(z), z). It does not saturate where the discriminator wins, unlike -L_D
    (Donahue et al. 2017, https://arxiv.org/abs/1605.09782, section 3.4). Departures from the
    authors' code: theirs is half of it.

    Args:
        real: logits of the real pairs, of any shape.
        fake: logits of the fake pairs, of any shape.

    Returns:
        float32 scalar, > 0; 2 log 2 where the discriminator cannot tell, large where it wins.
    """
    return _softplus(1, real) + _softplus(-1, fake)


def _softplus(sign: int, logits: Any) -> Any:
    return ops.mean(ops.softplus(sign * ops.cast(logits, "float32")))
