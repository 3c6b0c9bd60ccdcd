#!/usr/bin/env python3
"""Visitors of an application during deployments: counts what failed, what was mixed, and what was stale.

    load.py BASE-URL RESULT-FILE [--slow PATH] [--socket PATH] [--cafile FILE] [--connect ADDRESS]

Twenty requests per second, each on a connection of its own; eight clients that keep their connections; one open
WebSocket; one slow request in flight. It runs until the file RESULT-FILE.stop exists, and then writes
a JSON object.
A page must name one version only. The assets of every page that was seen recently must still be there.
"""

import argparse
import asyncio
import base64
import collections
import json
import os
import random
import re
import ssl
import time
from urllib.parse import urlsplit

RATE = 20
KEEP_ALIVE = 8
# The number of versions for which a visitor may keep a page open and request its assets.
REMEMBERED = 4
TIMEOUT = 15
VERSION = re.compile(rb"Version (\d+)")
ASSET = re.compile(rb'(?:href|src)="(/[^"]*\.(?:css|js))"')


class Load:
    def __init__(self, options):
        url = urlsplit(options.url)
        self.host, self.path, self.options = url.netloc, url.path or "/", options
        port = url.port or (443 if url.scheme == "https" else 80)
        self.address = (options.connect or url.hostname, port)
        self.tls = None
        if url.scheme == "https":
            self.tls = ssl.create_default_context(cafile=options.cafile)
        self.name = url.hostname
        self.counts = collections.Counter()
        self.versions, self.latencies, self.errors = {}, [], []
        self.pages = collections.OrderedDict()
        self.stopping = asyncio.Event()

    async def connect(self):
        names = {"server_hostname": self.name} if self.tls else {}
        return await asyncio.open_connection(*self.address, ssl=self.tls, **names)

    def failed(self, kind, what):
        self.counts[kind] += 1
        if len(self.errors) < 6:
            self.errors.append(f"{time.strftime('%H:%M:%S')} {kind}: {what}")

    async def request(self, reader, writer, path, close):
        """One request on an open connection: the status, the body, and whether the connection may be used again."""
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\nUser-Agent: load\r\n"
            f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n".encode()
        )
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        status, lower = int(head.split(b" ", 2)[1]), head.lower()
        length = re.search(rb"\r\ncontent-length: *(\d+)", lower)
        if b"\r\ntransfer-encoding: chunked" in lower:
            body = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        elif length:
            body = await reader.readexactly(int(length[1]))
        else:
            body, close = await reader.read(), True
        return status, body, not (close or b"\r\nconnection: close" in lower)

    def judge(self, status, body, path):
        found = {int(version) for version in VERSION.findall(body)}
        self.counts["requests"] += 1
        if status != 200 or not found:
            return self.failed("failed", f"{path} status {status}: {body[:80]!r}")
        if len(found) > 1:
            return self.failed("mixed", f"{path} names {sorted(found)}")
        version = found.pop()
        self.versions[version] = self.versions.get(version, 0) + 1
        return version

    async def page(self, reader, writer, close):
        began = time.monotonic()
        status, body, is_open = await asyncio.wait_for(self.request(reader, writer, self.path, close), TIMEOUT)
        self.latencies.append(time.monotonic() - began)
        version = self.judge(status, body, self.path)
        if version is not None:
            self.pages[version] = {asset.decode() for asset in ASSET.findall(body)}
            while len(self.pages) > REMEMBERED:
                self.pages.popitem(last=False)
        return is_open

    async def once(self, work, kind="failed"):
        """Runs one piece of work on a connection of its own."""
        writer = None
        try:
            reader, writer = await asyncio.wait_for(self.connect(), TIMEOUT)
            await work(reader, writer)
        except (OSError, EOFError, ValueError, IndexError, asyncio.TimeoutError) as error:
            self.failed(kind, repr(error))
        finally:
            if writer:
                writer.close()

    async def unless_closed(self, request, is_kept):
        """The result of a request, or None if the server closed a connection that it had kept open until then."""
        try:
            return await request
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            if not is_kept or getattr(error, "partial", b""):
                raise
            # A browser sends this request again on a new connection.
            self.counts["reused"] += 1
            return None

    async def open_loop(self):
        tasks, next_time = set(), time.monotonic()
        while not self.stopping.is_set():
            task = asyncio.create_task(self.once(lambda r, w: self.page(r, w, True)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            next_time += 1 / RATE
            await asyncio.sleep(max(0, next_time - time.monotonic()))
        await asyncio.gather(*tasks)

    async def keep_alive(self):
        async def work(reader, writer):
            is_open, is_kept = True, False
            while not self.stopping.is_set() and is_open:
                # Like a browser, reopen a connection that the server closed while it was idle.
                if reader.at_eof():
                    return
                is_open = await self.unless_closed(self.page(reader, writer, False), is_kept)
                is_kept = True
                await asyncio.sleep(random.uniform(0.1, 0.4))

        while not self.stopping.is_set():
            await self.once(work)

    async def assets(self):
        """The page of an earlier version is still open somewhere, and asks for its assets now."""

        async def work(reader, writer):
            is_kept = False
            for version, assets in list(self.pages.items()):
                for asset in sorted(assets):
                    fetch = asyncio.wait_for(self.request(reader, writer, asset, False), TIMEOUT)
                    answer = await self.unless_closed(fetch, is_kept)
                    if answer is None:
                        return
                    status, body, is_open = answer
                    is_kept = True
                    self.counts["assets"] += 1
                    found = VERSION.search(body)
                    if status != 200 or not found or int(found[1]) != version:
                        self.failed("stale", f"{asset} of version {version}: status {status}, {body[:40]!r}")
                    if not is_open or reader.at_eof():
                        return

        while not self.stopping.is_set():
            await self.once(work, "stale")
            await asyncio.sleep(0.2)

    async def slow(self):
        async def work(reader, writer):
            fetch = self.request(reader, writer, self.options.slow, True)
            status, body, _ = await asyncio.wait_for(fetch, TIMEOUT)
            self.counts["slow"] += 1
            if len(VERSION.findall(body)) != 2:
                self.failed("failed", f"{self.options.slow} was cut off: {body!r}")
            else:
                self.judge(status, body, self.options.slow)

        while not self.stopping.is_set():
            await self.once(work)

    async def websocket(self):
        async def receive(reader):
            first, length = await reader.readexactly(2)
            return first & 15, await reader.readexactly(length & 127)

        async def work(reader, writer):
            key = base64.b64encode(os.urandom(16)).decode()
            writer.write(
                f"GET {self.options.socket} HTTP/1.1\r\nHost: {self.host}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
            )
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT)
            if b" 101 " not in head.split(b"\r\n")[0]:
                return self.failed("failed", f"{self.options.socket}: {head[:60]!r}")
            self.counts["websockets"] += 1
            await asyncio.wait_for(receive(reader), TIMEOUT)
            while not self.stopping.is_set():
                text, mask = b"%d" % random.randrange(10**9), os.urandom(4)
                masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(text))
                writer.write(bytes([0x81, 0x80 | len(text)]) + mask + masked)
                await writer.drain()
                opcode, answer = await asyncio.wait_for(receive(reader), TIMEOUT)
                # A close frame: the browser reconnects, and reaches the new version.
                if opcode == 8:
                    return
                if answer != text:
                    return self.failed("failed", f"the WebSocket returned {answer!r} for {text!r}")
                self.counts["messages"] += 1
                await asyncio.sleep(0.2)

        while not self.stopping.is_set():
            await self.once(work)

    async def stop(self):
        while not os.path.exists(self.options.result + ".stop"):
            await asyncio.sleep(0.1)
        self.stopping.set()

    async def run(self):
        work = [self.stop(), self.open_loop(), self.assets()] + [self.keep_alive() for _ in range(KEEP_ALIVE)]
        work += [self.slow()] if self.options.slow else []
        work += [self.websocket()] if self.options.socket else []
        await asyncio.gather(*work)
        ordered = sorted(self.latencies)
        return {
            "requests": 0, "failed": 0, "reused": 0, "mixed": 0, "stale": 0, "assets": 0,
            **self.counts,
            "versions": len(self.versions),
            "p50": round(ordered[len(ordered) // 2] * 1000, 1),
            "p99": round(ordered[len(ordered) * 99 // 100] * 1000, 1),
            "errors": self.errors,
        }  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("result")
    parser.add_argument("--slow")
    parser.add_argument("--socket")
    parser.add_argument("--cafile")
    parser.add_argument("--connect")
    options = parser.parse_args()
    result = asyncio.run(Load(options).run())
    with open(options.result, "w") as file:
        json.dump(result, file)


main()
