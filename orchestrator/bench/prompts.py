"""From a suite's questions to the token ids that every entrant of a group gets."""

from collections.abc import Sequence

from adapters.chat import Message
from orchestrator.bench.suite import Question
from orchestrator.engine import Engine


class Prompter:
    """Renders conversations for one target; a model without a chat template gets the bare text."""

    def __init__(self, engine: Engine, questions: Sequence[Question], n_context: int | None = None) -> None:
        """n_context: fill prompts up to so many tokens, with the texts of the other questions."""
        self._engine, self._n_context = engine, n_context
        self._texts = {question.id: question.turns[0] for question in questions}
        self._chats = bool(engine.model.meta("tokenizer.chat_template"))

    def prompt(self, question: Question, answers: Sequence[str]) -> list[int]:
        """The conversation so far, open for the answer to turn `len(answers)`."""
        tokens = self._render(question, answers, "")
        missing = (self._n_context or 0) - len(tokens)
        if missing <= 0:
            return tokens
        return self._render(question, answers, self._filler(question, missing))

    def _render(self, question: Question, answers: Sequence[str], filler: str) -> list[int]:
        turns = [filler + question.turns[0], *question.turns[1 : len(answers) + 1]]
        if not self._chats:
            spoken = [text for pair in zip(turns, [*answers, ""], strict=True) for text in pair if text]
            return self._engine.tokenizer.encode("\n\n".join([*spoken, ""]))
        messages: list[Message] = []
        for turn, answer in zip(turns, [*answers, None], strict=True):
            messages.append({"role": "user", "content": turn})
            if answer is not None:
                messages.append({"role": "assistant", "content": answer})
        return self._engine.chat_prompt(messages)

    def _filler(self, question: Question, n_tokens: int) -> str:
        """About `n_tokens` tokens of other questions, those that follow this one in its run first."""
        ids = list(self._texts)
        place = ids.index(question.id)
        tokenizer, tokens = self._engine.tokenizer, list[int]()
        others = ids[place + 1 :] + ids[:place] or ids
        while len(tokens) < n_tokens:
            for identity in others:
                tokens += tokenizer.encode(self._texts[identity] + "\n\n", add_special=False)
                if len(tokens) >= n_tokens:
                    break
        return tokenizer.decode(tokens[:n_tokens]) + "\n\n"
