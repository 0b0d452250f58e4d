"""Compares the answers of a gateway with its OpenAPI document: starts the program that the first argument names in the
folder that the second one names, makes some of everything, and has schemathesis ask both listeners."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

WAIT_S = 30
TOKEN = "openapi-admin-token-000001"
# The same requests every time.
SEED = "20250124"
CHECKS = ("not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
          "response_schema_conformance,negative_data_rejection,missing_required_header,unsupported_method,"
          "allow_header_conformance")
# Nobody is to be refused for asking often, and nothing is to take long.
CONFIG = """
[tiers.unlimited]
per_second = 10000
per_minute = 600000
per_hour = 10000000
burst = 10000
concurrent = 1000

[webhook]
allowed_private_networks = ["127.0.0.0/8"]

[limits.adaptive]
enabled = false

[telemetry]
log = "warn,tollgate::cli=info"
"""


def ask(method, url, authorization, data=None, headers=()):
    headers = {"Authorization": authorization, "Content-Type": "application/json", **dict(headers)}
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, headers, method=method)
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        return json.load(answer)["data"]


def addresses_in(log_path, gateway):
    """Where the gateway listens, once it says that it is ready."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until and gateway.poll() is None:
        with open(log_path) as log:
            for line in log:
                if line.startswith("{") and line.endswith("}\n") and '"ready"' in line:
                    ready = json.loads(line)
                    return f"http://{ready['listen']}", f"http://{ready['admin_listen']}"
        time.sleep(0.05)
    raise SystemExit(f"the gateway did not start:\n{open(log_path).read()}")


def furnish(listen, admin):
    """A merchant's key, and the numbers of some objects by the name that paths give them."""
    bearer = f"Bearer {TOKEN}"
    merchants = [ask("POST", f"{admin}/admin/v1/merchants", bearer, {"name": f"shop {number}", "tier": "unlimited"})
                 for number in range(2)]
    key = [merchants[0]["key"]["id"], merchants[0]["key"]["secret"]]
    basic = "Basic " + base64.b64encode(":".join(key).encode()).decode()

    def post(path, data, name):
        return ask("POST", f"{listen}/api/v1{path}", basic, data, [("Idempotency-Key", f"furnish-{name}")])

    terms = {"amount": 5000, "currency": "USD", "method": "card"}
    tokens = ["tok_visa", "tok_visa", "tok_declined", "tok_3ds", "tok_processing"]
    payments = [post("/payments", {**terms, "order_no": f"P-{number}", "payment_token": token}, f"p{number}")
                for number, token in enumerate(tokens)]
    holds = [post("/pre-auths", {**terms, "order_no": f"H-{number}", "payment_token": "tok_visa"}, f"h{number}")
             for number in range(4)]
    post(f"/pre-auths/{holds[0]['pre_auth_no']}/capture", {"amount": 3000}, "capture")
    refunds = [post(f"/payments/{payments[0]['payment_no']}/refunds", {"amount": 100}, "refund"),
               post(f"/pre-auths/{holds[0]['pre_auth_no']}/refunds", {"amount": 100}, "hold-refund")]
    # Nothing listens there, so that there are notifications to be sent again.
    endpoints = [post("/webhooks/endpoints", {"url": f"http://127.0.0.1:{port}/hook"}, f"e{port}") for port in (1, 2)]
    notifications = [post(f"/webhooks/endpoints/{endpoint['id']}/test", {}, f"t{endpoint['id']}")
                     for endpoint in endpoints]
    job = post("/webhooks/notifications/cancel", {"endpoint_id": endpoints[0]["id"]}, "job")
    rule = ask("POST", f"{admin}/admin/v1/rules", bearer,
               {"id": "cards", "name": "cards", "methods": ["card"], "channels": ["stripe"]})
    objects = {
        "merchant_id": [merchants[1]["merchant_id"]],
        "key_id": [merchants[1]["key"]["id"]],
        "payment_no": [payment["payment_no"] for payment in payments],
        "pre_auth_no": [hold["pre_auth_no"] for hold in holds],
        "channel_pre_auth_no": [hold["channel_pre_auth_no"] for hold in holds],
        "refund_no": [refund["refund_no"] for refund in refunds],
        "endpoint_id": [endpoint["id"] for endpoint in endpoints],
        "notification_id": [notification["id"] for notification in notifications],
        "job_id": [job["id"]],
        "id": [rule["id"]],
        "name": ["stripe", "alipay"],
        "channel": ["stripe", "crypto"],
    }
    return {"key": key, "objects": objects}


def examine(url, part, known, copies, more):
    command = ["schemathesis", "run", f"{url}/openapi.json?part={part}", "--url", url, "--seed", SEED,
               "--checks", CHECKS, "--max-examples", "30", "--workers", "1", "--request-timeout", "20", "--no-color", *more]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "openapi_hooks", "TOLLGATE_ADMIN_TOKEN": TOKEN,
                   "TOLLGATE_KNOWN": json.dumps(known), "TOLLGATE_COPIES": copies, "PYTHONPATH": os.path.dirname(os.path.abspath(__file__))}
    return subprocess.run(command, env=environment).returncode == 0


def main():
    program, directory, *more = sys.argv[1:]
    config, log_path = os.path.join(directory, "config.toml"), os.path.join(directory, "log")
    with open(config, "w") as file:
        file.write(CONFIG)
    command = [program, "serve", "--config", config, "--data-dir", os.path.join(directory, "data"),
               "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    with open(log_path, "w") as log:
        gateway = subprocess.Popen(command, env={**os.environ, "TOLLGATE_ADMIN_TOKEN": TOKEN}, stdout=log, stderr=log)
    try:
        listen, admin = addresses_in(log_path, gateway)
        known = furnish(listen, admin)
        copies = os.path.join(directory, "copies")
        is_good = [examine(listen, "merchants", known, copies, more), examine(admin, "operator", known, copies, more)]
        lives = gateway.poll() is None
    finally:
        gateway.send_signal(signal.SIGTERM)
        try:
            gateway.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            gateway.kill()
    if not all(is_good) or not lives:
        raise SystemExit("the gateway and its document differ" if lives else "the gateway ended")


main()
