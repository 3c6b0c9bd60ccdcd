"""Four users of the sample who never stop until /tmp/stop is there: writers.py PREFIX.

Each creates, renames, reads and deletes at the public address, and remembers what was acknowledged. Then
/tmp/PREFIX.json has it: `names` by id, `gone`, the number of requests, the failures, and the slowest answer.
"""

import http.client
import json
import os
import random
import sys
import threading
import time

PREFIX = sys.argv[1]
names, gone, failures, lock = {}, [], [], threading.Lock()
requests, slowest, versions = 0, 0.0, {}


class Writer(threading.Thread):
    def __init__(self, number):
        super().__init__()
        self.number, self.kept, self.mine, self.random = number, None, [], random.Random(number)

    def ask(self, method, path, body=None):
        """Two keep their connection, two open one for each request."""
        global requests, slowest
        begin = time.monotonic()
        try:
            connection = self.kept or http.client.HTTPConnection("127.0.0.1", 80, timeout=20)
            connection.request(method, path, body and json.dumps(body))
            answer = connection.getresponse()
            status, version, content = answer.status, answer.getheader("X-Version"), json.loads(answer.read() or "null")
            self.kept = connection if self.number % 2 else connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.kept, status, version, content = None, 0, None, repr(error)
        with lock:
            requests += 1
            slowest = max(slowest, time.monotonic() - begin)
            versions[version] = versions.get(version, 0) + 1
            if status not in (200, 201):
                failures.append(f"{method} {path}: {status} {content}")
        return content if status in (200, 201) else None

    def run(self):
        count = 0
        while not os.path.exists("/tmp/stop"):
            count += 1
            name = f"{PREFIX} {self.number} {count}"
            created = self.ask("POST", "/users", {"name": name})
            if not created:
                continue
            user = created["id"]
            self.note(user, name)
            self.mine.append(user)
            other = self.random.choice(self.mine)
            name += " renamed"
            if self.ask("PUT", f"/users/{other}", {"name": name}) is not None:
                self.note(other, name)
            read = self.ask("GET", f"/users/{other}")
            if read is not None and read["name"] != names[str(other)]:
                with lock:
                    failures.append(f"read {read['name']} for {names[str(other)]}")
            if count % 5 == 0:
                victim = self.mine.pop(self.random.randrange(len(self.mine)))
                if self.ask("DELETE", f"/users/{victim}") is not None:
                    with lock:
                        del names[str(victim)]
                        gone.append(victim)
            # Poll often without saturating two cores.
            time.sleep(0.1)

    def note(self, user, name):
        with lock:
            names[str(user)] = name


writers = [Writer(number) for number in range(4)]
for writer in writers:
    writer.start()
for writer in writers:
    writer.join()
with open(f"/tmp/{PREFIX}.json", "w") as file:
    json.dump({"names": names, "gone": gone, "failures": failures}, file)
print(json.dumps({"requests": requests, "failed": len(failures), "rows": len(names), "gone": len(gone),
                  "slowest_ms": round(slowest * 1000), "versions": versions, "first_failures": failures[:3]}))
