"""Runs the receivers of docs/webhook-verification.md as they stand and has the given program send to them.

The folders of the libraries of Python and JavaScript are in PYTHONPATH and the second argument. A receiver has to accept what
the program sends, and to refuse what is not signed with its secret.
"""

import base64
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from gateway import TOKEN, WAIT_S, gateway

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "webhook-verification.md")


def ask(url, authorization, data):
    headers = {"Authorization": authorization, "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(data).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        return json.load(answer)["data"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until_it_listens(port, receiver):
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until and receiver.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("a receiver did not start")


def forged(port):
    headers = {"webhook-id": "wn_x", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"}
    try:
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/hook", b"{}", headers), timeout=WAIT_S)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def main():
    with open(PAGE) as page:
        found = dict(reversed(re.findall(r"^```(\w+)\n(.*?)^```$", page.read(), re.DOTALL | re.MULTILINE)))
    commands = {"python": [sys.executable, "-c", found["python"]], "javascript": ["node", "-e", found["javascript"]]}
    environment = {"TOLLGATE_WEBHOOK__ALLOWED_PRIVATE_NETWORKS": '["127.0.0.0/8"]'}
    with tempfile.TemporaryDirectory() as directory, gateway(sys.argv[1], directory, (), environment) as (listen, admin):
        made = ask(f"{admin}/admin/v1/merchants", f"Bearer {TOKEN}", {"name": "shop", "tier": "premium"})
        key, secret = made["key"]["id"], made["key"]["secret"]
        basic = "Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode()
        for language, command in commands.items():
            port = free_port()
            shell = {**os.environ, "TOLLGATE_URL": listen, "TOLLGATE_KEY": key, "TOLLGATE_SECRET": secret,
                     "RECEIVER_URL": f"http://127.0.0.1:{port}/hook"}
            made = subprocess.run(["bash", "-euo", "pipefail", "-c", found["sh"]], env=shell, text=True, check=True,
                                  stdout=subprocess.PIPE, timeout=WAIT_S)
            endpoint = json.loads(made.stdout)["data"]
            run = {**os.environ, "PORT": str(port), "WEBHOOK_SECRET": endpoint["secret"],
                   "NODE_PATH": os.path.join(sys.argv[2], "node_modules")}
            receiver = subprocess.Popen(command, env=run, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            # A receiver that says nothing must not be waited for without end.
            watch = threading.Timer(WAIT_S, receiver.kill)
            watch.start()
            try:
                wait_until_it_listens(port, receiver)
                order = {"order_no": f"HOOK-{language}", "amount": 5000, "currency": "USD", "country": "US"}
                payment = ask(f"{listen}/api/v1/payments", basic, order)
                told = receiver.stdout.readline().split()
                assert told == ["payment.success", payment["payment_no"]], told
                assert forged(port) == 401
                print(f"the receiver in {language}: accepts a real webhook, refuses a forged one")
            finally:
                watch.cancel()
                receiver.kill()
                receiver.wait(WAIT_S)


main()
