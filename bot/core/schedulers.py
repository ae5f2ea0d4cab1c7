"""Named schedulers: A1111's names, the diffusers class behind each, and the spellings people use.

Data and a look-up. It knows no diffusers object and not which models bear which scheduler: that is
`Model.schedulers` and `Model.refused_schedulers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from bot.core.request import JSON


@dataclass(frozen=True, slots=True)
class SchedulerSpec:
    """What to build: a class of diffusers.schedulers, and what to change in the model's own config."""

    class_name: str
    config: Mapping[str, JSON] = field(default_factory=dict)


_SIGMAS: Final[Mapping[str, str]] = {
    "Karras": "use_karras_sigmas",
    "Exponential": "use_exponential_sigmas",
    "Beta": "use_beta_sigmas",
}

# Classes that take all three sigma flags. The other classes take none.
_WITH_SIGMAS: Final[Mapping[str, SchedulerSpec]] = {
    "Euler": SchedulerSpec("EulerDiscreteScheduler"),
    "Heun": SchedulerSpec("HeunDiscreteScheduler"),
    "LMS": SchedulerSpec("LMSDiscreteScheduler"),
    "DPM2": SchedulerSpec("KDPM2DiscreteScheduler"),
    "DPM2 a": SchedulerSpec("KDPM2AncestralDiscreteScheduler"),
    "DPM++ 2M": SchedulerSpec(
        "DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}
    ),
    "DPM++ 2M SDE": SchedulerSpec(
        "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}
    ),
    "DPM++ 3M SDE": SchedulerSpec(
        "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}
    ),
    "DPM++ 2S": SchedulerSpec("DPMSolverSinglestepScheduler", {"lower_order_final": True}),
    "DPM++ SDE": SchedulerSpec("DPMSolverSDEScheduler"),
    "UniPC": SchedulerSpec("UniPCMultistepScheduler"),
    "DEIS": SchedulerSpec("DEISMultistepScheduler", {"algorithm_type": "deis", "solver_type": "logrho"}),
    "SASolver": SchedulerSpec("SASolverScheduler"),
}

_PLAIN: Final[Mapping[str, SchedulerSpec]] = {
    "Euler a": SchedulerSpec("EulerAncestralDiscreteScheduler"),
    "DDIM": SchedulerSpec("DDIMScheduler"),
    "DDPM": SchedulerSpec("DDPMScheduler"),
    "PLMS": SchedulerSpec("PNDMScheduler", {"skip_prk_steps": True}),
    "LCM": SchedulerSpec("LCMScheduler"),
    "TCD": SchedulerSpec("TCDScheduler"),
    "Flow Euler": SchedulerSpec("FlowMatchEulerDiscreteScheduler"),
}


def _table() -> dict[str, SchedulerSpec]:
    table = dict(_WITH_SIGMAS) | dict(_PLAIN)
    for name, spec in _WITH_SIGMAS.items():
        for suffix, flag in _SIGMAS.items():
            table[f"{name} {suffix}"] = SchedulerSpec(spec.class_name, {**spec.config, flag: True})
    return table


SCHEDULERS: Final[Mapping[str, SchedulerSpec]] = MappingProxyType(_table())
"""Canonical A1111 name -> what to build. One flag at most of the three sigma flags is set in each."""

SCHEDULER_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "euler ancestral": "Euler a",
        "dpm2 ancestral": "DPM2 a",
        "dpm++": "DPM++ 2M",
        "dpm solver": "DPM++ 2M",
        "dpm solver multistep sde": "DPM++ 2M SDE",
        "dpm solver++": "DPM++ 2M",
        "dpm++ 2": "DPM++ 2M",
        "dpm++ 2m sde gpu": "DPM++ 2M SDE",
        "dpm++ 3m sde gpu": "DPM++ 3M SDE",
        "dpm++ sde gpu": "DPM++ SDE",
        "dpm solver singlestep": "DPM++ 2S",
        "pndm": "PLMS",
        "unipc bh2": "UniPC",
        "sa solver": "SASolver",
        "flowmatch euler": "Flow Euler",
        **{spec.class_name: name for name, spec in (*_WITH_SIGMAS.items(), *_PLAIN.items())},
        # Two names share a class: the plain one is what its class name means.
        "DPMSolverMultistepScheduler": "DPM++ 2M",
    }
)
"""Other spellings -> canonical name: ComfyUI's, those of hosted APIs, and diffusers' class names."""


def _folded(name: str) -> str:
    """One form for every spelling: "k_dpmpp_2m", "DPM++ 2M" and "dpm++2m" all fold to "dpmpp2m"."""
    text = name.casefold().strip().replace("++", "pp")
    text = "".join(c if c.isalnum() else " " for c in text).strip()
    for prefix in ("sample ", "k "):
        text = text.removeprefix(prefix)
    text = text.replace(" ", "")
    return text.removesuffix("scheduler").removesuffix("discrete")


def _spellings() -> dict[str, str]:
    table = {_folded(alias): name for alias, name in SCHEDULER_ALIASES.items()}
    for alias, name in list(table.items()):
        for suffix in _SIGMAS if name in _WITH_SIGMAS else ():
            table[alias + suffix.casefold()] = f"{name} {suffix}"
    return table | {_folded(name): name for name in SCHEDULERS}


_SPELLINGS: Final[Mapping[str, str]] = _spellings()


def find_scheduler(name: str) -> str | None:
    """The canonical name for any known spelling, None where there is none.

    >>> find_scheduler("k_euler_a"), find_scheduler("dpmpp_2m_karras"), find_scheduler("DDIMScheduler")
    ('Euler a', 'DPM++ 2M Karras', 'DDIM')
    """
    return _SPELLINGS.get(_folded(name))
