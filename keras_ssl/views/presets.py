"""The view pipelines of the papers; below 64 px the settings that are used for CIFAR-10.

Authors who use PyTorch take crops, colours and blur from torchvision and Pillow, those of SimCLR
and BYOL from TensorFlow and JAX; they differ (`ColorJitter`, `RandomResizedCrop`, `GaussianBlur`),
and each pipeline has its authors'. Images stay in [0, 1]; normalisation is the backbone's.
"""

from collections.abc import Sequence

from keras_ssl.ops import is_small
from keras_ssl.views import pillow
from keras_ssl.views.compose import Compose, MultiCrop, Rotations, SingleView, TwoViews
from keras_ssl.views.config import check_choice, check_size
from keras_ssl.views.transforms import (
    CenterCrop,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    PadAndCrop,
    RandomResizedCrop,
    Solarize,
)


def simclr(
    image_size: int | Sequence[int],
    strength: float | None = None,
    blur: float | None = None,
    min_scale: float = 0.08,
) -> TwoViews:
    """SimCLR's two views: crop, flip, colour jitter, grey, blur.

    Crop of 8-100 % of the area, ratio 3/4 to 4/3, bicubic; flip 0.5; jitter (0.8 s, 0.8 s, 0.8 s,
    0.2 s) with probability 0.8 in random order; grey 0.2; blur with sigma U(0.1, 2), kernel a tenth
    of the height.

    Chen et al. 2020, https://arxiv.org/abs/2002.05709 (appendix A; B.9 for CIFAR-10). Departures
    from the authors' code: the crop's ratio is drawn uniformly in its logarithm; the overshoot of
    the bicubic crop is cut off at once, theirs by the jitter or at the end.

    Args:
        image_size: pixels of the views, one number or (height, width).
        strength: s above; by default 0.5 below 64 px, else 1.0.
        blur: probability of the blur; by default none below 64 px, else 0.5.
        min_scale: smallest share of the area that a crop shows, in (0, 1].

    Raises:
        ValueError: if an argument is out of range.
    """
    size = check_size("image_size", image_size)
    small = is_small(size)
    s = (0.5 if small else 1.0) if strength is None else strength
    blur = (0.0 if small else 0.5) if blur is None else blur
    ops = [
        RandomResizedCrop(size, (min_scale, 1.0)),
        HorizontalFlip(),
        ColorJitter(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s, p=0.8),
        Grayscale(0.2),
    ]
    return TwoViews(Compose([*ops, GaussianBlur(blur)] if blur else ops))


def moco(
    image_size: int | Sequence[int], version: int = 2, min_scale: float | None = None
) -> TwoViews:
    """MoCo's two views: crop, colour, flip, and in version 2 blur.

    Version 1: crop of 20-100 % of the area, bilinear; grey 0.2; jitter (0.4, 0.4, 0.4, 0.4) always;
    flip 0.5. Version 2 (also SimSiam): the same crop; jitter (0.4, 0.4, 0.4, 0.1) with probability
    0.8; grey 0.2; blur 0.5 with sigma U(0.1, 2); flip 0.5. Below 64 px both are the set of the
    authors' CIFAR-10 demo: crop of 8-100 %, flip, jitter and grey of version 2. Colours, crops and
    blur are torchvision's and Pillow's.

    He et al. 2020, https://arxiv.org/abs/1911.05722 (section 3.3); Chen et al. 2020,
    https://arxiv.org/abs/2003.04297. Departures from the authors' code: the blur is a Gaussian
    (Pillow's is made of box filters); values are not rounded to 8 bits between operations.

    Args:
        image_size: pixels of the views, one number or (height, width).
        version: 1 or 2.
        min_scale: smallest share of the area that a crop shows, in (0, 1]; by default 0.08 up to 64
            px, else 0.2.

    Raises:
        ValueError: if an argument is out of range.
    """
    if version not in (1, 2):
        raise ValueError(
            f"`version` must be 1 or 2. Received: version={version}. "
            "The views of MoCo v3 are those of BYOL, `views.byol`."
        )
    size = check_size("image_size", image_size)
    small = is_small(size)
    if min_scale is None:
        min_scale = 0.08 if small else 0.2
    crop = pillow.crop(size, (min_scale, 1.0))
    softer = [pillow.jitter(0.4, 0.4, 0.4, 0.1), Grayscale(0.2)]
    if small:
        return TwoViews(Compose([crop, HorizontalFlip(), *softer]))
    if version == 1:
        jitter = pillow.jitter(0.4, 0.4, 0.4, 0.4, p=1.0)
        return TwoViews(Compose([crop, Grayscale(0.2), jitter, HorizontalFlip()]))
    return TwoViews(Compose([crop, *softer, pillow.blur(0.5), HorizontalFlip()]))


def instdisc(image_size: int | Sequence[int]) -> SingleView:
    """InstDisc's one view: crop, grey, colour, flip.

    Crop of 20-100 % of the area, bilinear; grey 0.2; jitter (0.4, 0.4, 0.4, 0.4) always; flip 0.5.
    Below 64 px grey comes after the jitter, and there is no flip, as in the authors' script for
    CIFAR-10 (the last version of `cifar.py`; the first had grey before). Colours and crops are
    torchvision's and Pillow's.

    Wu et al. 2018, https://arxiv.org/abs/1805.01978 (section 4); the authors' code.

    Args:
        image_size: pixels of the view, one number or (height, width).

    Raises:
        ValueError: if `image_size` is invalid.
    """
    size = check_size("image_size", image_size)
    crop, jitter = pillow.crop(size, (0.2, 1.0)), pillow.jitter(0.4, 0.4, 0.4, 0.4, p=1.0)
    if is_small(size):
        return SingleView(Compose([crop, jitter, Grayscale(0.2)]))
    return SingleView(Compose([crop, Grayscale(0.2), jitter, HorizontalFlip()]))


def supcon(image_size: int | Sequence[int]) -> TwoViews:
    """SupCon's two views: crop, flip, colour jitter, grey.

    Crop of 20-100 % of the area, bilinear; flip 0.5; jitter (0.4, 0.4, 0.4, 0.1) with probability
    0.8; grey 0.2: those of the authors' code for CIFAR-10, and here for all sizes (the paper's for
    ImageNet are AutoAugment's). Colours and crops are torchvision's and Pillow's.

    Khosla et al. 2020, https://arxiv.org/abs/2004.11362 (section 4); the authors' code.

    Args:
        image_size: pixels of the views, one number or (height, width).

    Raises:
        ValueError: if `image_size` is invalid.
    """
    size = check_size("image_size", image_size)
    ops = [
        pillow.crop(size, (0.2, 1.0)),
        HorizontalFlip(),
        pillow.jitter(0.4, 0.4, 0.4, 0.1),
        Grayscale(0.2),
    ]
    return TwoViews(Compose(ops))


def cmc(image_size: int | Sequence[int]) -> SingleView:
    """CMC's one view, from which lightness and colours are taken: crop of 8-100 %, flip.

    The crop is torchvision's, bilinear.

    Tian et al. 2019, https://arxiv.org/abs/1906.05849 (section 4.1). Departures from the authors'
    code: images stay RGB in [0, 1]; the method takes them apart.

    Args:
        image_size: pixels of the view, one number or (height, width).

    Raises:
        ValueError: if `image_size` is invalid.
    """
    crop = pillow.crop(check_size("image_size", image_size))
    return SingleView(Compose([crop, HorizontalFlip()]))


def byol(
    image_size: int | Sequence[int],
    min_scale: float = 0.08,
    interpolation: str = "bicubic",
    form: str = "byol",
) -> TwoViews:
    """BYOL's two views, drawn differently: one always blurred, one sometimes solarised.

    Both: crop of 8-100 % of the area, bicubic; flip 0.5; jitter (0.4, 0.4, 0.2, 0.1) with
    probability 0.8; grey 0.2. Then blur, sigma U(0.1, 2), with probability 1 in the first view and
    0.1 in the second, and solarisation with probability 0 and 0.2. Below 64 px there is no blur.
    Also the views of NNCLR, and, in the form "torchvision", of MoCo v3, Barlow Twins and VICReg,
    whose authors use PyTorch.

    Grill et al. 2020, https://arxiv.org/abs/2006.07733 (appendix B). Departures from the authors'
    code: where a box is drawn that does not fit, it is drawn again (theirs is cut to the image). In
    the form "torchvision": those of `moco`.

    Args:
        image_size: pixels of the views, one number or (height, width).
        min_scale: smallest share of the area that a crop shows, in (0, 1].
        interpolation: of the crops, "bicubic" or "bilinear".
        form: "byol": colours, crops and blur of BYOL's code (JAX and TensorFlow; see
            `ColorJitter`; crops not antialiased; the blur's kernel a tenth of the height, zeros
            outside). "torchvision": those of torchvision and Pillow.

    Raises:
        ValueError: if an argument is out of range.
    """
    size = check_size("image_size", image_size)
    scale = (min_scale, 1.0)
    if check_choice("form", form, ("byol", "torchvision")) == "byol":
        crop = RandomResizedCrop(size, scale, interpolation=interpolation)
        blur = GaussianBlur
    else:
        crop = pillow.crop(size, scale, interpolation)
        blur = pillow.blur
    jitter = ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8, form=form)
    shared = [crop, HorizontalFlip(), jitter, Grayscale(0.2)]
    blur1, blur2 = ([], []) if is_small(size) else ([blur(1.0)], [blur(0.1)])
    return TwoViews(Compose([*shared, *blur1]), Compose([*shared, *blur2, Solarize(0.2)]))


def swav(
    image_size: int | Sequence[int],
    crops: Sequence[int] | None = None,
    small_size: int | Sequence[int] | None = None,
    strength: float | None = None,
    blur: float | None = None,
) -> MultiCrop:
    """SwAV's multi-crop: two large views and several small ones of one image.

    Large views show 14-100 % of the area, small ones 5-14 % (bilinear, ratio 3/4 to 4/3); all: flip
    0.5; jitter (0.8 s, 0.8 s, 0.8 s, 0.2 s) with probability 0.8; grey 0.2; blur with sigma U(0.1,
    2). The paper's small views have 96 px for large ones of 224. Below 64 px there are large views
    alone, unless `crops` asks for others; small ones then have half the size and show 8-30 %, as
    5 % of a CIFAR image are seven pixels across. Colours and crops are torchvision's and Pillow's,
    the blur OpenCV's: 23 pixels across, images mirrored outside.

    Caron et al. 2020, https://arxiv.org/abs/2006.09882 (section 3.3, appendix A); the authors'
    code.

    Args:
        image_size: pixels of the large views, one number or (height, width).
        crops: numbers of large and of small views; by default (2, 0) below 64 px, else the paper's
            (2, 6).
        small_size: pixels of the small views; by default half the large ones' below 64 px, else
            three sevenths of them.
        strength: s above; by default 0.5 below 64 px, else 1.0.
        blur: probability of the blur; by default none below 64 px, else 0.5.

    Raises:
        ValueError: if an argument is out of range, or there are fewer than two large views.
    """
    size = check_size("image_size", image_size)
    small = is_small(size)
    if crops is None:
        crops = (2, 0) if small else (2, 6)
    if len(crops) != 2 or crops[0] < 2 or crops[1] < 0:
        raise ValueError(
            "`crops` must be the numbers of large views, >= 2, and of small views, >= 0. "
            f"Received: crops={tuple(crops)}. The paper's are (2, 6)."
        )
    s = (0.5 if small else 1.0) if strength is None else strength
    blur = (0.0 if small else 0.5) if blur is None else blur
    if small_size is None:
        small_size = tuple(max(1, round(side * (1 / 2 if small else 3 / 7))) for side in size)
    scale = (0.08, 0.3) if small else (0.05, 0.14)
    small_size = check_size("small_size", small_size)
    # Small views are cut out of the same large images, so they are antialiased whatever their size.
    crops_of = [
        RandomResizedCrop(own, share, interpolation="bilinear", antialias=not small)
        for own, share in ((size, (0.14, 1.0)), (small_size, scale))
    ]
    after = [
        HorizontalFlip(),
        pillow.jitter(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s),
        Grayscale(0.2),
        *([GaussianBlur(blur, kernel_size=23, padding="reflect")] if blur else []),
    ]
    pipelines = [Compose([crop, *after]) for crop in crops_of]
    made = 2 if crops[1] else 1
    return MultiCrop(pipelines[:made], crops[:made])


def dino(
    image_size: int | Sequence[int],
    crops: Sequence[int] | None = None,
    small_size: int | Sequence[int] | None = None,
    transformer: bool = True,
    split: float | None = None,
) -> MultiCrop:
    """DINO's multi-crop: two large views, drawn as BYOL's, and several small ones of one image.

    Large views show 40-100 % of the area and small ones 5-40 %, for convolutional networks 14-100 %
    and 5-14 % (bicubic, ratio 3/4 to 4/3); all: flip 0.5; jitter (0.4, 0.4, 0.2, 0.1) with
    probability 0.8; grey 0.2. Then blur, sigma U(0.1, 2), with probability 1 in the first view, 0.1
    in the second, 0.5 in small ones, and solarisation with probability 0.2 in the second. The
    paper's small views have 96 px for large ones of 224. Below 64 px there are two large views
    alone, of 8-100 %, without blur, unless `crops` asks for others; small ones then have half the
    size and show 8-30 %. Colours, crops and blur are torchvision's and Pillow's.

    Caron et al. 2021, https://arxiv.org/abs/2104.14294 (section 3.1, appendix C); the authors'
    code. Departures from it: those of `moco`.

    Args:
        image_size: pixels of the large views, one number or (height, width).
        crops: numbers of large views, 2, and of small ones; by default (2, 0) below 64 px, else the
            paper's (2, 8).
        small_size: pixels of the small views; by default half the large ones' below 64 px, else
            three sevenths of them.
        transformer: whether shares of the area are those for vision transformers.
        split: share of the area up to which small views go and from which large ones begin, in
            (0.08, 1); by default as above. iBOT has 0.25.

    Raises:
        ValueError: if an argument is out of range.
    """
    size = check_size("image_size", image_size)
    small = is_small(size)
    if crops is None:
        crops = (2, 0) if small else (2, 8)
    if len(crops) != 2 or crops[0] != 2 or crops[1] < 0:
        raise ValueError(
            "`crops` must be the numbers of large views, 2, and of small views, >= 0. "
            f"Received: crops={tuple(crops)}. The paper's are (2, 8)."
        )
    if small_size is None:
        small_size = tuple(max(1, round(side * (1 / 2 if small else 3 / 7))) for side in size)
    small_size = check_size("small_size", small_size)
    if split is not None and not 0.08 < split < 1:
        raise ValueError(f"`split` must be in (0.08, 1). Received: split={split}. DINO has 0.4.")
    if small:
        large_scale, small_scale = (split or 0.08, 1.0), (0.08, split or 0.3)
    else:
        split = split or (0.4 if transformer else 0.14)
        large_scale, small_scale = (split, 1.0), (0.05, split)
    # Small views are cut out of the same large images, so they are antialiased whatever their size.
    large, local = (
        RandomResizedCrop(own, share, interpolation="bicubic", antialias=not small)
        for own, share in ((size, large_scale), (small_size, small_scale))
    )
    after = [HorizontalFlip(), pillow.jitter(0.4, 0.4, 0.2, 0.1), Grayscale(0.2)]
    blurs = [[] if small else [pillow.blur(p)] for p in (1.0, 0.1, 0.5)]
    pipelines = [
        Compose([large, *after, *blurs[0]]),
        Compose([large, *after, *blurs[1], Solarize(0.2)]),
        Compose([local, *after, *blurs[2]]),
    ]
    made = 3 if crops[1] else 2
    return MultiCrop(pipelines[:made], (1, 1, crops[1])[:made])


def lejepa(
    image_size: int | Sequence[int],
    crops: Sequence[int] | None = None,
    small_size: int | Sequence[int] | None = None,
    strength: float | None = None,
    solarize: float | None = None,
) -> MultiCrop:
    """LeJEPA's multi-crop: two large views and several small ones of one image, drawn alike.

    Large views show 30-100 % of the area, small ones 5-30 % (bicubic, ratio 3/4 to 4/3); all: flip
    0.5; jitter (0.8 s, 0.8 s, 0.4 s, 0.2 s) with probability 0.8; grey 0.2; blur 0.5 with sigma
    U(0.1, 2); solarisation 0.2. Small views have 96 px for large ones of 224, as VISReg's, so that
    patches of 16 fit (LeJEPA's 98 are for patches of 14). VISReg has four large views. Below 64 px
    there are two large views alone, unless `crops` asks for others; they show 20-100 % of the area,
    bilinear, without blur, solarised with probability 0.1: those with which
    https://github.com/facebookresearch/eb_jepa trains LeJEPA on CIFAR-10. Colours, crops and blur
    are torchvision's, the blur 9 pixels across, images mirrored outside.

    Balestriero and LeCun 2025, https://arxiv.org/abs/2511.08544; the README of the authors' code.
    Wu et al. 2026, https://arxiv.org/abs/2606.02572; `multicrop.py` of the authors' code.

    Args:
        image_size: pixels of the large views, one number or (height, width).
        crops: numbers of large and of small views; by default (2, 0) below 64 px, else the
            authors' (2, 6).
        small_size: pixels of the small views; by default half the large ones' below 64 px, else
            three sevenths of them.
        strength: s above; by default 0.5.
        solarize: probability of the solarisation; by default 0.1 below 64 px, else 0.2.

    Raises:
        ValueError: if an argument is out of range, or there is no large view or only one view.
    """
    size = check_size("image_size", image_size)
    small = is_small(size)
    if crops is None:
        crops = (2, 0) if small else (2, 6)
    if len(crops) != 2 or min(crops) < 0 or crops[0] < 1 or sum(crops) < 2:
        raise ValueError(
            "`crops` must be the numbers of large views, >= 1, and of small views, >= 0, two views "
            f"at least. Received: crops={tuple(crops)}. The authors' are (2, 6)."
        )
    s = 0.5 if strength is None else strength
    if solarize is None:
        solarize = 0.1 if small else 0.2
    if small_size is None:
        small_size = tuple(max(1, round(side * (1 / 2 if small else 3 / 7))) for side in size)
    small_size = check_size("small_size", small_size)
    # Small views are cut out of the same images, so they are antialiased whatever their size.
    crops_of = [
        RandomResizedCrop(
            own,
            share,
            interpolation="bilinear" if small else "bicubic",
            antialias=not small,
        )
        for own, share in ((size, (0.2 if small else 0.3, 1.0)), (small_size, (0.05, 0.3)))
    ]
    after = [
        HorizontalFlip(),
        pillow.jitter(0.8 * s, 0.8 * s, 0.4 * s, 0.2 * s),
        Grayscale(0.2),
        *([] if small else [GaussianBlur(0.5, kernel_size=9, padding="reflect")]),
        Solarize(solarize),
    ]
    pipelines = [Compose([crop, *after]) for crop in crops_of]
    made = 2 if crops[1] else 1
    return MultiCrop(pipelines[:made], crops[:made])


def bow_net(image_size: int | Sequence[int], crops: int | None = None) -> MultiCrop:
    """BoWNet's views: the whole image, and crops of it with other colours.

    First the image, flipped with probability 0.5; then crops of 8-100 % of the area (20-100 % below
    64 px), bilinear; flip 0.5; jitter (0.4, 0.4, 0.4, 0.1) with probability 0.8; grey 0.2. Colours
    and crops are torchvision's and Pillow's.

    Gidaris et al. 2020, https://arxiv.org/abs/2002.12247 (section 3.3), which gives no strengths
    and has no public code: these are MoCo's. Departures: there is no CutMix.

    Args:
        image_size: pixels of all views, one number or (height, width).
        crops: how many, >= 1; by default the paper's one, and two below 64 px.

    Raises:
        ValueError: if an argument is out of range.
    """
    size = check_size("image_size", image_size)
    small = is_small(size)
    if crops is None:
        crops = 2 if small else 1
    if crops < 1:
        raise ValueError(f"`crops` must be >= 1. Received: crops={crops}.")
    crop = pillow.crop(size, (0.2 if small else 0.08, 1.0))
    softer = [HorizontalFlip(), pillow.jitter(0.4, 0.4, 0.4, 0.1), Grayscale(0.2)]
    return MultiCrop([_whole(size), Compose([crop, *softer])], (1, crops))


def obow(image_size: int | Sequence[int], crops: Sequence[int] | None = None) -> MultiCrop:
    """OBoW's views: the whole image, crops of it, and small patches.

    First the image, flipped with probability 0.5. Crops show 8-60 % of the area in five sevenths of
    the pixels (160 of 224), patches three sevenths of the side (96) of a crop of 60-100 %, as far
    as possible from being scaled. Both: bilinear; jitter (0.4, 0.4, 0.4, 0.1) with probability 0.8;
    grey 0.2; flip 0.5; crops are blurred with probability 0.5, sigma U(0.1, 2). Below 64 px there
    are two crops alone, unless `crops` asks for others; they show 20-100 % in all the pixels,
    without blur. Colours, crops and blur are torchvision's and Pillow's.

    Gidaris et al. 2021, https://arxiv.org/abs/2012.11552 (section 3.4); the authors' code.
    Departures from it: the whole image is the largest centred part of the right shape (theirs seven
    eighths of that); each patch is cut from a crop of its own, at any place (theirs: all from one,
    at five of nine places near a grid); those of `moco`.

    Args:
        image_size: pixels of the whole image, one number or (height, width).
        crops: numbers of crops, >= 1, and of patches, >= 0; by default (2, 0) below 64 px, else the
            paper's (2, 5).

    Raises:
        ValueError: if an argument is out of range, or there is no crop.
    """
    size = check_size("image_size", image_size)
    small = is_small(size)
    if crops is None:
        crops = (2, 0) if small else (2, 5)
    if len(crops) != 2 or crops[0] < 1 or crops[1] < 0:
        raise ValueError(
            "`crops` must be the numbers of crops, >= 1, and of patches, >= 0. Received: "
            f"crops={tuple(crops)}. The paper's are (2, 5)."
        )
    crop_size = size if small else tuple(round(side * 5 / 7) for side in size)
    patch_size = tuple(max(1, round(side * 3 / 7)) for side in size)
    colours = [pillow.jitter(0.4, 0.4, 0.4, 0.1), Grayscale(0.2)]
    crop = pillow.crop(crop_size, (0.2, 1.0) if small else (0.08, 0.6))
    blur = [] if small else [pillow.blur(0.5)]
    larger = pillow.crop(tuple(round(side * 8 / 7) for side in size), (0.6, 1.0))
    pipelines = [
        _whole(size),
        Compose([crop, *colours, *blur, HorizontalFlip()]),
        Compose([larger, *colours, HorizontalFlip(), PadAndCrop(patch_size, padding=0)]),
    ]
    made = 3 if crops[1] else 2
    return MultiCrop(pipelines[:made], (1, *crops)[:made])


def supervised(image_size: int | Sequence[int]) -> SingleView:
    """One view as classifiers are trained on: crop and flip, colours as they are.

    Below 64 px: the image with four pixels of zeros around it, cropped at random; above: crop of
    8-100 % of the area, bilinear, as torchvision's. Flip 0.5 in both.

    He et al. 2016, https://arxiv.org/abs/1512.03385, section 4.2, for CIFAR-10; the crop is that of
    Szegedy et al. 2015, https://arxiv.org/abs/1409.4842, section 6.

    Args:
        image_size: pixels of the view, one number or (height, width).

    Raises:
        ValueError: if `image_size` is invalid.
    """
    return SingleView(_crop_and_flip(check_size("image_size", image_size)))


def rotnet(image_size: int | Sequence[int]) -> Rotations:
    """RotNet's four rotations of one view; the view is cropped and flipped before it is turned.

    Below 64 px: the image with four pixels of zeros around it, cropped at random; above: crop of
    8-100 % of the area, bilinear, as torchvision's. Flip 0.5 in both.

    Gidaris et al. 2018, https://arxiv.org/abs/1803.07728 (section 3); the authors' code.

    Args:
        image_size: pixels of the views, a square.

    Raises:
        ValueError: if `image_size` is invalid or not a square.
    """
    return Rotations(_crop_and_flip(check_size("image_size", image_size)))


def plain(image_size: int | Sequence[int], flip: bool = True) -> SingleView:
    """The image itself as the only view, flipped or not.

    Images of `image_size` keep their pixels: 8-bit values stay multiples of 1/255. Others are
    resized until they cover it, and their centre is cut out.

    Args:
        image_size: pixels of the view, one number or (height, width).
        flip: whether the image is mirrored with probability 0.5.

    Raises:
        ValueError: if `image_size` is invalid.
    """
    ops = [CenterCrop(check_size("image_size", image_size))]
    return SingleView(Compose([*ops, HorizontalFlip()] if flip else ops))


def mae(image_size: int | Sequence[int]) -> SingleView:
    """MAE's one view: crop of 20-100 % of the area, bicubic; flip 0.5.

    The crop is torchvision's. He et al. 2021, https://arxiv.org/abs/2111.06377 (appendix A.1); the
    authors' code.

    Args:
        image_size: pixels of the view, one number or (height, width).

    Raises:
        ValueError: if `image_size` is invalid.
    """
    crop = pillow.crop(check_size("image_size", image_size), (0.2, 1.0), "bicubic")
    return SingleView(Compose([crop, HorizontalFlip()]))


def simmim(image_size: int | Sequence[int]) -> SingleView:
    """SimMIM's one view: crop of 67-100 % of the area, bilinear; flip 0.5.

    The crop is torchvision's. Xie et al. 2021, https://arxiv.org/abs/2111.09886 (section 4.1); the
    authors' code.

    Args:
        image_size: pixels of the view, one number or (height, width).

    Raises:
        ValueError: if `image_size` is invalid.
    """
    crop = pillow.crop(check_size("image_size", image_size), (0.67, 1.0))
    return SingleView(Compose([crop, HorizontalFlip()]))


def ijepa(image_size: int | Sequence[int]) -> SingleView:
    """I-JEPA's one view: crop of 30-100 % of the area, bilinear; neither flip nor colours.

    The crop is torchvision's. Assran et al. 2023, https://arxiv.org/abs/2301.08243 (appendix A);
    the authors' code.

    Args:
        image_size: pixels of the view, one number or (height, width).

    Raises:
        ValueError: if `image_size` is invalid.
    """
    crop = pillow.crop(check_size("image_size", image_size), (0.3, 1.0))
    return SingleView(Compose([crop]))


def wmse(image_size: int | Sequence[int], num_views: int = 2) -> MultiCrop:
    """W-MSE's views: colour jitter and grey, then crop and flip.

    Jitter (0.4, 0.4, 0.4, 0.1) with probability 0.8; grey 0.1; crop of 20-100 % of the area,
    bicubic; flip 0.5. Colours and crops are torchvision's and Pillow's.

    Ermolov et al. 2021, https://arxiv.org/abs/2007.06346 (section 5.1); the authors' code.

    Args:
        image_size: pixels of the views, one number or (height, width).
        num_views: how many, >= 2; the paper's are 2 and 4.

    Raises:
        ValueError: if `image_size` is invalid, or there are fewer than two views.
    """
    if num_views < 2:
        raise ValueError(f"`num_views` must be >= 2. Received: num_views={num_views}.")
    size = check_size("image_size", image_size)
    pipeline = [
        pillow.jitter(0.4, 0.4, 0.4, 0.1),
        Grayscale(0.1),
        pillow.crop(size, (0.2, 1.0), "bicubic"),
        HorizontalFlip(),
    ]
    return MultiCrop([Compose(pipeline)], [num_views])


def _whole(size: tuple[int, int]) -> Compose:
    return Compose([CenterCrop(size), HorizontalFlip()])


def _crop_and_flip(size: tuple[int, int]) -> Compose:
    if is_small(size):
        crop = [CenterCrop(size), PadAndCrop(size, padding=4)]
    else:
        crop = [pillow.crop(size)]
    return Compose([*crop, HorizontalFlip()])
