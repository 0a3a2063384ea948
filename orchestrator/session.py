"""What an engine has read, kept on disk and taken from it: calls of `Engine`, which is one of these.

Knows who may touch the target when; the file is orchestrator.session_file's.
"""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from adapters.llama_context import LlamaContext
from adapters.settings import require
from adapters.tokenizer import Tokenizer
from orchestrator.drafters.base import Drafter
from orchestrator.run import Run
from orchestrator.session_file import load, save

logger = logging.getLogger("pilotfish.engine")


class Sessions:
    """An engine between two requests."""

    target: LlamaContext
    tokenizer: Tokenizer
    drafter: Drafter
    _current: Run | None

    def _between_requests(self, method: str) -> AbstractContextManager[None]:
        """Hold the target, which no request may be using; a stream that was left open stays where it is."""
        raise NotImplementedError

    def save_session(self, path: str | Path, prompt: str | Sequence[int] | None = None) -> int:
        """Keep on disk what the target has read, for `load_session`; how many tokens that is.

        prompt: text (or token ids) that is read first and kept alone, such as documents that many questions
        begin with; None = what it has read so far. Drafters keep nothing; see `load_session`.
        """
        with self._between_requests("save_session"):
            if prompt is not None:
                tokens = self.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
                require(len(tokens) > 0, "the prompt is empty; give at least one token of text")
                self.target.checked(tokens)
                self._current = None  # a stream in progress cannot go on without its cache
                self.target.truncate(0)  # read in one go: the same bytes whatever came before
                self.target.prefill([*tokens, tokens[-1]])  # the last token given is never read
            return save(path, self.target)

    def load_session(self, path: str | Path) -> int:
        """Read what `save_session` has kept, in place of what the target has in memory; how many tokens.

        Prompts that begin with these tokens go on behind them. A draft model still reads them itself, and for
        an EAGLE head, which needs the target's rows of every token, the target does: it gains nothing.
        ConfigError for a file that is damaged, or of another model or other settings: all is as it was.
        """
        with self._between_requests("load_session"):
            n_tokens = load(path, self.target)
            self._current = None
        if self.drafter.taps and self.drafter.taps.prompt:
            name = self.drafter.name
            logger.warning("%s needs the target's rows of a prompt: the session will be read again", name)
        return n_tokens
