"""A server of a side: says its name, after so many seconds at /slow/SECONDS, and not at all well once /tmp/NAME.ill is there."""

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
        ill = os.path.exists(f"/tmp/{NAME}.ill")
        self.send_response(503 if ill else 200)
        body = NAME.encode()
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Served-By", NAME)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


Server((HOST, PORT), Answer).serve_forever()
