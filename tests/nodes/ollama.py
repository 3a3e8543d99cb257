"""A stand-in for Ollama, of which no registry has a binary; its llama-server is a real one.

It spawns llama-server with the words that Ollama's source has for it, on a port that the kernel
chooses, when it is first asked to generate; `keep_alive: 0` unloads it. What it tells of its model
is shaped as `api/types.go` has it.
"""

from __future__ import annotations

UNIT = """[Unit]
Description=Ollama Service

[Service]
User=llama
Environment=OLLAMA_HOST=127.0.0.1:11434
Environment=LD_LIBRARY_PATH=/opt/llama
ExecStart=/usr/local/bin/ollama serve

[Install]
WantedBy=multi-user.target
"""

PROGRAM = """#!/usr/bin/python3
import http.server, json, os, socket, subprocess, threading, time, urllib.request

host, port = os.environ["OLLAMA_HOST"].split(":")
lock, child, inner, used = threading.Lock(), None, 0, 0.0

def ask(path, body=None):
    url = "http://127.0.0.1:%d%s" % (inner, path)
    with urllib.request.urlopen(url, json.dumps(body).encode() if body else None) as answer:
        return json.load(answer)

def load():
    global child, inner
    with lock:
        if child is None:
            with socket.create_server(("127.0.0.1", 0)) as chosen:
                inner = chosen.getsockname()[1]
            words = ["/opt/llama/llama-server", "--model", "/opt/models/steady.gguf"]
            words += ["--port", str(inner), "--host", "127.0.0.1", "--no-webui", "--offline"]
            words += ["-c", "8192", "-np", "2", "--threads", "1", "--cache-ram", "0"]
            child = subprocess.Popen(words)
        while True:
            try:
                return ask("/health")
            except OSError:
                time.sleep(0.1)

def models():
    if child is None:
        return []
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(used + 300))
    details = {"format": "gguf", "family": "llama", "parameter_size": "1B"}
    return [{"name": "steady:1b", "model": "steady:1b", "size": 1000, "digest": "0" * 64,
             "details": details, "expires_at": expires, "size_vram": 0, "context_length": 4096}]

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        known = {"/api/version": {"version": "0.31.2"}, "/api/ps": {"models": models()},
                 "/api/tags": {"models": [{"name": "steady:1b", "digest": "0" * 64}]}}
        self.answer(200 if self.path in known else 404, known.get(self.path, {}))

    def do_POST(self):
        global child, used
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked.get("keep_alive") == 0:
            child, gone = None, child
            gone.kill()
            gone.wait()
            return self.answer(200, {"done": True})
        load()
        used = time.time()
        tokens = asked["options"]["num_predict"]
        ask("/completion", {"prompt": "x", "n_predict": tokens, "ignore_eos": True})
        self.answer(200, {"done": True})

    def log_message(self, *words):
        pass

http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
"""

ASK = """
import json, sys, urllib.request
body = {"model": "steady:1b", **json.loads(sys.argv[1])}
urllib.request.urlopen("http://127.0.0.1:11434/api/generate", json.dumps(body).encode()).read()
"""
