"""A server of a side: returns its name, after so many seconds at /slow/SECONDS, and status 503 once /tmp/NAME.ill exists.
Once /tmp/NAME.fails exists, requests through the front end get status 500.

/headers returns the request's headers, and a WebSocket echoes one short text."""

import base64
import hashlib
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME, PORT, HOST = sys.argv[1], int(sys.argv[2]), (sys.argv[3:] or ["127.0.0.1"])[0]


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # Headers and body in one packet.
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path.startswith("/slow/"):
            time.sleep(float(self.path.removeprefix("/slow/")))
        if self.headers.get("Upgrade", "").lower() == "websocket":
            return self.echo()
        ill = os.path.exists(f"/tmp/{NAME}.ill")
        fails = os.path.exists(f"/tmp/{NAME}.fails") and "X-Forwarded-For" in self.headers
        self.send_response(503 if ill else 500 if fails else 200)
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode() if self.path == "/headers" else NAME.encode()
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Served-By", NAME)
        self.end_headers()
        self.wfile.write(body)

    def echo(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.wfile.flush()
        length = self.rfile.read(2)[1] & 127
        mask = self.rfile.read(4)
        text = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(length)))
        self.wfile.write(bytes([0x81, len(text)]) + text)
        self.close_connection = True

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


Server((HOST, PORT), Answer).serve_forever()
