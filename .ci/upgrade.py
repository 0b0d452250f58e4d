"""Tries an upgrade and the way back with two programs on one data directory: python3 .ci/upgrade.py OLD NEW

Each stores payments, refunds and a merchant, the other one has to answer what is asked again with the same bytes, also after
the one before it was killed."""

import itertools
import json
import os
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request

from gateway import OPERATOR, WAIT_S, basic, process_of


def ask(method, url, authorization, data=None, key=None):
    """Status and bytes of an answer, as a client gets it that comes back when it is told to."""
    for _ in range(10):
        status, body = ask_once(method, url, authorization, data, key)
        if status != 429:
            break
        time.sleep(json.loads(body)["retry_after"])
    return status, body


def ask_once(method, url, authorization, data, key):
    headers = {"Authorization": authorization, "Content-Type": "application/json"}
    headers.update({"Idempotency-Key": key} if key else {})
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def turn(listen, admin, number, told):
    """Asks again for all that was told, and stores more."""
    status, made = ask("POST", f"{admin}/admin/v1/merchants", OPERATOR, {"name": f"shop {number}", "tier": "premium"})
    assert status == 201, made
    for merchant, path, data, idempotency_key, before in told:
        again = ask("POST", listen + path, merchant, data, idempotency_key)
        assert again == before, (path, idempotency_key, before, again)
    for merchant, path, _, _, before in told:
        if path in ("/api/v1/payments", "/api/v1/pre-auths"):
            data = json.loads(before[1])["data"]
            number_of = "payment_no" if "payment_no" in data else "pre_auth_no"
            status, body = ask("GET", f"{listen}{path}/{data[number_of]}", merchant)
            assert status == 200 and json.loads(body)["data"][number_of] == data[number_of], body
    merchant = basic(json.loads(made)["data"]["key"])

    def tell(path, data, key, *statuses):
        answer = ask("POST", listen + path, merchant, data, key)
        assert answer[0] in statuses, answer
        told.append((merchant, path, data, key, answer))
        return json.loads(answer[1])["data"]

    for index in range(10):
        order = {"order_no": f"O-{number}-{index}", "amount": 500 + index, "currency": "USD"}
        payment = tell("/api/v1/payments", order, f"p-{number}-{index}", 201)
        tell(f"/api/v1/payments/{payment['payment_no']}/refunds", {"amount": 100}, f"r-{number}-{index}", 201, 202)
    stay = {"order_no": f"H-{number}", "amount": 9000, "currency": "USD", "payment_token": "tok_visa"}
    held = tell("/api/v1/pre-auths", stay, f"h-{number}", 201)
    tell(f"/api/v1/pre-auths/{held['pre_auth_no']}/capture", {"amount": 4000}, f"c-{number}", 200)


def main(old, new):
    told = []
    with tempfile.TemporaryDirectory() as directory:
        ends = itertools.cycle([signal.SIGTERM, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL])
        for number, program in enumerate([old, new, old, new, old, new]):
            how = next(ends)
            with process_of(program, directory) as (process, (listen, admin)):
                turn(listen, admin, number, told)
                process.send_signal(how)
                code = process.wait(WAIT_S)
            assert how == signal.SIGKILL or code == 0, code
    print(f"{len(told)} answers were the same with both programs")


main(os.path.realpath(sys.argv[1]), os.path.realpath(sys.argv[2]))
