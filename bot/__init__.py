"""Fairbrush: a self-hosted image bot with a durable, fair queue."""

from importlib.metadata import PackageNotFoundError, version


def program_version() -> str:
    """The installed distribution's version; "0" where the distribution is not installed."""
    try:
        return version("fairbrush")
    except PackageNotFoundError:
        return "0"
