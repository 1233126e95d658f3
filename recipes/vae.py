r"""VAE (Kingma and Welling 2013, https://arxiv.org/abs/1312.6114).

    python -m recipes.vae --preset=cifar10_small --data_dir=path/to/tfds --out=runs/vae-small
    python -m recipes.vae --preset=cifar10 --data_dir=path/to/tfds --out=runs/vae-cifar10
    python -m recipes.vae --preset=imagenet --data_dir=path/to/tfds --out=runs/vae-imagenet

`--set=beta=4.0` makes it a beta-VAE (Higgins et al. 2017). What to expect: the row of
`benchmarks/RESULTS.md` for `cifar10_small`. The other presets need GPUs and have not been run. Bits
per dimension bound the code length of 8-bit pixels from above, and 8 is a uniform guess. The 4.5 of
van den Oord et al. 2017 (https://arxiv.org/abs/1711.00937) on CIFAR-10 is that of a larger network;
one short vector of latents an image does not come near it.

Departures from the papers: convolutional networks on colour photographs with a discretised logistic
likelihood; neither paper trains on these data, so the settings are the community's.
"""

import dataclasses

import keras

from keras_ssl import VAE, backbones, views
from recipes import _runner


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; `learning_rate` is the peak."""

    data: str = "cifar10"
    images: int = 0  # of the training split; 0 for all
    image_size: int = 32
    backbone: str = "resnet18"
    latent_dim: int = 128
    likelihood: str = "discretized_logistic"
    beta: float = 1.0
    batch_size: int = 128
    epochs: int = 100
    learning_rate: float = 1e-3
    warmup_epochs: int = 1
    seed: int = 0


PRESETS = {
    "cifar10_small": Config(images=10_000, backbone="small_conv", epochs=20),
    "cifar10": Config(),
    "imagenet": Config(data="imagenet2012", image_size=64, latent_dim=256, epochs=50),
}


def make_views(config):
    """The image, mirrored or not, with the noise of latents and, for a Gaussian, of pixels."""
    size = (config.image_size, config.image_size)
    noise = {"latent_noise": {"distribution": "normal", "shape": (config.latent_dim,)}}
    if config.likelihood == "gaussian":
        noise["pixel_noise"] = {"distribution": "uniform", "shape": (*size, 3)}
    return views.WithNoise(views.plain(size), noise)


def make_model(config, num_images):
    """The method with its optimizer and schedule."""
    size = config.image_size
    model = VAE(
        backbones.get(config.backbone, (size, size, 3)),
        latent_dim=config.latent_dim,
        likelihood=config.likelihood,
        beta=config.beta,
    )
    schedule = _runner.warmup_cosine(config, num_images)
    model.compile(keras.optimizers.Adam(schedule))
    return model


if __name__ == "__main__":
    _runner.main(PRESETS, make_model, make_views)
