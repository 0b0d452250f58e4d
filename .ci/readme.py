"""Runs the commands of README.md's first hour, one by one and in their order, as a newcomer would type them.

The gateway listens on free ports, so the address of merchants' listener is replaced and the command line is told both; `PY…`,
`PA…` and `wn_…` become the last such number that was printed, as the page says. Each command has to succeed, and its output to
have what the page promises.
"""

import os
import re
import subprocess
import sys
import tempfile
import time

from gateway import TOKEN, WAIT_S, gateway

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "README.md")
# By what a command begins with: what its output has to have.
PROMISED = [
    ("curl", r'"payment_no":"PY\w+".*"status":"success".*"channel":"stripe"'),
    ("tollgate request POST /api/v1/payments --data '{\"order_no\":\"ORDER-2\"", r'"channel": ?"(alipay|paypal|crypto)"'),
    ("tollgate payment routing PY… --data-dir ./data", r"attempt 1 on stripe: (success|not_done)"),
    ("tollgate request POST /api/v1/pre-auths --data", r'"status": ?"requires_capture"'),
    ("tollgate request POST /api/v1/pre-auths/PA", r'"status": ?"captured"'),
    ("tollgate webhook show-notification", r"payment.success"),
    ("tollgate store backup", r"."),
]


def commands():
    with open(PAGE) as page:
        hour = page.read().split("## The first hour")[1].split("\n## ")[0]
    text = "".join(re.findall(r"^```sh\n(.*?)^```$", hour, re.DOTALL | re.MULTILINE))
    return [line.replace("\\\n", " ") for line in re.split(r"(?<!\\)\n", text) if line]


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
    promised = dict.fromkeys(start for start, _ in PROMISED)
    with tempfile.TemporaryDirectory() as directory:
        networks = {"TOLLGATE_WEBHOOK__ALLOWED_PRIVATE_NETWORKS": '["127.0.0.0/8"]'}
        with gateway(sys.argv[1], directory, (), networks) as (listen, admin):
            os.mkdir(os.path.join(directory, "bin"))
            wrapper = os.path.join(directory, "bin", "tollgate")
            with open(wrapper, "w") as file:
                file.write(f'#!/bin/sh\nif [ "$1" = request ]; then exec "{sys.argv[1]}" "$@" --url {listen}; fi\n'
                           f'exec "{sys.argv[1]}" "$@" --admin-url {admin}\n')
            os.chmod(wrapper, 0o755)
            environment = {**os.environ, "PATH": f"{directory}/bin:{os.environ['PATH']}", "TOLLGATE_ADMIN_TOKEN": TOKEN}
            variables, last = os.path.join(directory, "variables"), {}
            for command in commands():
                typed = command.replace("http://127.0.0.1:8080", listen)
                for number, found in last.items():
                    typed = typed.replace(f"{number}…", found)
                line = f"set -euo pipefail; [ ! -e {variables} ] || . {variables}; {typed}\nexport -p > {variables}"
                ended = run(line, directory, environment)
                print(f"$ {command}\n{ended.stdout.strip()[:300]}", flush=True)
                if ended.returncode != 0:
                    raise SystemExit(f"this failed ({ended.returncode}):\n{typed}\n{ended.stdout}")
                for start, pattern in PROMISED:
                    if command.startswith(start):
                        promised.pop(start, None)
                        assert re.search(pattern, ended.stdout, re.DOTALL), f"{pattern} is not in\n{ended.stdout}"
                for number in ("PY", "PA", "wn_"):
                    for found in re.findall(rf"\b{number}\w{{12,}}", ended.stdout)[:1]:
                        last[number] = found
        assert not promised, f"the page does not have these: {list(promised)}"


main()
