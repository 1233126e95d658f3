"""Methods by name, with their papers' defaults."""

import inspect
import numbers
import os
import re
import types
import typing

import keras

from keras_ssl import backbones
from keras_ssl.methods import METHODS
from keras_ssl.ops.names import near

_NETWORKS = {  # what `create` gives a constructor itself, and where it comes from
    "backbone": "Give it beside the method, in the shell as --backbone.",
    "input_shape": "It follows from the images and `image_size`.",
}
_OF_THE_IMAGES = ("num_images",)  # what `pretrain` gives by itself
_TYPES = {
    bool: (bool, "True or False"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    str: (str, "text"),
    os.PathLike: (os.PathLike, "a path"),
    keras.Layer: (keras.Layer, "a Keras layer or model (which Python alone can give)"),
    list[keras.Layer]: ((list, tuple), "a list of Keras models (which Python alone can give)"),
    tuple[float, float]: ((list, tuple), "a pair of numbers"),
    types.NoneType: (types.NoneType, "None"),
}


def create(name, input_shape=(224, 224, 3), backbone=None, **options):
    """Make any method by name, with its paper's defaults.

    Args:
        name: the class name of the method in any case; `-` and `_` are ignored. Or a class of your
            own that extends `SSLModel`.
        input_shape: height, width and channels of the images; not read where a method is made of
            another, which is given.
        backbone: name of a backbone in `keras_ssl.backbones`, or a model; by default "resnet18",
            and "vit_tiny" for methods of vision transformers. Methods that bring their own network
            take none.
        **options: further arguments of the method's constructor.

    Returns:
        The method, a `keras_ssl.SSLModel`.

    Raises:
        ValueError: if the name or an option is unknown (the message names the near ones), an option
            is missing or of another type than the constructor's annotation says, or a backbone is
            given to a method with a network of its own.

    Example:
        >>> model = keras_ssl.create("simclr", input_shape=(32, 32, 3), backbone="small_conv")
    """
    method = find(name)
    check_options(method, options)
    check_needed(method, options)
    if keeps_images(method) and "num_images" not in options:
        raise ValueError(
            f"{method.__name__} keeps state of every image: `num_images`, the number of images of "
            f"the data, must be given. Received: {sorted(options)}. Call "
            f"create({name!r}, ..., num_images=50_000), for instance."
        )
    if "backbone" in arguments(method):
        network = backbones.get(backbone or default_backbone(method), input_shape)
        if method.needs_tokens and backbones.is_dinov2(network):
            network = backbones.from_dinov2(network)  # whose parts the method can use
        return _construct(method, network, options)
    if "method" in arguments(method) and "input_shape" not in arguments(method):
        return _of_another(method, input_shape, backbone, options)
    if backbone is not None:
        raise ValueError(
            f"{method.__name__} brings its own network and takes no `backbone`. Received: "
            f"backbone={backbone!r}. Leave it out."
        )
    return _construct(method, tuple(input_shape), options)


def _of_another(method, input_shape, backbone, options):
    """A method made of another one, which is named, or made already."""
    other = options["method"]
    if isinstance(other, str):
        other = create(other, input_shape, backbone)
    elif backbone is not None:
        raise ValueError(
            f"`backbone` must be left out where `method` is made already: {method.__name__} has "
            f"that of its method. Received: backbone={backbone!r}."
        )
    return method(**{**options, "method": other})


def _construct(method, network, options):
    try:
        return method(network, **options)
    except ValueError as error:
        # A layer's message names its own arguments, such as the size of a queue.
        if not options or any(re.search(rf"\b{name}\b", str(error)) for name in options):
            raise
        given = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise ValueError(
            f"{method.__name__} refuses an option. Received: {given}. {error}"
        ) from error


def check_options(method, options):
    """Raise a ValueError for an option that the class `method` does not take, or of a wrong type.

    `create` calls it; so can whoever has the options before the images. Arguments of other
    annotations than those in `_TYPES` take anything.
    """
    known = options_of(method)
    for option, value in options.items():
        if option in _NETWORKS:
            raise ValueError(
                f"`{option}` is not an option of the method. Received: {option}={value!r}. "
                + _NETWORKS[option]
            )
        if option not in known:
            raise ValueError(f"{method.__name__} has no argument {option!r}." + near(option, known))
        kinds = _kinds(known[option])
        if all(kind in _TYPES for kind in kinds) and not any(_fits(value, k) for k in kinds):
            remedy = "" if option in needed(method) else ", or leave it out for the default"
            raise ValueError(
                f"`{option}` of {method.__name__} must be {_words(kinds)}. Received: "
                f"{option}={value!r}. Change it{remedy}."
            )


def check_needed(method, options):
    """Raise a ValueError for an option that the class `method` needs and `options` lack."""
    for option in needed(method):
        if option not in options:
            raise ValueError(
                f"`{option}` of {method.__name__} must be given: "
                f"{_words(_kinds(options_of(method)[option]))}. Received: "
                f"{sorted(options) or 'no options'}. Pass create(..., {option}=...) or "
                f"pretrain(..., method_options={{{option!r}: ...}}), in the shell "
                f"--set={option}=VALUE; `keras-ssl methods --method={method.__name__.lower()}` "
                "tells what it is."
            )


def options_of(method):
    """What the constructor of `method` takes besides its network: `inspect.Parameter` by name."""
    parameters = inspect.signature(method.__init__).parameters
    return {name: parameters[name] for name in arguments(method) if name not in _NETWORKS}


def needed(method):
    """Names of the options that must be given: without default, and not known from the images."""
    options = options_of(method).items()
    return [name for name, p in options if p.default is p.empty and name not in _OF_THE_IMAGES]


def _kinds(parameter):
    """The types that a constructor's argument may have, by its annotation."""
    hint = parameter.annotation
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _words(kinds):
    return " or ".join(_TYPES[kind][1] if kind in _TYPES else str(kind) for kind in kinds)


def _fits(value, kind):
    if isinstance(value, bool) and kind in (int, float):  # Python counts True among the integers
        return False
    if not isinstance(value, _TYPES[kind][0]):
        return False
    if kind == tuple[float, float]:
        return len(value) == 2 and all(_fits(part, float) for part in value)
    return kind != list[keras.Layer] or all(_fits(part, keras.Layer) for part in value)


def find(name):
    """The class of the method called `name`; a class passes unchanged."""
    if isinstance(name, type):
        return name
    known = {method.__name__.lower(): method for method in METHODS}
    key = name.lower().replace("-", "").replace("_", "") if isinstance(name, str) else name
    if key not in known:
        raise ValueError(
            f"`name` must be a method of keras_ssl. Received: {name!r}." + near(str(name), known)
        )
    return known[key]


def arguments(method):
    """Names of the constructor's arguments."""
    parameters = inspect.signature(method.__init__).parameters
    return [name for name in parameters if name not in ("self", "kwargs")]


def default_backbone(method):
    """Name of the backbone that a method has where none is given."""
    return "vit_tiny" if method.needs_tokens else "resnet18"


def brings_network(method):
    """Whether the method makes its own network, from the shape of the images, and takes none."""
    return "input_shape" in arguments(method) and "backbone" not in arguments(method)


def keeps_images(method):
    """Whether the method always keeps state of each image, and must know how many there are."""
    argument = inspect.signature(method.__init__).parameters.get("num_images")
    return argument is not None and argument.default is argument.empty
