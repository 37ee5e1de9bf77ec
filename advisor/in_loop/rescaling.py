"""The optimizer's settings at another batch, in force for as long as its step takes.

Between steps each group has the user's own settings: a learning-rate scheduler of any kind goes on
from these, and checkpoints hold these, so nothing is scaled twice.
"""

import math
from typing import Any, Literal

from msgspec.structs import replace
from torch.optim import Optimizer

from advisor.rate.rules import Rule, name_family, propose_optimizer_changes
from advisor.training.optimizer_facts import describe_optimizer, to_number

#: How the rate follows the batch: by the optimizer's own rule, in proportion, by the square root,
#: or not at all.
RateRule = Literal["optimizer", "linear", "sqrt", "none"]
#: Under which an optimizer has the one rescaling of its steps.
_KEY = "bsadvisor_rescaling"


class Rescaling:
    """Scales rate, second beta and weight decay of each step to its `batch_size`.

    The optimizer's own settings, or those of the one that a library wraps, are of the base batch.
    """

    def __init__(self, optimizer: Optimizer, base_batch_size: int, rule: RateRule) -> None:
        inner: Optimizer = getattr(optimizer, "optimizer", optimizer)
        self._optimizer = inner
        self._facts = describe_optimizer(inner)
        self._base, self._rule = base_batch_size, rule
        self.batch_size, self.rate_factor = base_batch_size, 1.0
        self._own: list[dict[str, Any]] = []
        if earlier := vars(inner).get(_KEY):
            earlier.detach()  # of a schedule that this one replaces
        vars(inner)[_KEY] = self
        self._hooks = (
            inner.register_step_pre_hook(lambda *_: self._put()),
            inner.register_step_post_hook(lambda *_: self._take_back()),
        )

    def find_factor(self, base: int, batch_size: int, noise_scale: float = math.inf) -> float:
        """Return the rate at one batch over that at another."""
        if self._rule == "none":
            return 1.0
        if self._rule != "optimizer":
            ratio = batch_size / base
            return ratio if self._rule == "linear" else math.sqrt(ratio)
        family = name_family(self._facts) or "heuristic"
        return Rule(family, base, 1.0).scale(batch_size, noise_scale)

    def detach(self) -> None:
        """Leave the optimizer as it was."""
        for hook in self._hooks:
            hook.remove()
        vars(self._optimizer).pop(_KEY, None)

    def _put(self) -> None:
        self._take_back()  # where the step before raised
        self._own = [self._scale(group) for group in self._optimizer.param_groups]

    def _take_back(self) -> None:
        for group, own in zip(self._optimizer.param_groups, self._own, strict=False):
            group.update(own)
        self._own = []

    def _scale(self, group: dict[str, Any]) -> dict[str, Any]:
        """Scale one group's settings; return what they were."""
        betas, decay = group.get("betas"), to_number(group.get("weight_decay"))
        beta2 = betas[1] if isinstance(betas, list | tuple) and len(betas) == 2 else None
        facts = replace(self._facts, beta2=to_number(beta2), weight_decay=decay)
        pair = (self.batch_size, self.rate_factor)
        changes = propose_optimizer_changes(facts, (self._base, 1.0), pair)
        scaled: dict[str, Any] = {}
        if group.get("lr") is not None:
            scaled["lr"] = group["lr"] * self.rate_factor
        if betas is not None and changes.beta2 is not None:
            scaled["betas"] = (betas[0], changes.beta2)
        if changes.weight_decay is not None:
            scaled["weight_decay"] = changes.weight_decay
        own = {name: group[name] for name in scaled}
        group.update(scaled)
        return own
