"""A request in progress, as users hold it: it takes the engine for one round at a time."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.errors import PilotfishError
from orchestrator.request import Chunk, Result
from orchestrator.run import Run

if TYPE_CHECKING:
    from orchestrator.engine import Engine


class Stream(Iterator[Chunk]):
    """A request in progress: iterate over its chunks; `result` is what there is so far."""

    def __init__(self, engine: "Engine", run: Run) -> None:
        self._engine, self._run = engine, run
        self._chunks = run.chunks()
        self._started = False

    def __next__(self) -> Chunk:
        self._engine.acquire(self._run, first=not self._started)
        try:
            self._started = True
            return next(self._chunks)
        finally:
            self._engine.release()

    @property
    def result(self) -> Result:
        return self._run.result()

    def cancel(self) -> None:
        """End after the round in progress; from any thread."""
        self._run.cancel()

    def finish(self) -> Result:
        """Read the stream to its end."""
        try:
            for _ in self:
                pass
        except PilotfishError as error:
            error.result = self.result
            raise
        return self.result
