"""the page in headless Chromium, used as a person would: look a key up, drain its owner, see it move, restore

Then a backend that dies, a page of 500 backends, a proxy that asks for its token before it tells anything; pictures at three widths,
light and dark, in target/acceptance/page. No word in the console, no request to another host.
"""

import http.client
import json
import signal
import threading
import time
from pathlib import Path

from chromium import Browser
from ground import wait_until
from origins import Origin
from proxy import Proxy, get, pool

PICTURES = Path(__file__).resolve().parents[3] / "target" / "acceptance" / "page"
WIDTHS = (360, 900, 1440)
KEY = "user-42"
TOKEN = "s3cret"
SUMMARY = "document.getElementById('answer-summary').textContent"
MANY = 500


def run(report, ground):
    PICTURES.mkdir(parents=True, exist_ok=True)
    token = ground.folder / "token"
    token.write_text(TOKEN + "\n")
    guarded = f'token_file = "{token}"'
    origins = [Origin(ground, f"cache-{number}", "nginx") for number in (1, 2, 3)]
    backends = {origin.name: origin.port for origin in origins}
    proxy = Proxy(ground, guarded + "\nallow_unauthenticated_reads = true\n", pool("cache", backends))
    with Traffic(proxy.port), Browser(ground) as browser:
        page = browser.open(f"http://127.0.0.1:{proxy.admin_port}/")
        page.until("document.getElementById('verdict-line').textContent.startsWith('Nothing is wrong. 3 of 3')",
                   what="the page says that nothing is wrong")
        report.expect(True, "the page says first that nothing is wrong")
        moves(report, proxy, page)
        dies(report, origins[0], page)
        plans(report, proxy, page)
        looks(report, page, "three")
        can_be_read(report, page)
        report.expect(not page.complaints(), f"nothing in the console {page.complaints() or ''}")
        report.expect(page.hosts() == {f"127.0.0.1:{proxy.admin_port}"}, f"no request to another host: {page.hosts()}")
        page.close()
        many(report, ground, browser)
        asks(report, Proxy(ground, guarded, pool("cache", backends)), browser)
    report.say(f"pictures: {PICTURES}")


def moves(report, proxy, page):
    """A key's owner is drained with the mouse, and restored with the keyboard."""
    page.fill("#lookup-key", KEY)
    page.key("Enter")
    page.until("!document.getElementById('answer').hidden", what="the lookup is answered")
    owner = lookup(proxy)["chosen"]["backend"]
    report.expect(page.value(SUMMARY) == f"{owner} owns the key and gets the request.", f"the page: {page.value(SUMMARY)}")
    page.picture(PICTURES / "owner.png")
    page.click(f'#rows tr[data-name="{owner}"] button.change')
    page.until("document.getElementById('change').open", what="the dialog opens")
    page.fill("#change-token", TOKEN)
    page.picture(PICTURES / "drain.png")
    page.click("#change-do")
    page.until("!document.getElementById('change').open", what="the dialog closes")
    page.until(f"!{SUMMARY}.startsWith('{owner} owns the key and gets')", what="the key moves")
    second = lookup(proxy)["chosen"]["backend"]
    came = get(proxy.port, "/", {"x-user-id": KEY})[1].decode()
    report.expect(second != owner and page.value(SUMMARY) == f"{owner} owns the key but is drained; {second} stands in." and came == second,
                  f"drained: the page says {page.value(SUMMARY)!r}, a request goes to {came}")
    event = page.until("[...document.querySelectorAll('#events li')].find(e => e.textContent.includes('by an operator'))?.innerText",
                       what="the event appears")
    report.expect(f"cache / {owner}: drained" in event, f"event: {' '.join(event.split())}")
    page.until(f"document.querySelector('#rows tr[data-name=\"{owner}\"] .word').textContent === 'drained'", what="its row says so")
    page.picture(PICTURES / "drained.png")
    page.value(f"document.querySelector('#rows tr[data-name=\"{owner}\"] button.change').focus()")
    page.key("Enter")
    page.until("document.getElementById('change').open", what="the dialog opens by key")
    report.expect(page.text("#change-do") == f"Restore {owner}", "what is offered now is to restore")
    page.value("document.getElementById('change-do').focus()")
    page.key("Enter")
    page.until(f"{SUMMARY}.startsWith('{owner} owns the key and gets')", what="the key comes back")
    came = get(proxy.port, "/", {"x-user-id": KEY})[1].decode()
    report.expect(came == owner, f"restored by keyboard alone: a request goes to {came}")


def dies(report, origin, page):
    """A backend is killed: it is named, and named well again."""
    origin.stop(signal.SIGKILL)
    page.until("document.getElementById('verdict').dataset.state === 'wrong'", what="the page says that something is wrong")
    said = page.until(f"[...document.querySelectorAll('#verdict-list li')].find(e => e.innerText.includes('{origin.name} is '))?.innerText",
                      what="it says which one")
    title = page.value("document.title")
    report.expect("out" in title, f"killed: {' '.join(said.split())} (title: {title})")
    page.picture(PICTURES / "down.png")
    page.click("#verdict-list button")
    page.until(f"document.querySelector('#rows tr.selected')?.dataset.name === '{origin.name}'", what="its row is shown")
    origin.start()
    page.until("document.getElementById('verdict-line').textContent.startsWith('Nothing is wrong')", 30, "it is well again")
    report.expect(True, "started again: nothing is wrong")


def plans(report, proxy, page):
    """A pasted configuration is compared, where the API can."""
    if post(proxy, "/api/plan", proxy.config.read_text()) == 404:
        report.say("this binary has no /api/plan: the page's second part is not looked at")
        return
    page.click("#to-plan")
    page.until("!document.getElementById('plan').hidden", what="the second page is shown")
    page.click("#plan-running")
    page.until("document.getElementById('plan-text').value.includes('[pools.cache]')", what="the running configuration is there")
    # Fewer replicas: keys move, and the rest stays a configuration.
    page.value("(e => { e.value = e.value.replace(/replicas = \\d+/, 'replicas = 64'); })(document.getElementById('plan-text'))")
    page.click("#plan-form .main")
    said = page.until("document.querySelector('#plan-result .headline')?.innerText", what="it is compared")
    report.expect("%" in said and not said.startswith("0 %"), f"compared: {' '.join(said.split())}")
    page.picture(PICTURES / "plan.png", whole=True)
    page.click("#to-live")


def looks(report, page, name):
    """Pictures; and nothing is wider than the window."""
    wide = []
    page.value("document.activeElement.blur(), scrollTo(0, 0)")
    for width in WIDTHS:
        for dark in (False, True):
            page.look(width, 900, dark)
            time.sleep(0.3)
            if page.value("document.documentElement.scrollWidth > innerWidth"):
                wide.append(width)
            page.picture(PICTURES / f"{name}-{width}-{'dark' if dark else 'light'}.png", whole=True)
    page.look(WIDTHS[-1])
    report.expect(not wide, f"{name}: nothing is wider than a window of {', '.join(map(str, WIDTHS))} pixels {wide or ''}")


def can_be_read(report, page):
    """Whatever can be used has a name for those who do not see it."""
    nodes = page.ask("Accessibility.getFullAXTree")["nodes"]
    usable = [node for node in nodes if not node["ignored"] and
              node.get("role", {}).get("value") in ("button", "link", "textbox", "searchbox", "checkbox", "columnheader")]
    nameless = [node["role"]["value"] for node in usable if not node.get("name", {}).get("value", "").strip()]
    roles = {node.get("role", {}).get("value") for node in nodes if not node["ignored"]}
    report.expect(not nameless and len(usable) > 20, f"{len(usable)} things to use, all with a name {nameless or ''}")
    report.expect({"banner", "main", "navigation", "table", "heading"} <= roles, "landmarks, headings and a table")


def many(report, ground, browser):
    """500 backends: all are there, and found by a filter."""
    proxy = Proxy(ground, pool("many", {f"backend-{number:03}": 10_000 + number for number in range(MANY)}, 'kind = "off"'))
    page = browser.open(f"http://127.0.0.1:{proxy.admin_port}/")
    page.until(f"document.querySelectorAll('#rows tr').length === {MANY}", what=f"{MANY} rows")
    page.fill("#filter", "backend-04")
    shown = page.until("[...document.querySelectorAll('#rows tr')].filter(e => !e.hidden).length", what="some are shown")
    report.expect(shown == 10, f"{MANY} backends, {shown} by the filter: {page.text('#shown')}")
    page.value("(e => { e.value = ''; e.dispatchEvent(new Event('input')); })(document.getElementById('filter'))")
    page.fill("#lookup-key", KEY)
    page.key("Enter")
    page.until("!document.getElementById('answer').hidden", what="the lookup is answered")
    looks(report, page, "many")
    report.expect(not page.complaints(), f"nothing in the console {page.complaints() or ''}")
    page.close()


def asks(report, proxy, browser):
    """A proxy that is read with its token only: the page asks for it, once."""
    page = browser.open(f"http://127.0.0.1:{proxy.admin_port}/")
    page.until("document.getElementById('token').open", what="the page asks for the token")
    page.picture(PICTURES / "token.png")
    page.fill("#token-field", "wrong")
    page.key("Enter")
    page.until("document.getElementById('token').open && !document.getElementById('token-problem').hidden", what="it asks again")
    page.fill("#token-field", TOKEN)
    page.key("Enter")
    page.until("document.querySelectorAll('#rows tr').length === 3", what="backends are shown")
    report.expect(True, "a wrong token is told to be wrong; with the right one there is something to see")
    others = [complaint for complaint in page.complaints() if "401" not in str(complaint)]
    report.expect(not others, f"nothing in the console but the refusals {others or ''}")


def lookup(proxy):
    return json.loads(proxy.admin(f"/api/lookup?pool=cache&key={KEY}")[1])


def post(proxy, path, body):
    """The status of a POST with the token."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.admin_port, timeout=10)
    try:
        connection.request("POST", path, body=body, headers={"Authorization": f"Bearer {TOKEN}"})
        return connection.getresponse().status
    finally:
        connection.close()


class Traffic:
    """A hundred requests a second or so, so that there are figures to see."""

    def __init__(self, port):
        self.port = port
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.send)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def send(self):
        number = 0
        while not self.over.wait(0.01):
            number += 1
            try:
                get(self.port, "/", {"x-user-id": f"user-{number % 500}"})
            except OSError:
                pass
