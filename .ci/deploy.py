"""Runs a program as the unit would, traced, and holds what it did against what the unit allows and promises."""

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
from gateway import OPERATOR, TOKEN, WAIT_S, addresses_in, ask, read  # noqa: E402

UNIT = os.path.join(os.path.dirname(__file__), "../deploy/systemd/tollgate.service")


def unit(key):
    """The values of a key of the unit."""
    with open(UNIT) as file:
        return [line.split("=", 1)[1].strip() for line in file if line.startswith(key + "=")]


def system_calls(sets):
    """The names in sets of system calls, those within sets too."""
    names = set()
    for one in sets:
        said = subprocess.run(["systemd-analyze", "syscall-filter", one], check=True, capture_output=True, text=True)
        for line in said.stdout.splitlines()[1:]:
            word = line.strip()
            if word.startswith("@"):
                names |= system_calls([word])
            elif word and not word.startswith("#"):
                names.add(word)
    return names


def allowed():
    names = system_calls(["@default"])
    for value in unit("SystemCallFilter"):
        words = value.lstrip("~").split()
        names = names - system_calls(words) if value.startswith("~") else names | system_calls(words)
    return names


class Manager:
    """The end of the socket at which the service manager listens."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(WAIT_S)

    def expect(self, line):
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            told = self.socket.recv(4096).decode().splitlines()
            if line in told:
                return told
        raise SystemExit(f"{line} was not told")


def use(program, merchants, operator):
    """A merchant, payments, a webhook's endpoint, a backup, metrics: what keeps a gateway busy."""
    assert subprocess.run([program, "healthcheck", "--url", merchants], check=True, capture_output=True,
                          text=True).stdout == "ready\n"
    made = ask("POST", f"{operator}/admin/v1/merchants", OPERATOR, {"name": "shop", "tier": "premium"})
    environment = {**os.environ, "TOLLGATE_KEY": made["key"]["id"], "TOLLGATE_SECRET": made["key"]["secret"]}
    for number in range(5):
        body = json.dumps({"order_no": f"O-{number}", "amount": 500, "currency": "USD"})
        command = [program, "request", "POST", "/api/v1/payments", "--data", body, "--url", merchants]
        subprocess.run(command, env=environment, check=True, capture_output=True)
    body = json.dumps({"url": "https://shop.example.com/hook"})
    command = [program, "request", "POST", "/api/v1/webhooks/endpoints", "--data", body, "--url", merchants]
    subprocess.run(command, env=environment, capture_output=True)
    read("GET", f"{operator}/metrics", OPERATOR)


def traced(trace):
    """The names of the system calls in a trace."""
    with open(trace, errors="replace") as file:
        found = (re.match(r"\d+\s+(?:<\.\.\. )?(\w+)(?:\(| resumed>)", line) for line in file)
        return {match.group(1) for match in found if match}


def main(program, directory):
    manager = Manager(os.path.join(directory, "notify"))
    log_path, trace = os.path.join(directory, "log"), os.path.join(directory, "trace")
    data = os.path.join(directory, "data")
    environment = {**os.environ, "TOLLGATE_ADMIN_TOKEN": TOKEN, "NOTIFY_SOCKET": os.path.join(directory, "notify"),
                   "WATCHDOG_USEC": "3000000", "TOLLGATE_STORAGE__DIR": data}
    # Its files are to be as limited as the unit has them: what raises the limit is among what it forbids.
    files = min(int(unit("LimitNOFILE")[0]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    command = ["prlimit", f"--nofile={files}:{files}", "strace", "-f", "-qq", "-s", "0", "-o", trace, program, "serve",
               "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    with open(log_path, "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    with contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        merchants, operator = addresses_in(log_path, process)
        manager.expect("READY=1")
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
            child = int(file.read().split()[0])
        use(program, merchants, operator)
        manager.expect("WATCHDOG=1")
        os.kill(child, signal.SIGHUP)
        assert any(line.startswith("MONOTONIC_USEC=") for line in manager.expect("RELOADING=1"))
        manager.expect("READY=1")
        os.kill(child, signal.SIGTERM)
        manager.expect("STOPPING=1")
        assert process.wait(WAIT_S) == 0
    used = traced(trace)
    assert {"execve", "write", "fdatasync", "epoll_wait"} <= used, used
    forbidden = used - allowed()
    assert not forbidden, f"the unit forbids {sorted(forbidden)}"
    # What is there belongs to the service alone.
    modes = {name: os.stat(os.path.join(data, name)).st_mode & 0o777 for name in ("admin.token", "master.key")
             if os.path.exists(os.path.join(data, name))}
    assert modes and all(mode & 0o077 == 0 for mode in modes.values()), modes
    print(f"{len(used)} system calls, all allowed")


main(sys.argv[1], sys.argv[2])
