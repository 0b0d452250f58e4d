"""Receives real webhooks and has the official Standard Webhooks library of Python judge them, and that of JavaScript, if
the second argument names its folder.

Starts the program that the first argument names, with an endpoint here, and looks at a delivery before a change of secret
and at one after it: each has to be accepted with every secret that signs, and refused with another secret, with a changed
body, with another id and when it is old.
"""

import base64
import json
import os
import queue
import subprocess
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from gateway import OPERATOR, WAIT_S, ask, basic, gateway
from standardwebhooks import Webhook, WebhookVerificationError

deliveries = queue.Queue()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        deliveries.put((dict(self.headers.items()), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def accepted_by_python(secret, headers, body):
    try:
        return Webhook(secret).verify(body, headers) == json.loads(body)
    except WebhookVerificationError:
        return False


JAVASCRIPT = """
const { Webhook, WebhookVerificationError } = require("standardwebhooks");
const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(asked.map(([secret, headers, body]) => {
  const lower = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  try { new Webhook(secret).verify(body, lower); return true; }
  catch (error) { if (error instanceof WebhookVerificationError) return false; throw error; }
})));
"""


def accepted_by_javascript(folder, asked):
    environment = {**os.environ, "NODE_PATH": os.path.join(folder, "node_modules")}
    ended = subprocess.run(["node", "-e", JAVASCRIPT], input=json.dumps(asked), env=environment, text=True,
                           stdout=subprocess.PIPE, timeout=WAIT_S, check=True)
    return json.loads(ended.stdout)


def cases(secrets, delivery):
    """What is shown to the libraries, and whether it has to be accepted."""
    headers, body = delivery
    other = "whsec_" + base64.b64encode(b"x" * 32).decode()
    changed = {name.lower(): value for name, value in headers.items()}
    good = [(secret, headers, body, True) for secret in secrets]
    return good + [
        (other, headers, body, False),
        (secrets[0], headers, body.replace('"test"', '"tess"', 1), False),
        (secrets[0], {**changed, "webhook-id": "wn_other"}, body, False),
        (secrets[0], {**changed, "webhook-timestamp": str(int(changed["webhook-timestamp"]) - 301)}, body, False),
    ]


def all_cases(program, directory):
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    Thread(target=receiver.serve_forever, daemon=True).start()
    networks = {"TOLLGATE_WEBHOOK__ALLOWED_PRIVATE_NETWORKS": '["127.0.0.0/8"]'}
    with gateway(program, directory, (), networks) as (listen, admin):
        made = ask("POST", f"{admin}/admin/v1/merchants", OPERATOR, {"name": "shop", "tier": "premium"})
        merchant = basic(made["key"])
        endpoints = f"{listen}/api/v1/webhooks/endpoints"
        endpoint = ask("POST", endpoints, merchant, {"url": f"http://127.0.0.1:{receiver.server_port}/hook"})
        one = f"{endpoints}/{endpoint['id']}"
        ask("POST", f"{one}/test", merchant, {})
        shown = cases([endpoint["secret"]], deliveries.get(timeout=WAIT_S))
        rotated = ask("POST", f"{one}/rotate-secret", merchant, {})
        ask("POST", f"{one}/test", merchant, {})
        return shown + cases([rotated["secret"], endpoint["secret"]], deliveries.get(timeout=WAIT_S))


def main():
    with tempfile.TemporaryDirectory() as directory:
        shown = all_cases(sys.argv[1], directory)
    expected = [is_good for *_, is_good in shown]
    assert expected.count(True) == 3 and expected.count(False) == 8, expected
    judged = {"Python": [accepted_by_python(*asked) for *asked, _ in shown]}
    if len(sys.argv) > 2:
        judged["JavaScript"] = accepted_by_javascript(sys.argv[2], [asked for *asked, _ in shown])
    for library, found in judged.items():
        assert found == expected, f"{library}: {found} in place of {expected}"
        print(f"standardwebhooks of {library}: {len(found)} verdicts as expected")


main()
