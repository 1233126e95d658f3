"""Backbones: networks from images to features, with one face for every method."""

from keras_ssl.backbones.adopt import adopt
from keras_ssl.backbones.attention import attention_maps, has_attention_maps
from keras_ssl.backbones.backbone import Backbone
from keras_ssl.backbones.catalog import NAMES, get
from keras_ssl.backbones.dinov2 import from_dinov2, is_dinov2
from keras_ssl.backbones.layerwise import freeze, rate_factors
from keras_ssl.backbones.libraries import from_library, is_trained
from keras_ssl.backbones.resnet import resnet18, resnet34, resnet50
from keras_ssl.backbones.small_conv import small_conv
from keras_ssl.backbones.stages import last_maps, stages, until
from keras_ssl.backbones.towers import channel_towers
from keras_ssl.backbones.unwrap import unwrap
from keras_ssl.backbones.vit import small_vit, vit, vit_base, vit_small, vit_tiny

__all__ = [
    "NAMES",
    "Backbone",
    "adopt",
    "attention_maps",
    "channel_towers",
    "freeze",
    "from_dinov2",
    "from_library",
    "get",
    "has_attention_maps",
    "is_dinov2",
    "is_trained",
    "last_maps",
    "rate_factors",
    "resnet18",
    "resnet34",
    "resnet50",
    "small_conv",
    "small_vit",
    "stages",
    "until",
    "unwrap",
    "vit",
    "vit_base",
    "vit_small",
    "vit_tiny",
]
