"""Runs the blocks of docs/quickstart.md, in their order, as a reader would copy them.

The gateway listens on free ports, so the one address that the page names is replaced, and the command line is told where the
operator's listener is; nothing else of the page is changed.
"""

import os
import re
import subprocess
import sys
import tempfile

from gateway import TOKEN, WAIT_S, gateway

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "quickstart.md")
VECTOR = "v1=02d8d70bc60be60fdf6efcdb9511babedbb72b938f74e17e2a2356b5425ded6f"
# What each block has to print.
EXPECTED = [
    ("sh", [r"^$"]),
    ("sh", [r'"order_no":"CURL-1"', r'"status":"success"', r'"items":\[\{']),
    ("python", [r"PY\w+ success through \w+", r"RF\w+ success"]),
    ("javascript", [r"PA\w+ requires_capture until 20", r"captured 20000 taken, 30000 released"]),
]


def blocks():
    with open(PAGE) as page:
        return re.findall(r"^```(\w+)\n(.*?)^```$", page.read(), re.DOTALL | re.MULTILINE)


def run(language, text, directory, environment):
    command = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"],
               "javascript": ["node", "--input-type=module", "-e"]}[language]
    ended = subprocess.run([*command, text], cwd=directory, env=environment, text=True, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=WAIT_S)
    if ended.returncode != 0:
        raise SystemExit(f"a {language} block failed:\n{text}\n{ended.stdout}")
    return ended.stdout


def check_vector(python_block):
    """The page's own numbers are right for the page's own code."""
    frame = python_block.split("payment = ")[0].replace("urllib.request.urlopen(request, timeout=60)", "shown(request)")
    frame = frame.replace("json.dumps(data).encode()", "b'{}'").replace("str(int(time.time()))", "'1700000000'")
    frame = frame.replace("secrets.token_hex(16)", "'n-1'")
    frame += ("\ndef shown(request):\n    print(request.headers['X-signature']); raise SystemExit\n"
              "tollgate('POST', '/api/v1/payments', {}, 'k-1')")
    environment = {**os.environ, "TOLLGATE_KEY": "ak_test", "TOLLGATE_SECRET": "sk_test", "TOLLGATE_URL": "http://x"}
    printed = run("python", frame, ".", environment)
    assert printed.strip() == VECTOR, printed


def main():
    found = blocks()
    assert [language for language, _ in found] == [language for language, _ in EXPECTED], "the page has other blocks"
    check_vector(found[2][1])
    with tempfile.TemporaryDirectory() as directory, gateway(sys.argv[1], directory) as (listen, admin):
        binaries = os.path.join(directory, "bin")
        os.mkdir(binaries)
        with open(os.path.join(binaries, "tollgate"), "w") as wrapper:
            wrapper.write(f'#!/bin/sh\nexec "{sys.argv[1]}" "$@" --admin-url {admin}\n')
        os.chmod(os.path.join(binaries, "tollgate"), 0o755)
        environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "TOLLGATE_ADMIN_TOKEN": TOKEN}
        set_up = found[0][1].replace("http://127.0.0.1:8080", listen)
        assert listen in set_up
        for index, (language, text) in enumerate(found):
            if index == 0:
                shown = run(language, set_up + "env | grep ^TOLLGATE_", directory, environment)
                environment |= dict(line.split("=", 1) for line in shown.splitlines() if line.startswith("TOLLGATE_"))
                continue
            printed = run(language, text, directory, environment)
            for pattern in EXPECTED[index][1]:
                assert re.search(pattern, printed), f"{pattern} is not in what the block printed:\n{printed}"
            print(f"block {index} ({language}): as the page says")


main()
