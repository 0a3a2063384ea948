"""From results and chunks of an engine to the dictionaries of OpenAI's completions and chat completions."""

import time
import uuid
from typing import Any

from orchestrator.openai.logprobs import Placed, Placement, Vocabulary, chat_logprobs, completion_logprobs
from orchestrator.openai.parameters import Call
from orchestrator.request import Chunk, Result

Reply = dict[str, Any]


class Replies:
    """The replies to one request: a whole one, or chunk after chunk.

    model: the name they carry. prompt: the text of a completion's prompt. details: whether usage tells of
    cached and guessed tokens, too, as OpenAI's does.
    """

    def __init__(
        self, call: Call, vocabulary: Vocabulary, *, model: str = "", prompt: str = "", details: bool = False
    ) -> None:
        self._call, self._vocabulary, self._prompt, self._details = call, vocabulary, prompt, details
        self._asked = call.options.get("logprobs") is not None
        self._placement = Placement(vocabulary)
        self._length = 0
        self.id = f"{'chatcmpl' if call.chat else 'cmpl'}-{uuid.uuid4()}"
        self.created, self.model = int(time.time()), call.model or model

    # -- whole replies -----------------------------------------------------------------------------

    def whole(self, result: Result) -> Reply:
        """The reply to a request that does not stream."""
        self._placement.push(result.logprobs)
        placed = self._placement.take(len(result.text), rest=not self._cut_short(result))
        choice = self._chat_choice(result) if self._call.chat else self._text_choice(result)
        kind = "chat.completion" if self._call.chat else "text_completion"
        return {
            **self._frame(kind, {**choice, "logprobs": self._logprobs(placed)}),
            "usage": self.usage(result),
        }

    def _text_choice(self, result: Result) -> Reply:
        echoed = self._prompt if self._call.echo else ""
        return {"text": echoed + result.text, "index": 0, "finish_reason": self._reason(result)}

    def _chat_choice(self, result: Result) -> Reply:
        message: Reply = {"role": "assistant", "content": result.text}
        if self._call.tools.chosen:
            call = self._tool_call(result.text)
            message = {
                "role": "assistant",
                "content": None,
                "tool_calls": [call],
                **self._older(call["function"]),
            }
        return {"index": 0, "message": message, "finish_reason": self._reason(result)}

    # -- streams -----------------------------------------------------------------------------------

    def first(self) -> Reply:
        """What a stream opens with: who speaks in a chat, the prompt where it is echoed, else empty."""
        if not self._call.chat:
            return self._text_chunk(self._prompt) if self._call.echo else {}
        opening: Reply = {"role": "assistant"}
        if self._call.tools.chosen:
            call = self._tool_call("")
            opening |= {
                "content": None,
                "tool_calls": [{"index": 0, **call}],
                **self._older(call["function"]),
            }
        return self._delta(opening)

    def chunk(self, chunk: Chunk) -> Reply:
        """The reply to a chunk of the engine's; empty where it brought no text."""
        self._placement.push(chunk.logprobs)
        self._length += len(chunk.text)
        placed = self._placement.take(self._length)
        if not chunk.text and not placed:
            return {}
        return self._piece(chunk.text, placed)

    def last(self, result: Result) -> list[Reply]:
        """What a stream closes with: tokens that brought no text, why it ended, and usage where wanted."""
        replies = []
        rest = [] if self._cut_short(result) else self._placement.take(self._length, rest=True)
        if rest:
            replies.append(self._piece("", rest))
        reason = self._reason(result)
        replies.append(self._delta({}, reason) if self._call.chat else self._text_chunk("", None, reason))
        if self._call.include_usage:
            replies.append({**self._head(self._chunk_kind), "choices": [], "usage": self.usage(result)})
        return replies

    def _piece(self, text: str, placed: list[Placed]) -> Reply:
        logprobs = self._logprobs(placed)
        if not self._call.chat:
            return self._text_chunk(text, logprobs)
        delta: Reply = {"content": text}
        if self._call.tools.chosen:
            written = {"arguments": text}
            delta = {"tool_calls": [{"index": 0, "function": written}], **self._older(written)}
        return self._delta(delta, None, logprobs)

    def _text_chunk(self, text: str, logprobs: Reply | None = None, reason: str | None = None) -> Reply:
        choice = {"text": text, "index": 0, "logprobs": logprobs, "finish_reason": reason}
        return self._frame("text_completion", choice)

    def _delta(self, delta: Reply, reason: str | None = None, logprobs: Reply | None = None) -> Reply:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return self._frame("chat.completion.chunk", choice)

    # -- parts -------------------------------------------------------------------------------------

    def usage(self, result: Result) -> Reply:
        """Tokens of prompt and answer; the token that ended the text is not counted, having none."""
        stats, tokens = result.stats, result.tokens
        n_prompt, n_answer = stats.n_prompt, len(tokens)
        if tokens and self._vocabulary.is_end(tokens[-1]):
            n_answer -= 1
        usage: Reply = {
            "prompt_tokens": n_prompt,
            "completion_tokens": n_answer,
            "total_tokens": n_prompt + n_answer,
        }
        if self._details:
            usage["prompt_tokens_details"] = {"cached_tokens": stats.n_reused}
            usage["completion_tokens_details"] = {
                "accepted_prediction_tokens": stats.n_accepted,
                "rejected_prediction_tokens": stats.n_drafted - stats.n_accepted,
            }
        return usage

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self._call.chat else "text_completion"

    def _head(self, kind: str) -> Reply:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _frame(self, kind: str, choice: Reply) -> Reply:
        return {**self._head(kind), "choices": [choice]}

    def _tool_call(self, arguments: str) -> Reply:
        name = self._call.tools.chosen
        return {
            "id": f"call_{self.id}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }

    def _older(self, function: Reply) -> Reply:
        return {"function_call": function} if self._call.tools.legacy else {}

    def _reason(self, result: Result) -> str:
        if self._call.tools.chosen and result.finish_reason == "stop":
            return "tool_calls"
        return "length" if result.finish_reason == "length" else "stop"

    def _cut_short(self, result: Result) -> bool:
        """Whether the text ends before its last tokens do: at a stop string."""
        tokens = result.tokens
        return result.finish_reason == "stop" and not (tokens and self._vocabulary.is_end(tokens[-1]))

    def _logprobs(self, placed: list[Placed]) -> Reply | None:
        if not self._asked:
            return None
        if self._call.chat:
            return chat_logprobs(self._vocabulary, placed)
        return completion_logprobs(self._vocabulary, placed, len(self._prompt))
