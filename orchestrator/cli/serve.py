"""`pilotfish serve`: an OpenAI-compatible server for one model, and a page to talk with it."""

from pathlib import Path
from typing import Any

import click

from orchestrator.cli.common import engine_options, load_engine, method_option
from orchestrator.cli.output import note
from orchestrator.extras import require_serve


@click.command()
@click.argument("model")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=8080, show_default=True, help="0 takes any that is free.")
@click.option(
    "--api-key",
    envvar="PILOTFISH_API_KEY",
    show_envvar=True,
    help="Clients must send it; needed beyond loopback.",
)
@click.option("--name", help="What clients call the model, default: MODEL without folders.")
@click.option("--max-queue", type=int, metavar="N", help="Requests that may wait, default 32.")
@click.option(
    "--timeout", type=float, metavar="S", help="Seconds for a request, waiting included; default 600."
)
@click.option("--max-body", type=int, metavar="BYTES", help="Largest request; default 8 MiB.")
@click.option(
    "--grace", type=float, metavar="S", help="Seconds for the running answer at the end; default 10."
)
@method_option
@engine_options()
def serve(
    model: str,
    host: str,
    port: int,
    api_key: str | None,
    name: str | None,
    max_queue: int | None,
    timeout: float | None,
    max_body: int | None,
    grace: float | None,
    **options: Any,
) -> None:
    """Serve a model to OpenAI's clients, and a chat page at /. Ctrl-C ends it.

    Sampling options are the defaults of requests that say nothing.
    """
    require_serve()
    from orchestrator.server.serving import serve as run
    from orchestrator.server.settings import ServerSettings

    given = {"max_queue": max_queue, "timeout": timeout, "max_body": max_body, "grace": grace}
    limits: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    settings = ServerSettings(name or _name(model), host, port, api_key, **limits)
    with load_engine(model, **options) as engine:
        run(engine, settings, lambda address: note(f"{settings.name} at {address}/v1, a page at {address}/"))


def _name(model: str) -> str:
    """What clients may know of MODEL: a file's name, but not where it lies."""
    path = Path(model)
    return path.stem if path.suffix == ".gguf" and path.exists() else model
