"""Tries an upgrade and the way back with two programs on one data directory: python3 .ci/upgrade.py OLD NEW

Each stores payments, refunds and a merchant, the other one has to answer what is asked again with the same bytes, also after
the one before it was killed."""

import base64
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(__file__))
from gateway import TOKEN, WAIT_S, addresses_in  # noqa: E402


class Gateway:
    """A program on the data directory."""

    def __init__(self, program, directory):
        log_path = os.path.join(directory, "log")
        environment = {**os.environ, "TOLLGATE_ADMIN_TOKEN": TOKEN}
        with open(log_path, "w") as log:
            self.process = subprocess.Popen(
                [program, "serve", "--data-dir", os.path.join(directory, "data"), "--listen", "127.0.0.1:0",
                 "--admin-listen", "127.0.0.1:0"], env=environment, stdout=log, stderr=log)
        self.merchants, self.operator = addresses_in(log_path, self.process)

    def ask(self, method, base, path, authorization, data=None, key=None):
        """Status and bytes of an answer, as a client gets it that comes back when it is told to."""
        for _ in range(10):
            status, body = self.ask_once(method, base, path, authorization, data, key)
            if status != 429:
                break
            time.sleep(json.loads(body)["retry_after"])
        return status, body

    def ask_once(self, method, base, path, authorization, data, key):
        headers = {"Authorization": authorization, "Content-Type": "application/json"}
        headers.update({"Idempotency-Key": key} if key else {})
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(base + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def end(self, how):
        self.process.send_signal(how)
        code = self.process.wait(WAIT_S)
        assert how == signal.SIGKILL or code == 0, code


def stable(body):
    """An answer without the id of the request that asked for it."""
    return {name: value for name, value in json.loads(body).items() if name != "request_id"}


def turn(gateway, number, told):
    """Asks again for all that was told, and stores more."""
    status, made = gateway.ask("POST", gateway.operator, "/admin/v1/merchants", f"Bearer {TOKEN}",
                               {"name": f"shop {number}", "tier": "premium"})
    assert status == 201, made
    key = json.loads(made)["data"]["key"]
    for merchant, path, data, idempotency_key, before in told:
        again = gateway.ask("POST", gateway.merchants, path, merchant, data, idempotency_key)
        assert (again[0], again[1]) == before, (path, idempotency_key, before, again)
    for merchant, path, _, _, before in told:
        if path == "/api/v1/payments":
            payment_no = json.loads(before[1])["data"]["payment_no"]
            status, body = gateway.ask("GET", gateway.merchants, f"{path}/{payment_no}", merchant)
            assert status == 200 and stable(body)["data"]["payment_no"] == payment_no, body
    merchant = "Basic " + base64.b64encode(f"{key['id']}:{key['secret']}".encode()).decode()
    for index in range(10):
        data = {"order_no": f"O-{number}-{index}", "amount": 500 + index, "currency": "USD"}
        answer = gateway.ask("POST", gateway.merchants, "/api/v1/payments", merchant, data, f"p-{number}-{index}")
        assert answer[0] == 201, answer
        told.append((merchant, "/api/v1/payments", data, f"p-{number}-{index}", answer))
        path = f"/api/v1/payments/{json.loads(answer[1])['data']['payment_no']}/refunds"
        answer = gateway.ask("POST", gateway.merchants, path, merchant, {"amount": 100}, f"r-{number}-{index}")
        assert answer[0] in (201, 202), answer
        told.append((merchant, path, {"amount": 100}, f"r-{number}-{index}", answer))


def main(old, new):
    told = []
    with tempfile.TemporaryDirectory() as directory:
        ends = itertools.cycle([signal.SIGTERM, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL])
        for number, program in enumerate([old, new, old, new, old, new]):
            gateway = Gateway(program, directory)
            how = next(ends)
            try:
                turn(gateway, number, told)
            except BaseException:
                how = signal.SIGKILL
                raise
            finally:
                gateway.end(how)
    print(f"{len(told)} answers were the same with both programs")


main(os.path.realpath(sys.argv[1]), os.path.realpath(sys.argv[2]))
