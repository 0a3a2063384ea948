"""Many clients, slow ones, and ones that leave: everybody is served in order, and no place stays taken."""

import threading
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.orchestrator.server.wire import read, wait_until

LONG = {"prompt": "x", "max_tokens": 4000}
MUCH = {"prompt": "x", "max_tokens": 900, "stream": True, "include_sources": True}  # more than buffers hold


def prompt(i):
    return f"fish number {i} swims ahead of fish number {i + 1}"


def test_fifty_clients_each_get_the_engines_text_or_a_busy_sign(start):
    server = start(max_queue=8)
    alone = [server.engine.generate(prompt(i), max_tokens=25).text for i in range(50)]
    together = threading.Barrier(50)

    def ask(i):
        together.wait(30)
        options = {"model": "tiny", "prompt": prompt(i), "max_tokens": 25}
        try:
            if i % 2:
                return client.completions.create(**options).choices[0].text
            return "".join(
                chunk.choices[0].text for chunk in client.completions.create(**options, stream=True)
            )
        except openai.InternalServerError as error:
            assert error.status_code == 503 and error.code == "queue_full"
            assert 1 <= int(error.response.headers["retry-after"]) <= 60
            return None

    with server.client() as client, ThreadPoolExecutor(50) as pool:
        texts = list(pool.map(ask, range(50)))
    served = [i for i, text in enumerate(texts) if text is not None]
    assert len(served) >= 9 and all(texts[i] == alone[i] for i in served)
    wait_until(server.is_free)
    refused = server.figures().get('pilotfish_requests_total{route="/v1/completions",status="503"}', 0)
    assert refused == 50 - len(served)


def test_fifty_clients_are_all_served_where_the_line_is_long_enough(start):
    server = start(max_queue=50)
    alone = [server.engine.generate(prompt(i), max_tokens=10).text for i in range(50)]

    def ask(i):
        return client.completions.create(model="tiny", prompt=prompt(i), max_tokens=10).choices[0].text

    with server.client() as client, ThreadPoolExecutor(50) as pool:
        assert list(pool.map(ask, range(50))) == alone


@pytest.mark.usefixtures("slow")
def test_who_came_first_is_served_first(start):
    server, order = start(), []
    with server.wire.open({**LONG, "stream": True}) as first:
        first.recv(100)
        threads = []
        for i in range(6):
            thread = threading.Thread(
                target=lambda i=i: (server.wire.post({"prompt": "x", "max_tokens": 30}), order.append(i))
            )
            thread.start()
            threads.append(thread)
            wait_until(lambda i=i: server.service.line.n_waiting == i + 1)
    for thread in threads:
        thread.join()
    assert order == list(range(6))


@pytest.mark.usefixtures("slow")
def test_a_client_that_leaves_in_the_middle_frees_its_place(start):
    server = start(max_queue=0)
    connection = server.wire.open({**LONG, "stream": True})
    connection.recv(1000)
    figures = server.figures()
    assert figures["pilotfish_generating"] == 1
    assert server.wire.post({"prompt": "x"}).status == 503
    connection.close()
    wait_until(server.is_free, 2)
    assert server.wire.post({"prompt": "x", "max_tokens": 2}).status == 200
    assert server.figures()["pilotfish_generated_tokens_total"] < 4000


@pytest.mark.usefixtures("slow")
def test_a_client_that_does_not_stream_and_leaves_frees_its_place(start):
    server = start(max_queue=0)
    connection = server.wire.open(LONG)
    wait_until(lambda: server.service.line.n_running == 1)
    connection.close()
    wait_until(server.is_free, 2)
    assert server.wire.post({"prompt": "x", "max_tokens": 2}).status == 200
    left = 'pilotfish_requests_total{route="/v1/completions",status="499"}'
    assert server.figures()[left] == 1


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_while_it_waits_frees_its_place(start, stream):
    server = start(max_queue=1)
    with server.wire.open({**LONG, "stream": True}) as running:
        running.recv(100)
        waiting = server.wire.open({**LONG, "stream": stream})
        wait_until(lambda: server.figures()["pilotfish_queue_length"] == 1)
        assert server.wire.post({"prompt": "x"}).status == 503
        waiting.close()
        wait_until(lambda: server.figures()["pilotfish_queue_length"] == 0, 2)
        last = server.wire.open({"prompt": "x", "max_tokens": 2}, Connection="close")
        wait_until(lambda: server.service.line.n_waiting == 1)
    assert read(last).status == 200
    last.close()


def test_a_client_that_leaves_while_a_long_prompt_is_read_frees_its_place(start):
    server = start()
    connection = server.wire.open({"prompt": [7] * 4000, "max_tokens": 1})
    wait_until(lambda: server.service.line.n_running == 1)
    connection.close()
    wait_until(server.is_free, 2)
    assert server.wire.post({"prompt": "x", "max_tokens": 2}).status == 200


def test_a_slow_reader_holds_up_nobody_and_gets_everything(start):
    server = start()
    slow = server.wire.open(MUCH, receive_buffer=4096, Connection="close")
    wait_until(lambda: server.is_free() and server.figures()["pilotfish_generated_tokens_total"] == 900)
    assert server.wire.post({"prompt": "x", "max_tokens": 2}).status == 200
    assert server.server.server_state.tasks  # much of it is still to be sent
    body = read(slow).text
    slow.close()
    assert body.rstrip().endswith("data: [DONE]\n\n\r\n0") and body.count("data: ") > 300


def test_a_reader_that_stands_still_is_given_up(start):
    server = start(read_timeout=0.3)
    with server.wire.open(MUCH, receive_buffer=4096):
        wait_until(lambda: server.server.server_state.tasks, 5)
        wait_until(lambda: not server.server.server_state.tasks, 20)
        wait_until(server.is_free, 2)


@pytest.mark.usefixtures("slow")
def test_a_request_that_takes_too_long_ends(start):
    server = start(timeout=0.3)
    answer = server.wire.post(LONG)
    assert answer.status == 504 and "longer than 0.3 seconds" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"
    wait_until(server.is_free, 2)
    with server.client() as client, pytest.raises(openai.APIError, match=r"longer than 0\.3 seconds"):
        list(client.completions.create(model="tiny", prompt="x", max_tokens=4000, stream=True))
    wait_until(server.is_free, 2)


def test_a_request_whose_turn_does_not_come_is_told_to_come_back(start):
    server, busy = start(timeout=0.3), threading.Event()
    server.service.line._thread.submit(busy.wait)  # an answer before it that takes long
    answer = server.wire.post({"prompt": "x"})
    busy.set()
    assert answer.status == 503 and answer.error["code"] == "queue_timeout" and answer.headers["retry-after"]
    wait_until(server.is_free, 2)
    assert server.wire.post({"prompt": "x", "max_tokens": 2}).status == 200
