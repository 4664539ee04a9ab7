"""WebSocket clients and an echo behind the proxy, by Debian's python3-websockets.

    sockets.py serve PORT                    echoes every message
    sockets.py ask URI CAFILE|- COUNT SIZE   COUNT connections at once, each echoing a message of SIZE bytes; prints how many did
"""

import asyncio
import ssl
import sys

import websockets

ECHO_SECONDS = 60


async def serve(port):
    """Runs until it is killed."""
    async def echo(socket, *_):
        async for message in socket:
            await socket.send(message)

    async with websockets.serve(echo, "127.0.0.1", port, max_size=None, backlog=2048):
        print("ready", flush=True)
        await asyncio.Future()


async def ask(uri, authority, count, size):
    """All connections are open before the first one is closed."""
    context = None if authority == "-" else ssl.create_default_context(cafile=authority)
    open_now, room = asyncio.Event(), asyncio.Semaphore(50)
    done = {"open": 0, "echoed": 0}

    async def one(number):
        async with room:
            socket = await websockets.connect(uri, ssl=context, max_size=None, open_timeout=ECHO_SECONDS,
                                              server_hostname="a.example" if context else None,
                                              extra_headers={"x-user-id": str(number)})
        done["open"] += 1
        if done["open"] == count:
            open_now.set()
        await open_now.wait()
        message = bytes([number % 256]) * size
        async with room:
            await socket.send(message)
            answer = await socket.recv()
        done["echoed"] += answer == message
        await socket.close()

    await asyncio.wait_for(asyncio.gather(*(one(number) for number in range(count))), ECHO_SECONDS)
    print(done["echoed"], flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(int(sys.argv[2])))
    else:
        asyncio.run(ask(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
