"""Builds diffusers schedulers from A1111 names and the model's own configuration. One instance a run."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import diffusers

from backends.local.profile import Profile
from bot.core.request import JSON
from bot.core.schedulers import SCHEDULERS

_SIGMA_FLAGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")

ONE_BY_ONE = frozenset({"DPMSolverSDEScheduler"})
"""Classes whose noise is not drawn from the given generators: one picture a run, or seeds would not hold."""


def build_scheduler(own: Any, profile: Profile, name: str | None, seed: int) -> Any:
    """A fresh scheduler; schedulers keep state, so every run needs one.

    own: the pipeline's scheduler as loaded; name: a key of SCHEDULERS, None: own; seed: for the classes in
    ONE_BY_ONE, which make their own noise.
    """
    if name is None:
        return copy.deepcopy(own)
    spec = SCHEDULERS[name]
    if spec.class_name == type(own).__name__ == "FlowMatchEulerDiscreteScheduler":
        return copy.deepcopy(own)
    scheduler_class = getattr(diffusers, spec.class_name)
    config: dict[str, JSON] = dict(own.config) | dict.fromkeys(_SIGMA_FLAGS, False) | dict(spec.config)
    config |= profile.scheduler_overrides.get(name, {})
    if spec.class_name in ONE_BY_ONE:
        config["noise_sampler_seed"] = seed
    return scheduler_class.from_config(_accepted(scheduler_class, config))


def class_name(own: Any, name: str | None) -> str:
    """The class that build_scheduler will use."""
    return type(own).__name__ if name is None else SCHEDULERS[name].class_name


def _accepted(scheduler_class: Any, config: Mapping[str, JSON]) -> dict[str, JSON]:
    """Without the entries that the class does not take, which diffusers would warn about."""
    names = inspect.signature(scheduler_class.__init__).parameters
    return {key: value for key, value in config.items() if key in names}
