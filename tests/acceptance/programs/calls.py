"""gRPC behind and in front of the proxy, by Debian's python3-grpcio.

    calls.py serve PORT                 a service whose messages are plain bytes, and a health service that says SERVING
    calls.py ask ADDRESS CAFILE|- ROOM  makes calls of all kinds with the metadata x-user-id: ROOM; prints one line of JSON for each
"""

import json
import sys
import time
from concurrent import futures

import grpc

BIG = 3 << 20
SERVICE = "test.Echo"


def serve(port):
    """Runs until it is killed."""
    def unary(message, context):
        context.set_trailing_metadata((("x-served-by", str(port)),))
        if message == b"fail":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as you wished: 100 % \u00e4")
        if message == b"sleep":
            time.sleep(5)
        return message

    def down(message, _):
        for i in range(int(message)):
            yield b"%d" % i

    def up(messages, _):
        return b"%d" % sum(len(message) for message in messages)

    def both(messages, _):
        yield from messages

    kinds = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Down": grpc.unary_stream_rpc_method_handler(down),
        "Up": grpc.stream_unary_rpc_method_handler(up),
        "Both": grpc.stream_stream_rpc_method_handler(both),
    }
    # HealthCheckResponse { status: SERVING }
    health = {"Check": grpc.unary_unary_rpc_method_handler(lambda *_: b"\x08\x01")}
    options = (("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0))
    server = grpc.server(futures.ThreadPoolExecutor(16), options=options)
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler(SERVICE, kinds),
        grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
    ))
    if server.add_insecure_port(f"127.0.0.1:{port}") != int(port):
        raise SystemExit("the port is taken")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


def ask(address, authority, room):
    """One line for each kind of call: what came of it."""
    options = [("grpc.max_receive_message_length", -1)]
    if authority == "-":
        channel = grpc.insecure_channel(address, options)
    else:
        with open(authority, "rb") as file:
            trust = grpc.ssl_channel_credentials(file.read())
        channel = grpc.secure_channel(address, trust, [*options, ("grpc.ssl_target_name_override", "a.example")])
    metadata = (("x-user-id", room),)

    def tell(kind, what):
        print(json.dumps({"kind": kind, "what": what}), flush=True)

    def status(kind, act):
        try:
            act()
            tell(kind, "OK")
        except grpc.RpcError as error:
            tell(kind, f"{error.code().name}: {error.details()}")

    with channel:
        unary = channel.unary_unary(f"/{SERVICE}/Unary")
        answer, call = unary.with_call(b"hello", metadata=metadata, timeout=20)
        tell("unary", answer.decode())
        tell("trailers", dict(call.trailing_metadata())["x-served-by"])
        tell("large", len(unary(bytes(BIG), metadata=metadata, timeout=20)))
        down = channel.unary_stream(f"/{SERVICE}/Down")(b"1000", metadata=metadata, timeout=20)
        tell("down", sum(1 for _ in down))
        messages = (b"x" * i for i in range(1000))
        tell("up", channel.stream_unary(f"/{SERVICE}/Up")(messages, metadata=metadata, timeout=20).decode())
        both = channel.stream_stream(f"/{SERVICE}/Both")
        # Each message is sent when the one before has come back.
        came = []
        def turns():
            for i in range(200):
                while len(came) < i:
                    time.sleep(0.0005)
                yield b"%d" % i
        for message in both(turns(), metadata=metadata, timeout=20):
            came.append(message)
        tell("both", [int(came[0]), int(came[-1]), len(came)])
        status("error", lambda: unary(b"fail", metadata=metadata, timeout=20))
        began = time.monotonic()
        status("deadline", lambda: unary(b"sleep", metadata=metadata, timeout=0.3))
        tell("deadline took", time.monotonic() - began < 2)
        status("unknown", lambda: channel.unary_unary("/other.Service/Method")(b"", metadata=metadata, timeout=20))
        status("no key", lambda: unary(b"x", timeout=20))


if __name__ == "__main__":
    {"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
