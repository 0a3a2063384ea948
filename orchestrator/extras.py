"""Optional packages: one sentence for whoever lacks them."""

from importlib.util import find_spec

from orchestrator.errors import ConfigError


def require_torch() -> None:
    """Raise ConfigError where PyTorch, in which heads run, is not installed."""
    if find_spec("torch") is None:
        raise ConfigError("heads run in PyTorch, which is not installed: pip install 'pilotfish[heads]'")


def require_matplotlib() -> None:
    """Raise ConfigError where matplotlib, which draws, is not installed."""
    if find_spec("matplotlib") is None:
        raise ConfigError("plots need matplotlib, which is not installed: pip install 'pilotfish[plots]'")


def require_serve() -> None:
    """Raise ConfigError where a package of the server is not installed."""
    missing = [
        name for name in ("fastapi", "uvicorn", "sse_starlette", "prometheus_client") if not find_spec(name)
    ]
    if missing:
        raise ConfigError(
            f"the server needs {', '.join(missing)}, which is not installed: pip install 'pilotfish[serve]'"
        )
