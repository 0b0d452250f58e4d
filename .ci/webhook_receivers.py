"""Runs the receivers of docs/webhook-verification.md as they stand and has the given program send to them.

The folders of the libraries of Python and JavaScript are in PYTHONPATH and the second argument. A receiver has to accept what
the program sends about payments and pre-auths, to refuse what is not signed with its secret, and to live on when a body breaks
off or is too long. With one line added that makes the first work fail, it has to do that work when the webhook comes again.
"""

import base64
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
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


FORGED = [{"webhook-signature": "v1,AAAA"}, {"webhook-signature": "nonsense"}, {"webhook-signature": "v1"},
          {"webhook-signature": "v1,\u00e9"}, {"webhook-signature": "v1,A"}, {"webhook-timestamp": "soon"}, {"webhook-id": ""}]
# By language: what the work begins with, and what makes its first time fail.
WORK = {
    "python": ("def handle(event):  # hand it to your own queue\n",
               "    if not hasattr(handle, 'failed'):\n        handle.failed = True\n        raise KeyError('first')\n"),
    "javascript": ("async function handle(event) { // hand it to your own queue\n",
                   "  if (!handle.failed) {\n    handle.failed = true;\n    throw new Error('first');\n  }\n"),
}


def status_of(port, headers, body=b"{}"):
    """What a receiver answers; nothing when it closes the connection."""
    headers = {"webhook-id": "wn_x", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in {"Content-Length": len(body), **headers}.items())
    with socket.create_connection(("127.0.0.1", port), WAIT_S) as connection:
        try:
            connection.sendall(f"POST /hook HTTP/1.1\r\nHost: receiver\r\n{head}\r\n".encode("latin-1") + body)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            # It has hung up before all of it was there; what it said before that can still be read.
            pass
        try:
            answer = connection.makefile("rb").readline().split()
        except ConnectionError:
            answer = []
    return int(answer[1]) if answer else None


@contextlib.contextmanager
def receiver_of(language, source, libraries, listen, key, secret, make_endpoint):
    """A receiver that runs, with an endpoint of its own."""
    port = free_port()
    shell = {**os.environ, "TOLLGATE_URL": listen, "TOLLGATE_KEY": key, "TOLLGATE_SECRET": secret,
             "RECEIVER_URL": f"http://127.0.0.1:{port}/hook"}
    made = subprocess.run(["bash", "-euo", "pipefail", "-c", make_endpoint], env=shell, text=True, check=True,
                          stdout=subprocess.PIPE, timeout=WAIT_S)
    endpoint = json.loads(made.stdout)["data"]
    run = {**os.environ, "PORT": str(port), "WEBHOOK_SECRET": endpoint["secret"],
           "NODE_PATH": os.path.join(libraries, "node_modules")}
    command = [sys.executable, "-c", source] if language == "python" else ["node", "-e", source]
    receiver = subprocess.Popen(command, env=run, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    # A receiver that says nothing must not be waited for without end.
    watch = threading.Timer(WAIT_S, receiver.kill)
    watch.start()
    try:
        wait_until_it_listens(port, receiver)
        yield port, receiver
    finally:
        watch.cancel()
        receiver.kill()
        receiver.wait(WAIT_S)


def main():
    with open(PAGE) as page:
        found = dict(reversed(re.findall(r"^```(\w+)\n(.*?)^```$", page.read(), re.DOTALL | re.MULTILINE)))
    environment = {"TOLLGATE_WEBHOOK__ALLOWED_PRIVATE_NETWORKS": '["127.0.0.0/8"]', "WEBHOOK_INITIAL_BACKOFF": "1"}
    with tempfile.TemporaryDirectory() as directory, gateway(sys.argv[1], directory, (), environment) as (listen, admin):
        made = ask(f"{admin}/admin/v1/merchants", f"Bearer {TOKEN}", {"name": "shop", "tier": "premium"})
        key, secret = made["key"]["id"], made["key"]["secret"]
        basic = "Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode()

        def pay(name):
            order = {"order_no": f"HOOK-{name}", "amount": 5000, "currency": "USD", "country": "US"}
            return ["payment.success", ask(f"{listen}/api/v1/payments", basic, order)["payment_no"]]

        def hold(name):
            terms = {"order_no": f"HOLD-{name}", "amount": 5000, "currency": "USD", "payment_token": "tok_visa"}
            return ["pre_auth.authorized", ask(f"{listen}/api/v1/pre-auths", basic, terms)["pre_auth_no"]]

        for language, (work, failing) in WORK.items():
            source = found[language]
            with receiver_of(language, source, sys.argv[2], listen, key, secret, found["sh"]) as (port, receiver):
                for headers in FORGED:
                    assert status_of(port, headers) == 401, headers
                # A body that breaks off, one that is too long, and a length that is none: whatever they get, the next is taken.
                assert status_of(port, {"Content-Length": "100"}, b"{}x") != 204
                assert status_of(port, {}, b"x" * 1100000) != 204
                assert status_of(port, {"Content-Length": "-1"}) != 204
                for made in (pay(language), hold(language)):
                    told = receiver.stdout.readline().split()
                    assert told == made, (told, made)
                assert receiver.poll() is None
            assert work in source, f"the receiver in {language} has no {work}"
            source = source.replace(work, work + failing)
            with receiver_of(language, source, sys.argv[2], listen, key, secret, found["sh"]) as (port, receiver):
                made = pay(f"{language}-again")
                told = receiver.stdout.readline().split()
                assert told == made, (told, made)
            print(f"the receiver in {language}: takes real webhooks, refuses forged ones, does anew what failed")


main()
