"""From the figures of `monitors` to a verdict on a run: is it healthy, and if not, why?

Pure functions of rows of numbers; `callbacks.CollapseMonitor` collects the rows.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ssl.evaluation import monitors

STATUSES = ("too early", "healthy", "warning", "dimensional collapse", "collapsed", "diverged")
FIGURES = ("std", "rankme", "effective_rank", "uniformity", "dead")
NAMES = {"embedding": "projector outputs", "features": "backbone features"}

LOW_STD = 0.1  # the usual alarm for std * sqrt(D); a deep untrained ResNet lies near it
NO_STD = 0.01  # a point, whatever the network was before training
LOW_UNIFORMITY = -0.5
NO_UNIFORMITY = -0.15  # e.g. 7 % of the images in one place and all others in another
FEW = 3  # this many times the spread that an even cloud of that uniformity has: held by few images
PATIENCE = 3  # epochs after which a figure that has not moved is reported


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The diagnosis of a run.

    Attributes:
        status: "too early", "healthy", "warning", "dimensional collapse", "collapsed" or
            "diverged".
        message: the finding, its likely cause and what to do next.
    """

    status: str
    message: str

    @property
    def severity(self) -> int:
        """0 for healthy (and too early to say) up to 4 for diverged."""
        return max(0, STATUSES.index(self.status) - 1)


def collapse_figures(embeddings: Any, prefix: str = "features") -> dict[str, float]:
    """The label-free figures of one set of embeddings, by name.

    Args:
        embeddings: array (N, D), N >= 2.
        prefix: "features" for the backbone, "embedding" for the projector.

    Returns:
        `<prefix>_std` (times sqrt(D), 1 = isotropic), `_rankme`, `_effective_rank`,
        `_uniformity`, `_dead` (fraction); all NaN if an embedding is not finite; and
        `<prefix>_max_rank` = min(N - 1, D), the most that `_effective_rank` can be.
    """
    z = monitors.to_numpy(embeddings)
    if np.isfinite(z).all():
        values = (
            monitors.feature_std(z),
            monitors.rankme(z),
            monitors.effective_rank(z),
            monitors.uniformity(z),
            monitors.dead_dimensions(z),
        )
    else:
        values = (math.nan,) * len(FIGURES)
    figures = {f"{prefix}_{name}": value for name, value in zip(FIGURES, values, strict=True)}
    return figures | {f"{prefix}_max_rank": float(min(z.shape[0] - 1, z.shape[1]))}


def diagnose(
    history: Sequence[Mapping[str, float]], untrained: Mapping[str, float] | None = None
) -> Verdict:
    """The verdict on the last row of a history.

    Thresholds are those in use (std * sqrt(D) < 0.1, uniformity > -0.5, RankMe halved from one
    epoch to the next), but relative to the untrained network if its figures are known: pooled ReLU
    features of an untrained deep network share a large mean, which alone would raise these alarms
    (an untrained ResNet-18 on photographs has std * sqrt(D) 0.09 and uniformity -0.04).

    Args:
        history: one mapping per epoch, oldest first, as `collapse_figures` names them, and
            "loss" where known.
        untrained: the same figures of the network before training.

    Returns:
        the most severe finding; among equals the projector's, as the loss acts there first.

    Raises:
        ValueError: `history` is empty.
    """
    if not history:
        raise ValueError("`history` must hold at least one row. Received: none.")
    findings = _loss(history)
    for prefix in NAMES:
        if f"{prefix}_std" in history[-1]:
            findings += _space(history, untrained or {}, prefix)
    worst = max((f.severity for f in findings), default=0)
    grave = [f.message for f in findings if f.severity == worst]
    if worst > 0:
        return Verdict(STATUSES[worst + 1], grave[0])
    return Verdict("healthy", _healthy(history))


def _space(
    history: Sequence[Mapping[str, float]], untrained: Mapping[str, float], prefix: str
) -> list[Verdict]:
    """Findings on one space: features or embedding."""
    start, *trained = (
        {name: row.get(f"{prefix}_{name}", math.nan) for name in (*FIGURES, "max_rank")}
        for row in (untrained, *history)
    )
    start = start if math.isfinite(start["std"]) else None
    trained = [row for row in trained[:-1] if math.isfinite(row["std"])] + trained[-1:]
    now, name = trained[-1], NAMES[prefix]
    if not math.isfinite(now["std"]):
        return [_diverged(name)]
    found = [_point(now, start, trained, name), _rank(now, trained, name)]
    found += [_dead(now, start, name), _cone(now, start, trained, name)]
    # The projector alone: features of methods without a contrast may well lie close together.
    if prefix == "embedding":
        found.append(_all_but_few(start, trained, name))
    return [finding for finding in found if finding]


def _diverged(name: str) -> Verdict:
    return Verdict(
        "diverged",
        f"The {name} hold NaN or infinity. The likely cause is a learning rate that is too high, "
        "or float16 without loss scaling. Go back to the last good checkpoint, lower the learning "
        "rate or lengthen the warm-up, and check that images are uint8 or floats in [0, 1].",
    )


def _point(now: dict, start: dict | None, trained: list, name: str) -> Verdict | None:
    """All images at nearly one point: std * sqrt(D) towards 0, from what it has been."""
    std = now["std"]
    # Batch statistics converge over the first epochs, and the spread with them: compare those with
    # the untrained network alone.
    early = start is not None and len(trained) <= PATIENCE
    best = max(
        row["std"] for row in ([start] if early else [*trained, *([start] if start else [])])
    )
    fallen = std < LOW_STD and std < 0.5 * best or std < 3 * LOW_STD and std < 0.25 * best
    if std < NO_STD or fallen:
        before = f" (it has been {best:.3f})" if fallen else ""
        return Verdict(
            "collapsed",
            f"All images map to nearly one point: the {name} have std*sqrt(D) {std:.4f}{before}, "
            "where 1 is an even spread. The likely cause is an objective that a constant can "
            "satisfy: a stop-gradient or predictor that is missing, a teacher that moves too fast, "
            "or a learning rate that is too high. Check these, lower the learning rate, and "
            "check that the views differ and that the weights of a variance or covariance term "
            "are not zero; then start again, since a run rarely recovers from collapse.",
        )
    if std < LOW_STD and (start is None or len(trained) > PATIENCE):
        return Verdict(
            "warning",
            f"The {name} lie close together: std*sqrt(D) is {std:.3f}, "
            "where 1 is an even spread. The likely cause is that little has been learnt yet. "
            "Look whether the loss still falls; if it does not, check that the views differ and "
            "raise the learning rate.",
        )
    return None


def _rank(now: dict, trained: list, name: str) -> Verdict | None:
    """Images spread along few directions: the rank towards 1."""
    rank, most = now["effective_rank"], now["max_rank"]
    if not most < 8 and rank < np.fmax(2.0, 0.02 * most):
        return Verdict(
            "dimensional collapse",
            f"The {name} use about {rank:.1f} of {most:.0f} possible directions, so most of their "
            "space is wasted. The likely cause is that a few strong cues solve the task (colour, "
            "position), or that the loss does not push dimensions apart. Strengthen the "
            "augmentation that removes such cues, raise the batch size or the covariance weight, "
            "or lower the temperature.",
        )
    # Not compared with the untrained network: noise has a high rank, which healthy runs lose.
    best = max(row["effective_rank"] for row in trained)
    fallen = len(trained) > 2 and now["rankme"] < 0.5 * trained[-2]["rankme"]
    shrunk = rank < 0.2 * best
    if fallen or shrunk:
        seen = (
            f"RankMe fell from {trained[-2]['rankme']:.1f} to {now['rankme']:.1f} in one epoch"
            if fallen
            else f"effective rank is {rank:.1f}, it has been {best:.1f}"
        )
        return Verdict(
            "warning",
            f"The {name} lose directions: {seen}. The likely cause is a learning rate that is too "
            "high, or the beginning of a dimensional collapse. Watch the next epochs and the kNN "
            "accuracy; if both go on falling, lower the learning rate.",
        )
    return None


def _dead(now: dict, start: dict | None, name: str) -> Verdict | None:
    """Dimensions that no longer vary."""
    dead = now["dead"]
    grown = dead - (start["dead"] if start else 0.0)
    if not dead >= 0.25 or (dead < 0.5 and grown < 0.2):  # `not >=` is True for NaN, too
        return None
    return Verdict(
        "dimensional collapse" if dead >= 0.5 else "warning",
        f"{100 * dead:.0f} % of the dimensions of the {name} hardly vary from image to image. "
        "The likely cause is units that have died (a learning rate too high, weight decay too "
        "strong) or a loss that does not need them. Lower the learning rate or the weight decay; "
        "with VICReg or Barlow Twins raise the variance or covariance weight.",
    )


def _cone(now: dict, start: dict | None, trained: list, name: str) -> Verdict | None:
    """Embeddings drawn into a narrow cone: uniformity towards 0, from what it has been."""
    value = now["uniformity"]
    best = min(row["uniformity"] for row in [*trained, *([start] if start else [])])
    if not (value > LOW_UNIFORMITY and value > 0.5 * best and best < LOW_UNIFORMITY):
        return None
    return Verdict(
        "warning",
        f"The {name} draw together: uniformity is {value:.2f}, it has been {best:.2f} "
        "(lower is more even). The likely cause is the beginning of a collapse. Watch std "
        "and kNN accuracy over the next epochs; if they fall too, check the stop-gradient "
        "and predictor, and lower the learning rate.",
    )


def _all_but_few(start: dict | None, trained: list, name: str) -> Verdict | None:
    """All images at one point except a few outliers, which hide the collapse from the std.

    The uniformity of an even, narrow cloud is -4 var; a larger spread belongs to outliers.
    """
    best = min(row["uniformity"] for row in [*trained, *([start] if start else [])])
    lately, std = (
        np.median([row[figure] for row in trained[-PATIENCE:]]) for figure in ("uniformity", "std")
    )
    fallen = best < LOW_UNIFORMITY and lately > 0.25 * best
    uneven = 4 * std**2 > FEW * abs(lately)
    if len(trained) < PATIENCE or not lately > NO_UNIFORMITY or not (fallen or uneven):
        return None
    return Verdict(
        "collapsed",
        f"Most images map to nearly one point: the {name} have uniformity {lately:.2f} (it has "
        f"been {best:.2f}; 0 is one point). The few that lie far off, as batch normalisation at "
        f"the end of a network makes them, hold std*sqrt(D) at {std:.2f}. The likely cause is an "
        "objective that a constant can satisfy: a stop-gradient or predictor that is missing, or "
        "a teacher that moves too fast. Check these, lower the learning rate, and start again, "
        "since a run rarely recovers from collapse.",
    )


def _loss(history: Sequence[Mapping[str, float]]) -> list[Verdict]:
    losses = [row["loss"] for row in history if "loss" in row]
    if losses and not math.isfinite(losses[-1]):
        return [
            Verdict(
                "diverged",
                f"The loss is {losses[-1]}. The likely cause is a learning rate that is too high, "
                "or float16 without loss scaling. Go back to the last good checkpoint and lower "
                "the learning rate or lengthen the warm-up.",
            )
        ]
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < PATIENCE:
        return []
    scale = max(abs(loss) for loss in finite)
    if max(finite) - min(finite) <= 1e-3 * scale:
        return [
            Verdict(
                "warning",
                f"The loss has stood at {finite[-1]:.4g} for {len(finite)} epochs. The likely "
                "cause is a learning rate near zero, frozen weights, or outputs that are constant "
                "from the start. Check the learning rate, that the backbone is trainable, and "
                "that the views differ.",
            )
        ]
    return []


def _healthy(history: Sequence[Mapping[str, float]]) -> str:
    row = history[-1]
    seen = [
        f"the {name} have std*sqrt(D) {row[f'{prefix}_std']:.2f} and use about "
        f"{row.get(f'{prefix}_effective_rank', math.nan):.0f} directions"
        for prefix, name in NAMES.items()
        if f"{prefix}_std" in row
    ]
    tail = "; ".join(seen) if seen else "the loss is finite"
    return f"No sign of collapse: {tail}. Judge the quality by kNN accuracy or a linear probe."
