"""Opens a WebSocket through a front end, is silent for so many seconds, and expects an echo: websocket.py SECONDS"""

import base64
import os
import socket
import sys
import time

connection = socket.create_connection(("127.0.0.1", 80), timeout=20)
key = base64.b64encode(os.urandom(16)).decode()
connection.sendall(
    f"GET / HTTP/1.1\r\nHost: front\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
)
stream = connection.makefile("rwb")
status = stream.readline().decode()
assert " 101 " in status, status
while stream.readline().strip():
    pass
time.sleep(float(sys.argv[1]))
text, mask = b"hello", os.urandom(4)
stream.write(bytes([0x81, 0x80 | len(text)]) + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(text)))
stream.flush()
assert stream.read(2 + len(text))[2:] == text, "no echo"
print("echoed")
