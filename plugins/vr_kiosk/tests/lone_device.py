"""A device in a process of its own that gives away what it likes while nobody can be asked, and brings it all later.

Its order stands in one JSON document on standard input; each line it prints says how far it is.
"""

import contextlib
import http.client
import json
import random
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tallystick_vr_kiosk.frames import Pen


def bring(url: str, frame: bytes) -> str:
    """What the house answers: a status, the code of a refusal, or nothing where there is no network."""
    request = urllib.request.Request(url, frame, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return str(json.load(answer)["status"])
    except urllib.error.HTTPError as error:
        with error, contextlib.suppress(ValueError):
            return str(json.load(error)["code"])
        return ""
    except (OSError, ValueError, http.client.HTTPException):
        return ""


def tell(how_far: str) -> None:
    sys.stdout.write(how_far + "\n")
    sys.stdout.flush()


def main() -> None:
    said = json.load(sys.stdin)
    chance, url, at = random.Random(said["seed"]), said["url"], datetime.fromisoformat(said["at"])
    pen = Pen(said["device"], 1, Ed25519PrivateKey.from_private_bytes(bytes.fromhex(said["key"])))
    written = [pen.write("identify", {"code": said["code"]}, at=at, operation="here")]
    while bring(url, written[0]) != "done":
        time.sleep(0.05)
    tell("identified")
    while True:  # signs of life, until one is not answered: it may have come or not
        written.append(pen.write("beat", {}, at=at))
        answered = bring(url, written[-1])
        if answered != "done":
            break
        time.sleep(0.05)
    tell("alone")
    waiting = written[-1:]
    for n in range(said["gives"]):
        data = {"session": "here", "reward": "coffee", "grant": said["grant"]}
        waiting.append(pen.write("redeem", data, at=at, operation=f"give {n}", offline=True))
    tell("gave")
    while waiting:
        if chance.random() < 0.3:  # what was brought already is brought again, and what comes later too early
            bring(url, chance.choice([*written, *waiting]))
        answered = bring(url, waiting[0])
        if answered == "vr_kiosk_device_refused":
            break
        if answered in ("done", "refused"):
            written.append(waiting.pop(0))
        else:
            time.sleep(0.05)
    tell(f"ended {answered}")


if __name__ == "__main__":
    main()
