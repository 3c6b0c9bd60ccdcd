"""Starts `moto`, an implementation of the interface of AWS, for the scripts that create what a test needs."""

import os
import socket
import threading

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-central-1"}
os.environ.update(CREDENTIALS)

import boto3  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
server.start()

api = f"http://127.0.0.1:{port}"


def client(service):
    return boto3.client(service, endpoint_url=api)


def serve(environment):
    """Prints the environment of the test, and serves until the process is killed."""
    for key, value in {"SWITCH_API": api, "SWITCH_WITHIN": "5", **environment, **CREDENTIALS}.items():
        print(f"{key}={value}")
    print("up", flush=True)
    threading.Event().wait()
