"""Claims about llama.cpp's log: who hears it, and that Ctrl-C survives it."""

import signal

import pytest

from adapters.llama_context import LlamaContext
from adapters.llama_lib import log_listener
from adapters.llama_model import LlamaModel


@pytest.fixture(autouse=True)
def handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def press_ctrl_c(_line):
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_in_a_log_line_of_the_loader_is_not_lost(tiny):
    with pytest.raises(KeyboardInterrupt), log_listener(press_ctrl_c):
        LlamaModel(tiny("llama"))
    LlamaModel(tiny("llama")).close()


def test_ctrl_c_while_a_context_opens_leaves_a_usable_model(tiny):
    model = LlamaModel(tiny("llama"))
    with pytest.raises(KeyboardInterrupt), log_listener(press_ctrl_c):
        LlamaContext(model)
    LlamaContext(model).close()
    model.close()
