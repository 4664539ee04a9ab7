"""Headless Chromium as a person uses it: pages, keys, clicks, pictures; and all that it asks of the network.

Speaks the DevTools protocol over two pipes (`--remote-debugging-pipe`), so that nothing but Chromium is needed. Owns the process and the
conversation. Start at `Browser`.
"""

import base64
import json
import os
import select
import time
from pathlib import Path

from ground import Failed
from processes import tool

ANSWER_SECONDS = 30
POLL_SECONDS = 0.05
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
         "--no-default-browser-check", "--remote-debugging-pipe"]
KEYS = {"Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, ""), "Space": (32, " "), "ArrowDown": (40, "")}


class Browser:
    """One Chromium with a profile of its own. A context manager."""

    def __init__(self, ground, name="chromium"):
        to_browser, self.to = os.pipe()
        self.come, from_browser = os.pipe()
        command = [tool("chromium"), *FLAGS, f"--user-data-dir={ground.folder}/{name}-profile", "about:blank"]
        # The browser's ends have to be its descriptors 3 and 4.
        shell = f'exec 3</proc/{os.getpid()}/fd/{to_browser} 4>/proc/{os.getpid()}/fd/{from_browser}; exec "$@"'
        self.processes = ground.processes
        self.process = ground.processes.start(name, ["sh", "-c", shell, "sh", *command])
        self.kept = (to_browser, from_browser)
        self.number = 0
        self.rest = b""
        self.events = []
        self.ask("Target.getTargets")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.processes.stop(self.process)
        for end in (self.to, self.come, *self.kept):
            os.close(end)

    def ask(self, method, session=None, **parameters):
        """Sends one command and returns its result; what happens meanwhile is kept as events."""
        self.number += 1
        number = self.number
        command = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self.to, json.dumps(command).encode() + b"\0")
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            message = self.read(until - time.monotonic())
            if message is None:
                raise Failed(f"chromium does not answer {method}")
            if message.get("id") == number:
                if "error" in message:
                    raise Failed(f"chromium: {method}: {message['error']['message']}")
                return message["result"]
            self.events.append(message)

    def read(self, seconds):
        """The next message. `None`: none came in that time."""
        until = time.monotonic() + seconds
        while b"\0" not in self.rest:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.come], [], [], left)[0]:
                return None
            part = os.read(self.come, 1 << 20)
            if not part:
                raise Failed("chromium has ended")
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def listen(self):
        """Takes in what has happened."""
        while message := self.read(0.001):
            self.events.append(message)

    def open(self, url, width=1440, height=900, dark=False):
        """A new page, loaded."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.ask(f"{domain}.enable")
        page.look(width, height, dark)
        page.ask("Page.navigate", url=url)
        page.until("location.href !== 'about:blank' && document.readyState === 'complete'", what=f"{url} is loaded")
        return page


class Page:
    """One tab."""

    def __init__(self, browser, session, target):
        self.browser = browser
        self.session = session
        self.target = target

    def ask(self, method, **parameters):
        """One command for this tab."""
        return self.browser.ask(method, self.session, **parameters)

    def close(self):
        """Closes the tab."""
        self.browser.ask("Target.closeTarget", targetId=self.target)

    def look(self, width, height=900, dark=False):
        """How large the window is, and what its owner prefers."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        self.ask("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"}])

    def value(self, expression):
        """What a JavaScript expression gives; promises are waited for."""
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise Failed(f"{expression}: {result['exceptionDetails'].get('exception', {}).get('description', result)}")
        return result["result"].get("value")

    def text(self, selector):
        """The text of an element that can be seen. `None`: there is none."""
        return self.value(f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
                          " return e && e.checkVisibility() ? e.innerText : null; })()")

    def until(self, expression, seconds=15, what=None):
        """Waits until an expression is true, and returns what it gives."""
        until = time.monotonic() + seconds
        while not (result := self.value(expression)):
            if time.monotonic() > until:
                raise Failed(f"{what or expression}: not within {seconds} s")
            time.sleep(POLL_SECONDS)
        return result

    def click(self, selector):
        """A click in the middle of an element, where nothing may lie over it."""
        place = self.value(f"""(() => {{
            const e = document.querySelector({json.dumps(selector)});
            if (!e) return null;
            e.scrollIntoView({{ block: 'center' }});
            const box = e.getBoundingClientRect();
            const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
            const top = document.elementFromPoint(x, y);
            return e.contains(top) || top?.contains(e) ? [x, y] : null;
        }})()""")
        if place is None:
            raise Failed(f"{selector} can't be clicked")
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def key(self, name):
        """A key that has a name."""
        code, text = KEYS[name]
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=" " if name == "Space" else name, code=name,
                     windowsVirtualKeyCode=code, **({"text": text} if kind == "keyDown" and text else {}))

    def type(self, text):
        """Text, into what has the focus."""
        self.ask("Input.insertText", text=text)

    def fill(self, selector, text):
        """Text into a field, in place of what is there."""
        self.click(selector)
        self.value(f"document.querySelector({json.dumps(selector)}).select()")
        self.type(text)

    def picture(self, file, whole=False):
        """A screenshot as PNG."""
        options = {}
        if whole:
            size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
            options = {"captureBeyondViewport": True,
                       "clip": {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 6000), "scale": 1}}
        data = self.ask("Page.captureScreenshot", format="png", **options)["data"]
        Path(file).write_bytes(base64.b64decode(data))

    def happened(self, method):
        """All events of a kind in this tab so far."""
        self.browser.listen()
        return [event["params"] for event in self.browser.events
                if event.get("method") == method and event.get("sessionId") == self.session]

    def complaints(self):
        """What stands in the console, and what was thrown."""
        said = [(entry["type"], [part.get("value", part.get("description")) for part in entry["args"]])
                for entry in self.happened("Runtime.consoleAPICalled") if entry["type"] in ("error", "warning", "assert")]
        thrown = [("thrown", event["exceptionDetails"]) for event in self.happened("Runtime.exceptionThrown")]
        logged = [(event["entry"]["level"], event["entry"]["text"], event["entry"].get("url"))
                  for event in self.happened("Log.entryAdded") if event["entry"]["level"] in ("error", "warning")]
        return said + thrown + logged

    def hosts(self):
        """Whom it has sent requests to."""
        urls = [event["request"]["url"] for event in self.happened("Network.requestWillBeSent")]
        return {url.split("/")[2] for url in urls if "://" in url}
