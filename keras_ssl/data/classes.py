"""The numbers of classes, the same in two sources."""

import numpy as np
from absl import logging

from keras_ssl.data.source import Source


def with_classes_of(source: Source, reference: Source) -> Source:
    """`source` with its labels renumbered, so that a class has the number it has in `reference`.

    Two folders number their classes each by itself: without the class `a` of one, `b` is 0 in the
    other. Classes that `reference` lacks get the numbers after its own. A source comes back as it
    is where one of the two does not name its classes, or both name the same.
    """
    own, known = source.class_names, reference.class_names
    if own is None or known is None or own == known:
        return source
    new = [name for name in own if name not in known]
    if new:
        logging.warning(
            "%s has classes that %s lacks: %s. They count as classes of their own, which cannot be "
            "predicted.",
            source.name,
            reference.name,
            new,
        )
    names = [*known, *new]
    places = {name: number for number, name in enumerate(names)}
    return source.renumbered(np.array([places[name] for name in own], np.int64), names)
