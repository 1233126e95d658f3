"""One file per method, named after the paper's method.

The imports below are the list of methods: `METHODS`, `__all__` and the names at the top level of
the package are derived from them.
"""

from keras_ssl.engine import SSLModel
from keras_ssl.methods.autoencoder import Autoencoder
from keras_ssl.methods.auxiliary import Auxiliary
from keras_ssl.methods.barlow_twins import BarlowTwins
from keras_ssl.methods.bigan import BiGAN
from keras_ssl.methods.bow_net import BoWNet
from keras_ssl.methods.byol import BYOL
from keras_ssl.methods.cmc import CMC
from keras_ssl.methods.dcl import DCL
from keras_ssl.methods.deep_cluster import DeepCluster
from keras_ssl.methods.deep_cluster_v2 import DeepClusterV2
from keras_ssl.methods.denoising_autoencoder import DenoisingAutoencoder
from keras_ssl.methods.dino import DINO
from keras_ssl.methods.feature_distillation import FeatureDistillation
from keras_ssl.methods.glow import Glow
from keras_ssl.methods.ibot import IBOT
from keras_ssl.methods.ijepa import IJEPA
from keras_ssl.methods.image_gpt import ImageGPT
from keras_ssl.methods.infomin import InfoMin
from keras_ssl.methods.instdisc import InstDisc
from keras_ssl.methods.lejepa import LeJEPA
from keras_ssl.methods.mae import MAE
from keras_ssl.methods.moco import MoCo
from keras_ssl.methods.moco_v3 import MoCoV3
from keras_ssl.methods.nice import NICE
from keras_ssl.methods.nnclr import NNCLR
from keras_ssl.methods.obow import OBoW
from keras_ssl.methods.pirl import PIRL
from keras_ssl.methods.pixel_cnn import PixelCNN
from keras_ssl.methods.pixel_cnn_pp import PixelCNNPP
from keras_ssl.methods.pixel_rnn import PixelRNN
from keras_ssl.methods.real_nvp import RealNVP
from keras_ssl.methods.rotnet import RotNet
from keras_ssl.methods.simclr import SimCLR
from keras_ssl.methods.simdino import SimDINO
from keras_ssl.methods.simmim import SimMIM
from keras_ssl.methods.simsiam import SimSiam
from keras_ssl.methods.supcon import SupCon
from keras_ssl.methods.swav import SwAV
from keras_ssl.methods.vae import VAE
from keras_ssl.methods.vicreg import VICReg
from keras_ssl.methods.visreg import VISReg
from keras_ssl.methods.wmse import WMSE

METHODS = tuple(
    value
    for value in list(vars().values())
    if isinstance(value, type) and issubclass(value, SSLModel) and value is not SSLModel
)

__all__ = [*(method.__name__ for method in METHODS), "METHODS"]  # noqa: PLE0604
