"""Starts a whole gateway for the scripts beside this one."""

import contextlib
import json
import os
import signal
import subprocess
import time

WAIT_S = 30
TOKEN = "scripts-admin-token-0000000001"


@contextlib.contextmanager
def gateway(program, directory, arguments=(), environment=()):
    """The addresses (merchants', operator's) of a gateway on free ports with its data in `directory`/data."""
    log_path = os.path.join(directory, "log")
    command = [program, "serve", "--data-dir", os.path.join(directory, "data"), "--listen", "127.0.0.1:0",
               "--admin-listen", "127.0.0.1:0", *arguments]
    environment = {**os.environ, "TOLLGATE_ADMIN_TOKEN": TOKEN, **dict(environment)}
    with open(log_path, "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield addresses_in(log_path, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()


def killed(program, directory, work):
    """Kills a gateway with its data in `directory`/data after `work` with its operator's address, so that it leaves its
    store as one that failed does."""
    log_path = os.path.join(directory, "killed.log")
    command = [program, "serve", "--data-dir", os.path.join(directory, "data"), "--listen", "127.0.0.1:0",
               "--admin-listen", "127.0.0.1:0"]
    with open(log_path, "w") as log:
        process = subprocess.Popen(command, env={**os.environ, "TOLLGATE_ADMIN_TOKEN": TOKEN}, stdout=log, stderr=log)
    try:
        work(addresses_in(log_path, process)[1])
    finally:
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
