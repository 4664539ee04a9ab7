"""A page with a hundred resources and a WebSocket, and a place to which the page reports, by Debian's python3-websockets.

    page.py PORT   prints what the browser reports, one line of JSON
"""

import asyncio
import http
import json
import sys
import urllib.parse

import websockets

RESOURCES = 100
PAGE = """<!doctype html><title>page</title>
%s
<script>
"use strict";
async function main() {
  const fetched = await Promise.all(Array.from({length: COUNT}, (_, i) => fetch("/data/" + i).then(answer => answer.text())));
  const socket = new WebSocket("wss://" + location.host + "/socket");
  const echoed = await new Promise((done, failed) => {
    socket.onerror = () => failed("the socket failed");
    socket.onopen = () => socket.send("hello");
    socket.onmessage = message => done(message.data);
  });
  const seen = performance.getEntriesByType("resource");
  return {
    fetched: fetched.filter((text, i) => text === "data " + i).length,
    images: [...document.images].filter(image => image.naturalWidth > 0).length,
    protocols: [...new Set(seen.map(entry => entry.nextHopProtocol))],
    page: performance.getEntriesByType("navigation")[0].nextHopProtocol,
    echoed,
  };
}
addEventListener("load", () => main().catch(error => ({error: String(error)})).then(
  report => fetch("/report?" + encodeURIComponent(JSON.stringify(report)))));
</script>
""".replace("COUNT", str(RESOURCES))
IMAGE = b'<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><rect width="4" height="4"/></svg>'


def answer(path):
    """Type and body of what is asked for by HTTP."""
    if path == "/":
        images = "\n".join(f'<img src="/image/{i}.svg" alt="">' for i in range(RESOURCES))
        return "text/html", (PAGE.replace("%s", images, 1)).encode()
    if path.startswith("/image/"):
        return "image/svg+xml", IMAGE
    if path.startswith("/data/"):
        return "text/plain", b"data " + path.removeprefix("/data/").encode()
    if path.startswith("/report?"):
        print(json.dumps(json.loads(urllib.parse.unquote(path.removeprefix("/report?")))), flush=True)
    return "text/plain", b"ok"


async def main(port):
    """Runs until it is killed."""
    async def request(path, _headers):
        if path == "/socket":
            return None
        kind, body = answer(path)
        return http.HTTPStatus.OK, [("content-type", kind), ("content-length", str(len(body)))], body

    async def echo(socket, *_):
        async for message in socket:
            await socket.send(message)

    async with websockets.serve(echo, "127.0.0.1", port, process_request=request, backlog=1024):
        print("ready", flush=True)
        await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
