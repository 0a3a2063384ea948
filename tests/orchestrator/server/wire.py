"""HTTP as bytes: for requests that no client library would send, and connections that break off."""

import json
import socket
import time
from typing import NamedTuple


class Answer(NamedTuple):
    status: int
    headers: dict
    body: bytes

    @property
    def text(self):
        return self.body.decode()

    @property
    def error(self):
        """The error in OpenAI's shape, all its fields there."""
        found = json.loads(self.body)["error"]
        assert set(found) == {"message", "type", "param", "code"}
        return found


def wait_until(holds, seconds=10):
    """Fail where `holds` does not come true in time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)


class Wire:
    """Sends bytes to one port."""

    def __init__(self, port):
        self._port = port

    def connect(self, receive_buffer=None):
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(20)
        try:
            connection.connect(("127.0.0.1", self._port))
        except OSError:
            connection.close()
            raise
        return connection

    def open(self, body, path="/v1/completions", *, receive_buffer=None, **headers):
        """A connection on which a POST has been sent; a dict goes as JSON."""
        connection = self.connect(receive_buffer)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.sendall(head("POST", path, {"Content-Length": len(data), **headers}) + data)
        return connection

    def post(self, body, path="/v1/completions", **headers):
        with self.open(body, path, Connection="close", **headers) as connection:
            return read(connection)

    def get(self, path, method="GET", **headers):
        with self.connect() as connection:
            connection.sendall(head(method, path, {"Connection": "close", **headers}))
            return read(connection)


def head(method, path, headers):
    fields = {"Host": "127.0.0.1", **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode()


def read(connection):
    """The whole response; the server closes the connection behind it."""
    data = b""
    while piece := connection.recv(65536):
        data += piece
    top, _, body = data.partition(b"\r\n\r\n")
    first, *fields = top.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    return Answer(int(first.split()[1]), headers, body)
