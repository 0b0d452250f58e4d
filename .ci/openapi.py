"""Compares the answers of a gateway with its OpenAPI document: starts the program that the first argument names in the
folder that the second one names, makes some of everything, and has schemathesis ask both listeners. Every operation has to
have succeeded at least once, but for those of which UNSEEN says why they can't."""

import collections
import json
import os
import shutil
import subprocess
import sys

from gateway import OPERATOR, TOKEN, WAIT_S, ask, gateway, until
from openapi_objects import REVIEW_AFTER_S, SECOND, Furniture, furnish
from sandbox import control, sandbox

# The same requests every time.
SEED = "20250124"
CHECKS = ("not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
          "response_schema_conformance,negative_data_rejection,missing_required_header,unsupported_method,"
          "allow_header_conformance")
# What can't succeed here, and why.
UNSEEN = {
    "get_openapi": "schemathesis leaves out what it reads the document from (tests/it/openapi.rs)",
    "cancel_webhook_job": "a job is over before its end can be asked for (src/gateway/webhooks/tests/jobs.rs)",
    "cancel_any_webhook_job": "a job is over before its end can be asked for (src/gateway/webhooks/tests/jobs.rs)",
}
# Channels whose providers have no list of what they did, so that somebody has to compare them after a restore.
TO_CONFIRM = ["alipay", "crypto"]
# Nobody is to be refused for asking often, and nothing is to take long.
CONFIG = f"""
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

[payments]
needs_review_after_s = {REVIEW_AFTER_S}

[channels.{SECOND}]
kind = "stripe"
base_url = "{{stripe}}"
currencies = ["NOK"]
methods = ["card"]

[channels.{SECOND}.credentials]
secret_key_env = "SECOND_STRIPE_KEY"

[channels.{SECOND}.fees]
percent = "2.9"
fixed_minor = 30
fixed_currency = "USD"
as_of = "2025-01-24"

[telemetry]
log = "warn,tollgate::cli=info"
"""
# What the emulator of Stripe takes.
STRIPE_KEY = "sk_test_tollgate_sandbox"


def examine(url, part, known, directory, more, checks=CHECKS):
    command = ["schemathesis", "run", f"{url}/openapi.json?part={part}", "--url", url, "--seed", SEED,
               "--checks", checks, "--max-examples", "30", "--workers", "1", "--request-timeout", "20", "--no-color", *more]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "openapi_hooks", "TOLLGATE_ADMIN_TOKEN": TOKEN,
                   "TOLLGATE_KNOWN": json.dumps(known), "TOLLGATE_COPIES": os.path.join(directory, "copies"),
                   "TOLLGATE_SEEN": os.path.join(directory, "seen"),
                   "PYTHONPATH": os.path.dirname(os.path.abspath(__file__))}
    return subprocess.run(command, env=environment).returncode == 0


def seen_in(directory):
    """How often each operation was answered with each status."""
    seen = collections.defaultdict(collections.Counter)
    with open(os.path.join(directory, "seen")) as file:
        for line in file:
            operation, status = line.split()
            seen[operation][int(status)] += 1
    return seen


def check_seen(directory):
    """Every operation in the document was answered 2xx, but for those that can't, and none of them 500."""
    with open(os.path.join(directory, "openapi.json")) as file:
        paths = json.load(file)["paths"]
    operations = [operation["operationId"] for item in paths.values() for operation in item.values()]
    seen = seen_in(directory)
    is_good = True
    for operation in operations:
        answers = seen[operation]
        if 500 in answers:
            print(f"{operation} failed with 500")
            is_good = False
        if not any(200 <= status < 300 for status in answers):
            print(f"{operation} never succeeded, of {dict(answers)}: {UNSEEN.get(operation, 'that must not be')}")
            is_good = is_good and operation in UNSEEN
    print(f"{len(operations)} operations, {sum(answers.total() for answers in seen.values())} answers")
    return is_good


def keep(program, directory, admin):
    """A backup of the running gateway, with the key that it needs."""
    kept = os.path.join(directory, "kept")
    environment = {**os.environ, "TOLLGATE_ADMIN_TOKEN": TOKEN}
    subprocess.run([program, "store", "backup", kept, "--admin-url", admin], env=environment, check=True, timeout=WAIT_S)
    shutil.copy(os.path.join(directory, "data", "master.key"), os.path.join(directory, "master.key"))
    return kept


def examine_held(program, directory, kept, options, known, more):
    """What a gateway answers whose store was restored, until its providers were compared with it."""
    restored = os.path.join(directory, "restored")
    os.makedirs(restored)
    data = os.path.join(restored, "data")
    subprocess.run([program, "store", "restore", kept, "--data-dir", data], check=True, timeout=WAIT_S)
    shutil.copy(os.path.join(directory, "master.key"), os.path.join(data, "master.key"))
    with gateway(program, restored, *options) as (listen, admin):
        def waits_for_somebody():
            states = {one["channel"]: one["state"] for one in ask("GET", f"{admin}/admin/v1/hold", OPERATOR)["channels"]}
            return all(states.get(channel) == "needs_confirmation" for channel in TO_CONFIRM)

        until("the hold waits for somebody", waits_for_somebody)
        # What moves money is refused with 503, as the document says; other errors of ours are looked for at the end.
        checks = CHECKS.replace("not_a_server_error,", "")
        is_good = examine(listen, "merchants", known, directory, ["--phases", "examples"], checks)
        hold = ["--include-operation-id", "get_hold", "--include-operation-id", "confirm_hold"]
        return examine(admin, "operator", known, directory, [*hold, *more]) and is_good


def main():
    program, directory, *more = sys.argv[1:]
    with sandbox(program) as other:
        config = os.path.join(directory, "config.toml")
        with open(config, "w") as file:
            file.write(CONFIG.format(stripe=other["stripe"]))
        options = ["--config", config], {"SECOND_STRIPE_KEY": STRIPE_KEY}
        with gateway(program, directory, *options) as (listen, admin):
            fail = lambda: control("PUT", f"{other['control']}/stripe", {"error_rate": 1.0})  # noqa: E731
            known = furnish(listen, admin, fail)
            known["turns"]["confirm_hold"] = [{"body": {"channel": channel}} for channel in TO_CONFIRM]
            is_good = examine(listen, "merchants", known, directory, more)
            Furniture(listen, admin).await_review(known)
            is_good = examine(admin, "operator", known, directory, more) and is_good
            # This also shows that it is still there.
            kept = keep(program, directory, admin)
        is_good = examine_held(program, directory, kept, options, known, more) and is_good
    if not (check_seen(directory) and is_good):
        raise SystemExit("the gateway and its document differ, or not all of it was seen")


main()
