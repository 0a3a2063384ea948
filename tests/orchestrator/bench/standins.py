"""Small programs that stand in for llama.cpp's tools, which the tests do not have."""

import sys
from pathlib import Path

SERVER = """
import json, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

if "--help" in sys.argv:
    print("--spec-type none,draft-simple,draft-eagle3,ngram-simple,ngram-mod")
    print("             comma-separated list of types")
    sys.exit()
print("flags:", " ".join(sys.argv[1:]), file=sys.stderr, flush=True)
answers = ANSWER
started = time.monotonic()

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply(200 if time.monotonic() > started + 0.1 else 503, {"status": "ok"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answers(self, body)

    def reply(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass

HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""

# answers with the prompt itself, the request in the place of the text
ECHO = """lambda handler, body: handler.reply(200, {
    "content": json.dumps(body),
    "tokens": body["prompt"][: body["n_predict"]],
    "timings": {"predicted_n": len(body["prompt"][: body["n_predict"]]), "predicted_ms": 40.0,
                "prompt_ms": 5.0, **DRAFTED},
})"""


def program(path: Path, source: str) -> Path:
    """An executable Python program at `path`."""
    path.write_text(f"#!{sys.executable}\n{source}")
    path.chmod(0o755)
    return path


def server(folder: Path, answer: str = ECHO, drafted: str = "{}") -> Path:
    """A llama-server that answers with `answer`, an expression; `drafted`: more of its timings."""
    source = SERVER.replace("ANSWER", answer.replace("DRAFTED", drafted))
    return program(folder / "llama-server", source)
