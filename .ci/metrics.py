"""Holds the dashboards and alerts in deploy/ to a running gateway.

Starts the program that the first argument names, gives it some traffic, and looks at /metrics: promtool finds nothing to
say about it, every figure that a dashboard or an alert names is there, and a Prometheus that scrapes it as deploy/prometheus
says answers every expression of every panel and every alert; panels of amounts show currencies of which there are only
payments, and those of which there are only captures. A gateway whose store was left open says so after its start.
`promtool check rules` and `promtool test rules` hold the alerts to themselves.
"""

import contextlib
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request

from gateway import OPERATOR, TOKEN, WAIT_S, ask, basic, gateway, killed, read, running, until

HERE = os.path.dirname(os.path.abspath(__file__))
DEPLOY = os.path.join(HERE, "..", "deploy")
RULES = os.path.join(DEPLOY, "prometheus", "alerts.yml")
RULES_TEST = os.path.join(DEPLOY, "prometheus", "alerts_test.yml")
EXAMPLE = os.path.join(DEPLOY, "prometheus", "prometheus.yml")
DASHBOARDS = [os.path.join(DEPLOY, "grafana", f"{name}.json") for name in ("operations", "business")]
SUFFIXES = ("_bucket", "_sum", "_count")
# Currencies in which there are payments and no captures, and the other way round.
PAID_ONLY, CAPTURED_ONLY = "GBP", "EUR"
# Panels that add or subtract amounts by currency, with the currencies that they have to show.
ALL_CURRENCIES = {"Taken": {"USD", PAID_ONLY, CAPTURED_ONLY}, "Taken by channel": {"USD", PAID_ONLY, CAPTURED_ONLY},
                  "Savings": {"USD", PAID_ONLY}}


def traffic(listen, admin):
    """Payments, some in a currency of their own, a refund, a pre-auth with its capture in another, a webhook, a mistake."""
    made = ask("POST", f"{admin}/admin/v1/merchants", OPERATOR, {"name": "shop", "tier": "enterprise"})
    merchant = basic(made["key"])
    keys = itertools.count()

    def post(path, data):
        return ask("POST", f"{listen}/api/v1{path}", merchant, data, {"Idempotency-Key": f"metrics-{next(keys)}"})

    # Nothing listens there: tries fail, which is what the figures are to show.
    post("/webhooks/endpoints", {"url": "http://127.0.0.1:9/hook"})
    payment = None
    for number in range(20):
        currency = PAID_ONLY if number == 0 else "USD"
        payment = post("/payments", {"order_no": f"M-{number}", "amount": 1000 + number, "currency": currency})
    post(f"/payments/{payment['payment_no']}/refunds", {"amount": 100})
    pre_auth = {"order_no": "M-P", "amount": 5000, "currency": CAPTURED_ONLY, "payment_token": "tok_visa"}
    held = post("/pre-auths", pre_auth)
    post(f"/pre-auths/{held['pre_auth_no']}/capture", {"amount": 3000})
    for wrong in (f"{listen}/api/v1/payments/PY0", f"{listen}/nothing"):
        try:
            read("GET", wrong, merchant)
        except urllib.error.HTTPError as error:
            assert error.code == 404, error.code


def names_in(text):
    """Names of figures in a scrape, each with what kind it is."""
    return {parts[2]: parts[3] for parts in (line.split() for line in text.splitlines()) if parts[:2] == ["#", "TYPE"]}


def named_by(expression):
    return set(re.findall(r"\btollgate_[a-z0-9_]+", expression))


def is_known(name, known):
    stem = next((name[: -len(suffix)] for suffix in SUFFIXES if name.endswith(suffix)), None)
    return name in known or stem in known and known[stem] == "histogram"


def panels_of(path):
    """Title and expression of every query of a dashboard, with its variables filled in."""
    with open(path) as file:
        dashboard = json.load(file)
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for variable, value in (("$__rate_interval", "30s"), ("$__interval", "30s"), ("$__range", "30s"),
                                    ("$instance", ".*"), ("$channel", ".*"), ("$currency", ".*")):
                expression = expression.replace(variable, value)
            yield panel["title"], expression


def variables_of(path):
    with open(path) as file:
        dashboard = json.load(file)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            query = variable["query"]
            yield query["query"] if isinstance(query, dict) else query


def expressions_of_rules():
    """Name and expression of every alert, as Prometheus reads them; YAML's own library is not part of Python."""
    listed = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, text=True, check=True)
    with open(RULES) as file:
        text = file.read()
    alerts = re.findall(r"- alert: (\w+)\n\s+expr: (?:\|\n((?:\s{10,}.*\n)+)|(.*)\n)", text)
    found = {name: (block or line).strip() for name, block, line in alerts}
    assert f"{len(found)} rules found" in listed.stdout, listed.stdout
    return found


def query(prometheus, expression):
    url = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(url, timeout=WAIT_S) as answer:
            return json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{expression}\n{error.read().decode()}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def check(program, directory):
    private = {"TOLLGATE_WEBHOOK__ALLOWED_PRIVATE_NETWORKS": '["127.0.0.0/8"]'}
    with gateway(program, directory, environment=private) as (listen, admin):
        first = read("GET", f"{admin}/metrics", OPERATOR)
        with scraping(directory, admin) as prometheus:
            until("a scrape", lambda: query(prometheus, 'up{job="tollgate"} == 1') or None)
            traffic(listen, admin)
            text = read("GET", f"{admin}/metrics", OPERATOR)
            check_figures(first, text)
            check_names(names_in(first))
            # Two scrapes after the traffic, so that rates have something to be made of.
            seen = 'count_over_time(up{job="tollgate"}[1m]) > 5 and on() tollgate_payments_begun_total >= 20'
            until("some more scrapes", lambda: query(prometheus, seen) or None)
            check_queries(prometheus)


def check_left_open(program, directory):
    """What is left of a gateway whose store has failed, or that was killed, is seen by whoever scrapes the next one."""
    def left_open():
        with gateway(program, directory) as (_, admin):
            text = read("GET", f"{admin}/metrics", OPERATOR)
        return next(line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith("tollgate_store_left_open "))

    assert left_open() == "0", "a new store was left open by nobody"
    # One that has changed nothing leaves it as it was.
    killed(program, directory,
           lambda admin: ask("POST", f"{admin}/admin/v1/merchants", OPERATOR, {"name": "shop", "tier": "enterprise"}))
    assert left_open() == "1", "a store that was left open looks as if it was closed"
    assert left_open() == "0", "a stop in order leaves it closed"
    print("a store that was left open is told by the next gateway")


@contextlib.contextmanager
def scraping(directory, admin):
    """A Prometheus with the example's configuration, but for the addresses, the interval and where the token is."""
    token_file, config_file = os.path.join(directory, "token"), os.path.join(directory, "prometheus.yml")
    with open(token_file, "w") as file:
        file.write(TOKEN)
    with open(EXAMPLE) as file:
        config = file.read()
    for former, latter in (("127.0.0.1:8081", admin.removeprefix("http://")), ("15s", "1s"), ("10s", "1s"),
                           ("/etc/prometheus/tollgate.token", token_file),
                           ("/etc/prometheus/tollgate-alerts.yml", RULES)):
        assert former in config, f"{former} is missing in {EXAMPLE}"
        config = config.replace(former, latter)
    with open(config_file, "w") as file:
        file.write(config)
    subprocess.run(["promtool", "check", "config", config_file], check=True, stdout=subprocess.DEVNULL)
    port = free_port()
    command = ["prometheus", f"--config.file={config_file}", f"--web.listen-address=127.0.0.1:{port}",
               f"--storage.tsdb.path={os.path.join(directory, 'tsdb')}", "--log.level=warn"]
    log_path = os.path.join(directory, "prometheus.log")
    with running(command, log_path) as process:
        address = f"http://127.0.0.1:{port}"

        def is_ready():
            if process.poll() is not None:
                with open(log_path) as log:
                    raise SystemExit(f"Prometheus did not start:\n{log.read()}")
            with contextlib.suppress(OSError):
                return urllib.request.urlopen(f"{address}/-/ready", timeout=1).status == 200

        until("Prometheus starts", is_ready)
        yield address


def check_figures(first, text):
    linted = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert linted.returncode == 0, linted.stderr + linted.stdout
    assert names_in(first).keys() == names_in(text).keys(), "figures that came only later"
    print(f"{len(names_in(text))} figures, {len(text.splitlines())} lines: promtool has nothing to say")


def check_names(known):
    for path in DASHBOARDS:
        expressions = [expression for _, expression in panels_of(path)] + list(variables_of(path))
        check_named(os.path.basename(path), expressions, known)
    check_named("alerts.yml", expressions_of_rules().values(), known)


def check_named(where, expressions, known):
    named = set().union(*map(named_by, expressions))
    unknown = {name for name in named if not is_known(name, known)}
    assert named and not unknown, f"{where} names figures that there are not: {sorted(unknown)}"
    print(f"{where}: {len(named)} figures, all there")


def check_queries(prometheus):
    asked = 0
    for path in DASHBOARDS:
        for title, expression in panels_of(path):
            found = query(prometheus, expression)
            assert found, f"{title} of {os.path.basename(path)} shows nothing: {expression}"
            shown = {series["metric"].get("currency") for series in found}
            missing = ALL_CURRENCIES.get(title, set()) - shown
            assert not missing, f"{title} of {os.path.basename(path)} leaves out {missing}: {expression}"
            asked += 1
    for expression in expressions_of_rules().values():
        query(prometheus, expression)
        asked += 1
    print(f"{asked} expressions answered by Prometheus")


def main():
    with tempfile.TemporaryDirectory() as directory:
        check(os.path.abspath(sys.argv[1]), directory)
    with tempfile.TemporaryDirectory() as directory:
        check_left_open(os.path.abspath(sys.argv[1]), directory)
    tested = subprocess.run(["promtool", "test", "rules", RULES_TEST], capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    with open(RULES_TEST) as file:
        test = file.read()
    for name in expressions_of_rules():
        for is_firing in (True, False):
            wanted = rf"alertname: {name}\n\s+exp_alerts: *{'' if is_firing else re.escape('[]')}\n"
            assert re.search(wanted, test), f"{name} is not shown to {'fire' if is_firing else 'be silent'}"
    print(f"{len(expressions_of_rules())} alerts fire and are silent when they should")


main()
