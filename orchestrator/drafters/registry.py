"""Methods by name: the built-in drafters and third parties' come through the same door.

A drafter is registered under the entry point group `pilotfish.drafters`; the value is a function
`build(setup: Setup) -> Drafter`.
"""

from importlib.metadata import entry_points

from orchestrator.drafters.base import Drafter
from orchestrator.drafters.setup import Setup
from orchestrator.errors import ConfigError, DrafterError

GROUP = "pilotfish.drafters"


def method_names() -> list[str]:
    """Every method that is installed, `auto` aside."""
    return sorted(entry.name for entry in entry_points(group=GROUP))


def build_drafter(method: str, setup: Setup) -> Drafter:
    """The drafter of `method`; raises ConfigError for a method that is not installed."""
    for entry in entry_points(group=GROUP, name=method):
        drafter = entry.load()(setup)
        if not isinstance(drafter, Drafter):
            raise DrafterError(f"{entry.value} must return an orchestrator Drafter, got {drafter!r}")
        return drafter
    raise ConfigError(f"unknown method {method!r}; installed: auto, {', '.join(method_names())}")
