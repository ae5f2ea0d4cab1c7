"""The table of schedulers: every name is buildable, every usual spelling is known."""

from __future__ import annotations

import inspect

import pytest

from bot.core.schedulers import SCHEDULER_ALIASES, SCHEDULERS, find_scheduler


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Euler a", "Euler a"),
        ("euler_a", "Euler a"),
        ("k_euler_a", "Euler a"),
        ("K_EULER_ANCESTRAL", "Euler a"),
        ("EulerAncestralDiscreteScheduler", "Euler a"),
        ("sample_euler", "Euler"),
        ("euler karras", "Euler Karras"),
        ("DPM++ 2M Karras", "DPM++ 2M Karras"),
        ("dpmpp_2m_karras", "DPM++ 2M Karras"),
        ("dpm++2mkarras", "DPM++ 2M Karras"),
        ("DPMSolverMultistepScheduler", "DPM++ 2M"),
        ("dpmpp_2m_sde_gpu", "DPM++ 2M SDE"),
        ("dpmpp_3m_sde_exponential", "DPM++ 3M SDE Exponential"),
        ("dpm_2_ancestral", "DPM2 a"),
        ("k_dpm_2_a", "DPM2 a"),
        ("k_lms", "LMS"),
        ("uni_pc", "UniPC"),
        ("pndm", "PLMS"),
        ("  ddim ", "DDIM"),
        ("FlowMatchEulerDiscreteScheduler", "Flow Euler"),
    ],
)
def test_usual_spellings_are_known(spelling: str, name: str) -> None:
    assert find_scheduler(spelling) == name


@pytest.mark.parametrize("spelling", ["", "++", "DDIM Karras", "dpm fast", "Euler b", "karras", "x" * 9999])
def test_other_names_are_not(spelling: str) -> None:
    assert find_scheduler(spelling) is None


def test_every_name_and_alias_leads_to_the_table() -> None:
    assert all(find_scheduler(name) == name for name in SCHEDULERS)
    assert all(find_scheduler(alias) == name for alias, name in SCHEDULER_ALIASES.items())
    assert set(SCHEDULER_ALIASES.values()) <= set(SCHEDULERS)


def test_every_class_takes_its_config() -> None:
    library = pytest.importorskip("diffusers.schedulers")
    for name, spec in SCHEDULERS.items():
        parameters = inspect.signature(getattr(library, spec.class_name).__init__).parameters
        assert set(spec.config) <= set(parameters), name
