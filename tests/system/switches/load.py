"""Switches back and forth under load, and counts: load.py SETS SWITCH [SECONDS], with the public site at
127.0.0.1:80. Ten requests that take SECONDS are always in flight.

Prints one line of JSON. `failed` is a request without an answer, or one that is not 200; `reused` a kept
connection that was closed before it answered; `stale` a request that began after the switch had returned
and that the other side answered; `slow` the requests in flight that were answered.
"""

import http.client
import json
import subprocess
import sys
import threading
import time

SETS, SWITCH = int(sys.argv[1]), sys.argv[2]
SLOW = f"/slow/{sys.argv[3] if sys.argv[3:] else 5}"
stop = threading.Event()
counted = threading.Lock()
answers, failures, reused, slow = [], [], [], []


def connect():
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=20)
    connection.connect()
    return connection


def request(connection, path):
    """Begins when it returns from connecting: a connection that waits in a queue belongs to its request."""
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read().decode(), response.will_close


def visit(path, kept, pause):
    connection = None
    while not stop.is_set():
        fresh = connection is None
        begin = time.monotonic()
        try:
            connection = connection or connect()
            status, side, closes = request(connection, path)
            with counted:
                (slow if path == SLOW else answers).append((begin, time.monotonic(), side))
                if status != 200:
                    failures.append(f"{status} {side}")
            if closes or not kept:
                connection.close()
                connection = None
        except (OSError, http.client.HTTPException) as error:
            connection = None
            with counted:
                (failures if fresh else reused).append(f"{path}: {error!r}")
        stop.wait(pause)


def load():
    kinds = [("/", True, 0.05)] * 8 + [("/", False, 0.06)] * 4 + [(SLOW, True, 0)] * 10 + [("/", True, 0.3)] * 4
    threads = [threading.Thread(target=visit, args=kind) for kind in kinds]
    for thread in threads:
        thread.start()
    return threads


def switch(side):
    begin = time.monotonic()
    subprocess.run([SWITCH, "set", side], check=True)
    end = time.monotonic()
    return begin, end, side


threads = load()
time.sleep(0.5)
switches = []
for n in range(SETS):
    switches.append(switch(["green", "blue"][n % 2]))
    time.sleep(0.1)
time.sleep(0.5)
end = time.monotonic()
stop.set()
for thread in threads:
    thread.join()

stale, judged = 0, 0
for (_, returned, side), following in zip(switches, switches[1:] + [(end + 60, 0, "")]):
    for begin, answered, served in answers + slow:
        # A response after the next switch began may come from that switch, because requests can wait long on
        # a busy machine.
        if returned < begin and answered < following[0]:
            judged += 1
            stale += served != side
took = sorted(end - begin for begin, end, _ in switches)
print(json.dumps({
    "requests": len(answers) + len(slow) + len(failures), "judged": judged, "failed": len(failures), "reused": len(reused),
    "stale": stale, "slow": len(slow), "median_ms": round(took[len(took) // 2] * 1000), "most_ms": round(took[-1] * 1000),
    "first_failures": failures[:3],
}))
