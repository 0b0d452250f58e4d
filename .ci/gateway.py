"""Starts a whole gateway for the scripts beside this one, and asks it."""

import base64
import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request

WAIT_S = 30
TOKEN = "scripts-admin-token-0000000001"
OPERATOR = f"Bearer {TOKEN}"


@contextlib.contextmanager
def running(command, log_path, environment=None):
    """A process that is told to end behind it, and killed if it does not."""
    with open(log_path, "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()


@contextlib.contextmanager
def process_of(program, directory, arguments=(), environment=()):
    """A gateway on free ports with its data in `directory`/data: its process, and where it listens."""
    log_path = os.path.join(directory, "log")
    command = [program, "serve", "--data-dir", os.path.join(directory, "data"), "--listen", "127.0.0.1:0",
               "--admin-listen", "127.0.0.1:0", *arguments]
    environment = {**os.environ, "TOLLGATE_ADMIN_TOKEN": TOKEN, **dict(environment)}
    with running(command, log_path, environment) as process:
        yield process, addresses_in(log_path, process)


@contextlib.contextmanager
def gateway(program, directory, arguments=(), environment=()):
    """The addresses (merchants', operator's) of such a gateway."""
    with process_of(program, directory, arguments, environment) as (_, addresses):
        yield addresses


def killed(program, directory, work):
    """Kills such a gateway after `work` with its operator's address, so that it leaves its store as one that failed does."""
    with process_of(program, directory) as (process, (_, operator)):
        work(operator)
        process.kill()
        process.wait(WAIT_S)


def addresses_in(log_path, process):
    """Where the gateway listens, once it says that it is ready."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until and process.poll() is None:
        with open(log_path) as log:
            for line in log:
                if line.startswith("{") and line.endswith("}\n") and '"ready"' in line:
                    ready = json.loads(line)
                    return f"http://{ready['listen']}", f"http://{ready['admin_listen']}"
        time.sleep(0.05)
    raise SystemExit(f"the gateway did not start:\n{open(log_path).read()}")


def basic(key):
    """What a merchant with this key (`id`, `secret`) says who it is by."""
    return "Basic " + base64.b64encode(f"{key['id']}:{key['secret']}".encode()).decode()


def read(method, url, authorization=None, data=None, headers=()):
    """The text that a request is answered with."""
    headers = {"Content-Type": "application/json", **dict(headers)}
    if authorization:
        headers["Authorization"] = authorization
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        error.msg = f"{error.msg}: {method} {url}: {error.read().decode()}"
        raise


def ask(method, url, authorization=None, data=None, headers=()):
    """What stands in the `data` of an answer."""
    return json.loads(read(method, url, authorization, data, headers))["data"]


def until(what, check, wait_s=WAIT_S):
    """The first that `check` gives which is neither None nor False."""
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        found = check()
        if found is not None and found is not False:
            return found
        time.sleep(0.1)
    raise SystemExit(f"{what}: not within {wait_s} s")
