"""The part of DigitalOcean's and of Hetzner's interface that the switches use, as they publish it: cloud.py PORT.

Machine 1 is blue and has the address, 2 is green, 3 is off, 4 does not exist. Load balancer 9 has machines 1 and 11, which are
blue; `env=green` is a label. New targets become healthy after half a second, except for those of `sick`. A test has faults put before
the next answers: `curl --data '{"answers": [[429, 1]], "end": "errored"}' :PORT/fault`. /seen says what was asked,
and whether `ps` could see the token meanwhile.
"""

import glob
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(sys.argv[1])
DEFAULTS = {"answers": [], "end": "", "takes": 0.5, "lies": False, "sick": [], "tag": ""}
START = {"at": 1, "action": None, "targets": {"1": 0, "11": 0}, "changed": 0}
fault = dict(DEFAULTS)
state = dict(START, number=100)
seen = []

DIGITALOCEAN = {401: "unauthorized", 404: "not_found", 422: "unprocessable_entity", 429: "too_many_requests", 500: "server_error"}
HETZNER = {401: "unauthorized", 404: "not_found", 409: "conflict", 422: "floating_ip_assigned", 423: "locked",
           429: "rate_limit_exceeded", 500: "service_error"}
MESSAGES = {401: "Unable to authenticate you.", 404: "The resource you requested could not be found.",
            409: "the resource was changed", 422: "The floating IP already has a pending event.", 423: "the item is locked",
            429: "API rate limit exceeded.", 500: "Server Error"}


def settle():
    action = state["action"]
    if action and action["status"] == "running" and time.time() > action["ends"] and fault["end"] != "never":
        action["status"] = fault["end"] or "done"
        if action["status"] == "done" and not fault["lies"]:
            action["apply"]()


def token_in_sight():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            if b"good-token" in open(path, "rb").read():
                return True
        except OSError:
            pass
    return False


class Cloud(BaseHTTPRequestHandler):
    def answer(self, code, body, wait=None):
        self.send_response(code)
        if wait is not None:
            self.send_header("Retry-After", str(wait))
        self.end_headers()
        if code != 204:
            self.wfile.write(json.dumps(body).encode())

    def wrong(self, code, wait=None):
        if self.path.startswith("/v2"):
            self.answer(code, {"id": DIGITALOCEAN[code], "message": MESSAGES[code], "request_id": "4d9d"}, wait)
        else:
            self.answer(code, {"error": {"code": HETZNER[code], "message": MESSAGES[code], "details": None}}, wait)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/fault":
            fault.update(DEFAULTS, **body)
            state.update(START, targets=dict(START["targets"]))
            seen.clear()
            return self.answer(200, {})
        if self.early():
            return None
        settle()
        if self.path.endswith("/droplets"):
            return self.droplets(body)
        if state["action"] and state["action"]["status"] == "running":
            return self.wrong(422 if self.path.startswith("/v2") else 423)
        if "/load_balancers/" in self.path:
            return self.target(body)
        assert body.get("type", "assign") == "assign"
        to = body["droplet_id"] if self.path.startswith("/v2") else body["server"]
        return self.begin(lambda: state.update(at=to))

    def do_DELETE(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return None if self.early() else self.droplets(body)

    def begin(self, apply):
        state["number"] += 1
        state["action"] = {"id": state["number"], "apply": apply, "status": "running", "ends": time.time() + fault["takes"]}
        return self.answer(201, {"action": self.action()})

    def target(self, body):
        """Adds or removes a target of Hetzner's load balancer."""
        name = str(body["server"]["id"]) if body["type"] == "server" else body["label_selector"]["selector"]
        assert body["type"] in ("server", "label_selector")
        is_there = name in state["targets"]
        if self.path.endswith("/actions/add_target"):
            assert body["use_private_ip"] is True
            if name == "4":
                return self.wrong(404)
            return self.wrong(422) if is_there else self.begin(lambda: state["targets"].update({name: time.time()}))
        assert self.path.endswith("/actions/remove_target") and "use_private_ip" not in body
        return self.begin(lambda: state["targets"].pop(name)) if is_there else self.wrong(404)

    def droplets(self, body):
        """Adds or removes droplets of DigitalOcean's load balancer."""
        assert all(isinstance(number, int) for number in body["droplet_ids"])
        if fault["tag"] or time.time() < state["changed"] + fault["takes"]:
            return self.wrong(422)
        state["changed"] = time.time()
        for number in map(str, () if fault["lies"] else body["droplet_ids"]):
            if self.command == "POST":
                state["targets"][number] = time.time()
            else:
                state["targets"].pop(number)
        return self.answer(204, None)

    def balancer(self, number):
        if number != "9":
            return self.wrong(404)
        if self.path.startswith("/v2"):
            is_busy = time.time() < state["changed"] + fault["takes"]
            return self.answer(200, {"load_balancer": {
                "id": "9", "status": "new" if is_busy else "active", "tag": fault["tag"],
                "droplet_ids": [int(name) for name in state["targets"]],
                "health_check": {"check_interval_seconds": 1, "healthy_threshold": 1, "response_timeout_seconds": 1}}})

        def server(name):
            is_well = name not in fault["sick"] and time.time() > state["targets"][name] + 0.5
            status = [{"listen_port": port, "status": "healthy" if is_well else "unknown"} for port in (80, 443)]
            return {"type": "server", "server": {"id": int(name) if name.isdigit() else 21}, "use_private_ip": True,
                    "health_status": status}

        def target(name):
            return server(name) if name.isdigit() else {
                "type": "label_selector", "label_selector": {"selector": name}, "use_private_ip": True, "targets": [server(name)]}
        return self.answer(200, {"load_balancer": {"id": 9, "targets": [target(name) for name in state["targets"]]}})

    def do_GET(self):
        if self.path == "/seen":
            return self.answer(200, seen)
        if self.early():
            return None
        settle()
        kind, number = self.path.split("/")[-2:]
        if kind == "load_balancers":
            return self.balancer(number)
        if kind in ("droplets", "servers"):
            if number == "4":
                return self.wrong(404)
            status = ("off" if number == "3" else "active") if kind == "droplets" else ("off" if number == "3" else "running")
            return self.answer(200, {kind[:-1]: {"id": int(number), "status": status}})
        if kind == "actions":
            return self.answer(200, {"action": self.action()})
        if number not in ("203.0.113.10", "77"):
            return self.wrong(404)
        pending = bool(state["action"] and state["action"]["status"] == "running")
        if kind == "reserved_ips":
            droplet = state["at"] and {"image": {"id": 99}, "id": state["at"], "name": "web"}
            return self.answer(200, {"reserved_ip": {"ip": number, "region": {"slug": "fra1"}, "droplet": droplet,
                                                     "locked": pending, "project_id": "7"}})
        return self.answer(200, {"floating_ip": {"id": 77, "ip": "203.0.113.10", "server": state["at"], "blocked": False}})

    def early(self):
        """Answers instead, where the token is wrong or the test wants a fault."""
        seen.append(f"{self.command} {self.path}" + (" token in sight" if token_in_sight() else ""))
        if self.headers["Authorization"] != "Bearer good-token":
            self.wrong(401)
        elif fault["answers"] and (self.command != "GET" or fault["answers"][0][0] in (429, 500)):
            code, wait = fault["answers"].pop(0)
            if code == 422 and wait == "done":
                state["at"] = 2
            self.wrong(code, wait if code == 429 else None)
        else:
            return False
        return True

    def action(self):
        settle()
        action = state["action"]
        names = {"running": "in-progress", "done": "completed", "errored": "errored"}
        if not self.path.startswith("/v2"):
            names = {"running": "running", "done": "success", "errored": "error"}
        error = {"code": "action_failed", "message": "Action failed"} if action["status"] == "errored" else None
        return {"id": action["id"], "status": names[action["status"]], "error": error}

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", PORT), Cloud).serve_forever()
