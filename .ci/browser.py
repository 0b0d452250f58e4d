"""Starts a gateway with the given program and has browser.mjs use its console.

The second argument is the folder of what drives the browser, the third one for pictures, or nothing.
"""

import os
import subprocess
import sys

from gateway import TOKEN, gateway


def main():
    program, directory, pictures = sys.argv[1:4]
    settings = {
        "TOLLGATE_WEBHOOK__ALLOWED_PRIVATE_NETWORKS": '["127.0.0.0/8"]',
        "TOLLGATE_WEBHOOK__SCHEDULE_S": "[1, 1]",
        "TOLLGATE_WEBHOOK__MAX_ATTEMPTS": "3",
        # What was given up is to stay so until somebody sends it again.
        "TOLLGATE_WEBHOOK__RETRY_INTERVAL_S": "86400",
    }
    with gateway(program, directory, (), settings) as (listen, admin):
        environment = {
            **os.environ,
            "TOLLGATE_URL": listen,
            "TOLLGATE_ADMIN_URL": admin,
            "TOLLGATE_ADMIN_TOKEN": TOKEN,
            "MODULES": os.path.join(directory, "javascript", "node_modules"),
            "PICTURES": pictures,
        }
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "browser.mjs")
        raise SystemExit(subprocess.run(["node", script], env=environment).returncode)


main()
