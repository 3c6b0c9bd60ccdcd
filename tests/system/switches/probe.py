"""Connects anew every 10 ms until /tmp/stop is there: probe.py ADDRESS. Prints a line of JSON for each move
that /tmp/moves has (`SIDE BEGUN ENDED`): the longest time without an answer, and who answered afterwards."""

import http.client
import json
import os
import sys
import threading
import time

answers, failures = [], []


def ask():
    begin = time.time()
    try:
        connection = http.client.HTTPConnection(sys.argv[1], 80, timeout=8)
        connection.request("GET", "/")
        side = connection.getresponse().read().decode()
        answers.append((begin, time.time(), side))
    except OSError as error:
        failures.append((begin, repr(error)))


threads = []
while not os.path.exists("/tmp/stop"):
    threads.append(threading.Thread(target=ask))
    threads[-1].start()
    time.sleep(0.01)
for thread in threads:
    thread.join()
for line in open("/tmp/moves"):
    side, begun, ended = line.split()[0], float(line.split()[1]), float(line.split()[2])
    ends = sorted(end for _, end, _ in answers if begun - 0.5 < end < ended + 1)
    print(json.dumps({
        "side": side, "gap_ms": round(max(b - a for a, b in zip(ends, ends[1:])) * 1000),
        "slow": sum(end - begin > 0.5 for begin, end, _ in answers if begun < begin < ended),
        "failed": sum(begun < begin < ended + 1 for begin, _ in failures), "requests": len(ends),
        "stale": sum(ended < begin < ended + 1 and who != side for begin, _, who in answers),
    }))
