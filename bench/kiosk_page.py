"""The kiosk's page in headless Chromium: first paint, what a touch costs until the next picture, and long tasks.

A member comes again and again: identify, rewards, confirm, take, receipt, another language, finish.  Touches are what the
browser itself measures (Event Timing, to the next paint); long tasks are those of the page's thread, by the wall and by the
processor's time, which a busy machine does not lengthen.  Pictures are drawn by software here.  The yardstick is ten million
additions of the same browser in the same minute.

    python bench/kiosk_page.py [visits]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

SEEN = """
  window.seen = { touches: [] };
  new PerformanceObserver((list) => list.getEntries().forEach((one) => one.interactionId && seen.touches.push([one.name, one.duration])))
    .observe({ type: "event", durationThreshold: 16, buffered: true });
  new PerformanceObserver((list) => list.getEntries().forEach((one) => (seen[one.name] = one.startTime))).observe({ type: "paint", buffered: true });
"""
YARDSTICK = "() => { const began = performance.now(); let sum = 0; for (let n = 0; n < 1e7; n++) sum += n; return sum && performance.now() - began; }"


def visit(page: Any) -> None:
    """One member takes a coffee, as fast as the page lets them."""
    page.click(".touch")
    page.click(".tile >> nth=2")
    page.fill("input >> nth=0", "ann")
    for digit in "4711":
        page.click(f".pad >> text='{digit}'")
    page.click("button.main")
    page.wait_for_selector(".purse")
    page.click(".tile >> nth=0")
    page.click(".reward button >> nth=0")
    page.click("dialog button.main")
    page.wait_for_selector(".slip")
    for touched in ("#language", ".row button.main", ".head button", "#language"):
        page.click(touched)


def tasks(trace: bytes) -> list[tuple[float, float]]:
    """Of each task of the page's thread: milliseconds by the wall and of processor time."""
    events = json.loads(trace)["traceEvents"]
    threads = {
        (one["pid"], one["tid"])
        for one in events
        if one["name"] == "thread_name" and one["args"]["name"] == "CrRendererMain"
    }
    return [
        (one["dur"] / 1000, one.get("tdur", one["dur"]) / 1000)
        for one in events
        if one["name"] == "RunTask" and "dur" in one and (one["pid"], one["tid"]) in threads
    ]


def main() -> None:
    """Print the figures."""
    visits = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from plugins.vr_kiosk.tests.street import LANDSCAPE, opened_browser, opened_street

    with (
        tempfile.TemporaryDirectory() as name,
        opened_browser("/usr/bin/chromium") as browser,
        opened_street(browser, Path(name)) as street,
    ):
        street.shop.pin("ann", "4711")
        street.shop.buys("ann", 50 * visits)
        paints = []
        for _ in range(5):  # each a browser that was never here
            page = street.walk_up(viewport=LANDSCAPE, reduced_motion="no-preference")
            page.add_init_script(SEEN)
            page.goto(street.address())
            page.wait_for_selector(".letters")
            paints.append(page.evaluate("() => seen['first-contentful-paint']"))
        street.approve()
        page.wait_for_selector(".touch")
        browser.start_tracing(page=page, categories=["disabled-by-default-devtools.timeline"])
        for _ in range(visits):
            visit(page)
        done = tasks(browser.stop_tracing())
        seen, yard = page.evaluate("() => seen"), page.evaluate(YARDSTICK)
    took = sorted(duration for _, duration in seen["touches"])
    at = lambda part: took[min(len(took) - 1, int(part * len(took)))]  # noqa: E731
    print(f"first contentful paint {sorted(paints)[2]:.0f} ms (median of {len(paints)})")
    print(
        f"{len(took)} touches over 16 ms in {visits} visits: p50 {at(0.5):.0f} ms, p95 {at(0.95):.0f} ms until the next picture"
    )
    for what, each in (("by the wall", 0), ("of processor time", 1)):
        long = [task[each] for task in done if task[each] > 50]
        print(
            f"{len(long)} of {len(done)} tasks over 50 ms {what}, the longest {max(task[each] for task in done):.0f} ms"
        )
    print(f"yardstick: ten million additions {yard:.0f} ms")


if __name__ == "__main__":
    main()
