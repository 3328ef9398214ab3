"""CPU time of a webhook delivery: `python bench/notify.py [messages]`, on a SQLite file and a receiver on loopback.

The receiver is a process of its own, so that what it costs is not counted.  The yardstick is the same POST by
`http.client` over one connection, signed the same way, with nothing written down.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tallystick import people
from tallystick.ledger import moment
from tallystick.testing import make_stage
from tallystick_notify import jobs, planning, sending, store
from tallystick_notify.webhook import sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
RECEIVER = """
import socketserver
class Take(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline():
            length = 0
            while (line := self.rfile.readline().strip()):
                if line.lower().startswith(b"content-length:"):
                    length = int(line[15:])
            self.rfile.read(length)
            self.wfile.write(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")
socketserver.ThreadingTCPServer.daemon_threads = True
with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Take) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""
SETTINGS = """
[plugins.notify]
[plugins.notify.channels.crm]
kind = "webhook"
url = "http://127.0.0.1:{port}/hook"
secrets = [{{ env = "HOOK_SECRET" }}]
allow_private = ["127.0.0.1"]
"""
FACTS = {"entry": "1-42-0", "order": "R-1001"}


def yardstick(port: int, number: int) -> float:
    """CPU seconds of *number* signed posts."""
    line = http.client.HTTPConnection("127.0.0.1", port)
    line.connect()
    line.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    started = time.process_time()
    for n in range(number):
        body = json.dumps({"id": f"msg_{n}", "data": FACTS}).encode()
        headers = {"webhook-id": f"msg_{n}", "webhook-signature": sign(SECRET, f"msg_{n}", "1", body)}
        line.request("POST", "/hook", body, headers)
        line.getresponse().read()
    return time.process_time() - started


def main(number: int = 5_000) -> None:
    os.environ["HOOK_SECRET"] = SECRET
    receiver = subprocess.Popen([sys.executable, "-c", RECEIVER], stdout=subprocess.PIPE, text=True)
    assert receiver.stdout is not None
    port = int(receiver.stdout.readline())
    try:
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{Path(folder) / 'tally.db'}"
            with make_stage(SETTINGS.format(port=port), url, Path(folder)) as stage:
                measure(stage, number)
        cost = yardstick(port, number) / number
        print(f"yardstick, a signed POST and nothing else: {cost * 1e6:,.0f} CPU us")
    finally:
        receiver.kill()
        receiver.wait()


def measure(stage, number: int) -> None:
    house, now = stage.house, stage.clock[0]
    with house.db.begin() as conn:
        members = [people.enrol(conn, house.secret, "shop", now, external_ids=[f"m{n}"]) for n in range(100)]
        store.keep_messages(
            conn,
            [
                {
                    "tenant": "shop", "id": store.message_id(members[n % 100], "notify.held", str(n)),
                    "member": members[n % 100], "template": "notify.held", "purpose": "service",
                    "facts": json.dumps(FACTS), "entry": 0, "due_at": now, "expires_at": 0, "created_at": now,
                }
                for n in range(number)
            ],
        )  # fmt: skip
    errand = house.errand("notify", "shop", "notify.deliver")
    cpu, clock = time.process_time(), time.perf_counter()
    while planning.plan(errand):
        pass
    planned = time.process_time() - cpu
    cpu, clock = time.process_time(), time.perf_counter()
    while jobs.deliver(errand):
        pass
    sending.wait_for_all()
    spent, took = time.process_time() - cpu, time.perf_counter() - clock
    sent = stage.rows("SELECT count(*) FROM notify_delivery WHERE state = 'sent' AND reason = '204'")[0][0]
    assert sent == number, (sent, number, moment(now))
    print(f"{number:,} webhooks: {spent / number * 1e6:,.0f} CPU us each to deliver, signing and log included")
    print(f"deciding which channel they go over: {planned / number * 1e6:,.0f} CPU us each")
    print(
        f"rate: {number / took:,.0f} a second by the wall clock, {sending.THREADS} at once (load {os.getloadavg()[0]:.1f})"
    )


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
