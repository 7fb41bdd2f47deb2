"""Adaptive loss weights: multipliers, learned in training, of the schedule's weights.

The schedule says what matters when; an adaptive weighting evens out the scales of the terms
underneath, so each method sees the terms *before* the schedule's weights, and cannot undo them.
Only groups whose schedule weight is above 0 take part; every other has multiplier 1 and is not
learned. All state is tensors (parameters and buffers), so a checkpoint restores it exactly.

In a training step, with `base = Schedule.weights(epoch)` (attention and alignment set to 0 for a
model without attention):

    terms = combined_loss(output, mask, adaptive.weights(base))
    adaptive.step(terms, base, shared_parameters)  # before backward
    (terms["total"] + adaptive.regulariser(base)).backward()

and `adaptive.end_epoch(mean_terms)` after an epoch's last step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from attnseg.common.processes import mean_over_ranks
from attnseg.component import Doc, Gt, NonNegative

GROUPS = ("segmentation", "attention", "alignment")
Base = Mapping[str, float]


class AdaptiveWeights(nn.Module, ABC):
    """What the methods share. State has one entry a group, in the order of `names`.

    Args:
        names: of the groups of terms.
    """

    needs_gradients = False
    """Whether `step` does anything, and so needs to be given the shared parameters."""

    def __init__(self, names: Sequence[str] = GROUPS) -> None:
        super().__init__()
        self.names = tuple(names)

    def multipliers(self, base: Base) -> dict[str, Tensor]:
        """Scalar multiplier of every group; 1 where the base weight is 0."""
        active = self._active(base)
        learned = self._multipliers(active)
        result = dict.fromkeys(self.names, learned.new_ones(()))
        result |= {self.names[i]: value for i, value in zip(active, learned, strict=True)}
        return result

    def weights(self, base: Base) -> dict[str, float | Tensor]:
        """Base weight x multiplier, for `CombinedLoss`; a plain 0 for an inactive group."""
        multipliers = self.multipliers(base)
        return {n: base[n] * multipliers[n] if base[n] > 0 else 0.0 for n in self.names}

    def regulariser(self, base: Base) -> Tensor:
        """Scalar to add to the total; 0 unless the method has one."""
        return torch.zeros(())

    def step(self, terms: Mapping[str, Tensor], base: Base, shared: Iterable[nn.Parameter]) -> None:
        """Learn from a step's terms before their backward pass.

        Args:
            terms: what `CombinedLoss` returned, graph included.
            base: the schedule's weights.
            shared: parameters of the last layer that every group depends on.
        """

    def end_epoch(self, mean_terms: Mapping[str, float]) -> None:
        """Learn from an epoch's mean of every group's term; every process has to call it."""

    def _active(self, base: Base) -> list[int]:
        return [index for index, name in enumerate(self.names) if base[name] > 0]

    @abstractmethod
    def _multipliers(self, active: list[int]) -> Tensor:
        """Multipliers (K,) of the K active groups."""


class UncertaintyWeights(AdaptiveWeights):
    """Homoscedastic uncertainty (Kendall, Gal and Cipolla, CVPR 2018, eq. 10, likelihood form).

    Minimises sum_i b_i (exp(-s_i) L_i + s_i / 2), with s_i = log sigma_i^2 trained like any
    parameter and b_i the base weight; the multiplier exp(-s_i) tends to 1 / (2 L_i). The
    regulariser bears b_i too: without it that optimum would be 1 / (2 b_i L_i), and the
    schedule would be learned away. s_i is bounded smoothly, since a term that tends to 0 (and an
    alignment can) would drive its multiplier to infinity. Needs no weight decay.

    Example:
        >>> base = {"segmentation": 1.0, "attention": 0.5, "alignment": 0.0}
        >>> UncertaintyWeights().weights(base)["attention"]
        tensor(0.5000, grad_fn=<MulBackward0>)
    """

    BOUND = 4.0  # multipliers stay between exp(-4) = 0.018 and exp(4) = 55

    name = "uncertainty"

    def __init__(self, names: Sequence[str] = GROUPS) -> None:
        super().__init__(names)
        self.log_variance = nn.Parameter(torch.zeros(len(self.names)))

    def regulariser(self, base: Base) -> Tensor:
        """sum_i b_i s_i / 2 over the active groups."""
        bounded = self._bounded().unbind()
        return torch.stack(
            [base[name] * s / 2 for name, s in zip(self.names, bounded, strict=True)]
        ).sum()

    def _multipliers(self, active: list[int]) -> Tensor:
        return torch.exp(-self._bounded()[active])

    def _bounded(self) -> Tensor:
        return self.BOUND * torch.tanh(self.log_variance / self.BOUND)


class DwaWeights(AdaptiveWeights):
    """Dynamic weight average (Liu, Johns and Davison, CVPR 2019, eq. 7).

    lambda_i(t) = K exp(r_i / T) / sum_k exp(r_k / T) over the K active groups, with
    r_i = L_i(t - 1) / L_i(t - 2): terms that fall slowly gain weight. r_i is 1 until a group
    has two epochs behind it.

    Example:
        >>> weighting = DwaWeights()
        >>> base = {"segmentation": 1.0, "attention": 1.0, "alignment": 0.0}
        >>> for falls in (1.0, 0.5):
        ...     weighting.end_epoch({"segmentation": 1.0, "attention": falls})
        >>> [round(float(w), 2) for w in weighting.weights(base).values()]
        [1.12, 0.88, 0.0]
    """

    last: Tensor
    last_but_one: Tensor

    name = "dwa"

    def __init__(
        self,
        names: Sequence[str] = GROUPS,
        *,
        temperature: Annotated[float, Gt(0.0), Doc("higher: more equal weights")] = 2.0,
    ) -> None:
        super().__init__(names)
        self.temperature = temperature
        unknown = torch.full((len(self.names),), torch.nan)
        self.register_buffer("last", unknown.clone())
        self.register_buffer("last_but_one", unknown.clone())

    def end_epoch(self, mean_terms: Mapping[str, float]) -> None:
        """Keep the epoch's mean of every group's term (a group without one starts anew)."""
        means = [float(mean_terms.get(name, torch.nan)) for name in self.names]
        self.last_but_one.copy_(self.last)
        self.last.copy_(mean_over_ranks(self.last.new_tensor(means)))

    def _multipliers(self, active: list[int]) -> Tensor:
        ratio = (self.last / self.last_but_one)[active]
        ratio = torch.where(ratio.isfinite(), ratio, torch.ones_like(ratio))
        return len(active) * torch.softmax(ratio / self.temperature, dim=0)


class GradNormWeights(AdaptiveWeights):
    """GradNorm (Chen et al., ICML 2018, algorithm 1), its weights descending in their logarithm.

    With G_i = |w_i grad_W L_i| over the last shared layer W, G their mean, and the relative
    inverse training rate r_i = (L_i / L_i(0)) / mean_k(L_k / L_k(0)), one step descends
    sum_i |G_i / G - r_i^alpha| (the targets held constant); multipliers are the w_i scaled to
    sum to K, the number of active groups. The paper descends in w_i; in log w_i the weights stay
    positive, and neither the scale of a term nor of its gradient changes the size of a step.
    L_i(0) is taken anew when the set of active groups changes (a new phase), so that a newcomer
    is not compared with old progress. A group without a gradient in W is left where it is.

    Example:
        >>> layer = nn.Parameter(torch.ones(1))
        >>> terms = {"segmentation": layer.sum(), "attention": 4 * layer.sum()}
        >>> base = {"segmentation": 1.0, "attention": 1.0, "alignment": 0.0}
        >>> weighting = GradNormWeights()
        >>> weighting.step(terms, base, [layer])
        >>> weights = weighting.weights(base)
        >>> bool(weights["segmentation"] > weights["attention"])
        True
    """

    needs_gradients = True

    log_weights: Tensor
    initial: Tensor

    name = "gradnorm"

    def __init__(
        self,
        names: Sequence[str] = GROUPS,
        *,
        alpha: Annotated[
            NonNegative, Doc("restoring force: higher, slow learners gain more")
        ] = 1.5,
        lr: Annotated[float, Gt(0.0), Doc("rate of the weights' own descent")] = 0.025,
    ) -> None:
        super().__init__(names)
        self.alpha, self.lr = alpha, lr
        self.register_buffer("log_weights", torch.zeros(len(self.names)))
        self.register_buffer("initial", torch.full((len(self.names),), torch.nan))

    def step(self, terms: Mapping[str, Tensor], base: Base, shared: Iterable[nn.Parameter]) -> None:
        """One descent step; none where a loss or gradient is not finite, or no gradient arrives."""
        active, parameters = self._active(base), [p for p in shared if p.requires_grad]
        losses = [terms[self.names[i]] for i in active]
        norms = [_gradient_norm(loss, parameters) for loss in losses]
        mean_losses = mean_over_ranks(torch.stack(losses).detach())
        measured = torch.stack([mean_losses, torch.stack(norms)]).to(self.log_weights)
        if bool(measured.isfinite().all() & measured[1].any()):
            self._descend(active, *measured)

    @torch.no_grad()
    def _descend(self, active: list[int], loss: Tensor, norm: Tensor) -> None:
        known = self.initial.isfinite().nonzero().flatten().tolist()
        if known != active:
            self.initial.fill_(torch.nan)
            self.initial[active] = loss
        old = self.log_weights[active]
        progress = loss / self.initial[active]
        rate = progress / progress.mean()
        target = torch.nan_to_num(rate**self.alpha, nan=1.0)  # a loss at 0 has no rate
        weighted = old.exp() * norm
        moving = weighted > 0
        relative = weighted / weighted[moving].mean()
        new = old - self.lr * torch.sign(relative - target) * relative
        # keep the sum of those that moved, lest the others' share drift
        new[moving] += old[moving].logsumexp(0) - new[moving].logsumexp(0)
        self.log_weights[active] = new

    def _multipliers(self, active: list[int]) -> Tensor:
        return len(active) * torch.softmax(self.log_weights[active], dim=0)


def _gradient_norm(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """Norm of the gradient of `loss` by all `parameters` together; the graph is kept.

    On several processes it is the norm of their mean gradient, which is the global batch's.
    """
    if not (parameters and loss.requires_grad):
        return loss.new_zeros(())
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    flat = [gradient.float().flatten() for gradient in found if gradient is not None]
    if not flat:
        return loss.new_zeros(())
    norm: Tensor = torch.linalg.vector_norm(mean_over_ranks(torch.cat(flat)))
    return norm
