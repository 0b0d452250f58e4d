"""Starts the program's sandbox for the scripts beside this one."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import urllib.request

WAIT_S = 30


@contextlib.contextmanager
def sandbox(program):
    """The addresses of a running sandbox by the names of its emulators, and that of its control as `control`."""
    environment = {**os.environ, "TOLLGATE_LOG": "off"}
    process = subprocess.Popen([program, "sandbox", "--listen", "127.0.0.1:0"], env=environment, text=True,
                               stdout=subprocess.PIPE)
    # A program that says nothing must not be waited for without end.
    watch = threading.Timer(WAIT_S, process.kill)
    watch.start()
    try:
        addresses = {}
        while len(addresses) < 5:
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"the sandbox did not start: {addresses}")
            name, address = line.split()
            addresses[name] = address
        watch.cancel()
        yield addresses
    finally:
        watch.cancel()
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)


def control(method, url, data=None):
    """Asks a sandbox's control."""
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        return json.loads(answer.read() or b"null")
