"""Runs the commands of README.md's first hour, one by one and in their order, as a newcomer would type them.

The gateway is started with the page's line and stopped and started again at the end. It listens on free ports, so the address
of merchants' listener is replaced and the command line is told both; `PY…`, `PA…` and `wn_…` become the last such number that
was printed, as the page says. Each command has to succeed, and its output to have what the page promises.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

from gateway import WAIT_S, addresses_in

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "README.md")
# By what a command begins with, in their order: what its output has to have.
PROMISED = [
    ("curl", r'"payment_no":"PY\w+".*"status":"success".*"channel":"stripe"'),
    ("tollgate payment routing PY… --data-dir ./data", r"attempt 1 on stripe: success"),
    ("tollgate request POST /api/v1/payments --data '{\"order_no\":\"ORDER-2\"", r'"channel": ?"(alipay|paypal|crypto)"'),
    ("tollgate payment routing PY… --data-dir ./data", r"attempt 1 on stripe: not_done.*channel_unreachable.*attempt 2 on \w+: success"),
    ("tollgate request POST /api/v1/pre-auths --data", r'"status": ?"requires_capture"'),
    ("tollgate request POST /api/v1/pre-auths/PA", r'"status": ?"captured"'),
    ("tollgate webhook show-notification", r"payment.success"),
    ("tollgate store backup", r"."),
]


def first_hour(kind):
    """The lines of the page's first hour that stand in blocks of this kind."""
    with open(PAGE) as page:
        hour = page.read().split("## The first hour")[1].split("\n## ")[0]
    text = "".join(re.findall(rf"^```{kind}\n(.*?)^```$", hour, re.DOTALL | re.MULTILINE))
    return [line.replace("\\\n", " ") for line in re.split(r"(?<!\\)\n", text) if line]


@contextlib.contextmanager
def started(directory, environment):
    """A gateway by the page's own line, and where it listens; it has to end well when it is told to."""
    [line] = [line for line in first_hour("console") if "tollgate serve" in line]
    print(f"$ {line}", flush=True)
    log_path = os.path.join(directory, "log")
    with open(log_path, "w") as log:
        process = subprocess.Popen(["bash", "-c", line], cwd=directory, env=environment, stdout=log, stderr=log,
                                   start_new_session=True)
    try:
        listen, admin = addresses_in(log_path, process)
        for name, address in (("listen", listen), ("admin", admin)):
            with open(os.path.join(directory, name), "w") as file:
                file.write(address)
        yield listen
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(WAIT_S) == 0, "the gateway did not end well"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(WAIT_S)


def run(line, directory, environment):
    """Runs a command; again if it came too early, as a person would: what it is about is still under way."""
    for _ in range(20):
        ended = subprocess.run(["bash", "-c", line], cwd=directory, env=environment, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, timeout=WAIT_S)
        if "INVALID_STATE" not in ended.stdout:
            break
        time.sleep(0.1)
    return ended


def main():
    promised = list(PROMISED)
    with tempfile.TemporaryDirectory() as directory:
        os.mkdir(os.path.join(directory, "bin"))
        wrapper = os.path.join(directory, "bin", "tollgate")
        with open(wrapper, "w") as file:
            file.write(f'''#!/bin/sh
case "$1" in
serve) exec "{sys.argv[1]}" "$@" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 ;;
request) exec "{sys.argv[1]}" "$@" --url "$(cat "{directory}/listen")" ;;
*) exec "{sys.argv[1]}" "$@" --admin-url "$(cat "{directory}/admin")" ;;
esac
''')
        os.chmod(wrapper, 0o755)
        environment = {**os.environ, "PATH": f"{directory}/bin:{os.environ['PATH']}"}
        variables, last = os.path.join(directory, "variables"), {}
        with started(directory, environment) as listen:
            for command in first_hour("sh"):
                typed = command.replace("http://127.0.0.1:8080", listen)
                for number, found in last.items():
                    typed = typed.replace(f"{number}…", found)
                line = f"set -euo pipefail; [ ! -e {variables} ] || . {variables}; {typed}\nexport -p > {variables}"
                ended = run(line, directory, environment)
                print(f"$ {command}\n{ended.stdout.strip()[:300]}", flush=True)
                if ended.returncode != 0:
                    raise SystemExit(f"this failed ({ended.returncode}):\n{typed}\n{ended.stdout}")
                if promised and command.startswith(promised[0][0]):
                    _, pattern = promised.pop(0)
                    assert re.search(pattern, ended.stdout, re.DOTALL), f"{pattern} is not in\n{ended.stdout}"
                for number in ("PY", "PA", "wn_"):
                    for found in re.findall(rf"\b{number}\w{{12,}}", ended.stdout)[:1]:
                        last[number] = found
        assert not promised, f"the page does not have these: {promised}"
        # The upgrade: what was stopped goes on with the same data.
        with started(directory, environment):
            listed = run("tollgate payment list --data-dir ./data", directory, environment)
            assert listed.returncode == 0 and last["PY"] in listed.stdout, listed.stdout


main()
