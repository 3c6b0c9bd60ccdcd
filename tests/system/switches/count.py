"""Sends requests on four kept connections: count.py REQUESTS. Prints a line of JSON: the responses by server, or by status
where no server has signed."""

import collections
import http.client
import json
import sys
import threading

counts = collections.Counter()
counted = threading.Lock()


def visit(number):
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=20)
    for _ in range(number):
        connection.request("GET", "/")
        response = connection.getresponse()
        response.read()
        with counted:
            counts[response.headers.get("X-Served-By", str(response.status))] += 1


threads = [threading.Thread(target=visit, args=(int(sys.argv[1]) // 4,)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(counts))
