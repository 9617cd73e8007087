"""A gRPC server for tests: messages are octets as they are. Prints its port, then a line for whatever a test waits for.

`origin.py [--tls CERT KEY]`; ends when its standard input ends.
"""

import sys
import threading
import time
from concurrent import futures

import grpc

health = {"": 1, "up": 1, "down": 2}
printing = threading.Lock()


def say(*words):
    with printing:
        print(*words, flush=True)


def unary(request, context):
    """Says what it got; `fail CODE TEXT` ends with that status."""
    metadata = dict(context.invocation_metadata())
    if request.startswith(b"fail "):
        _, code, text = request.decode().split(" ", 2)
        context.set_trailing_metadata((("x-why", "asked"),))
        context.abort(next(c for c in grpc.StatusCode if c.value[0] == int(code)), text)
    context.send_initial_metadata((("x-initial", "yes"),))
    context.set_trailing_metadata((("x-got", metadata.get("x-sent", "-")), ("x-bin-bin", b"\x00\xff")))
    return request


def server_stream(request, context):
    count, size = map(int, request.split(b":"))
    for at in range(count):
        yield b"%d:" % at + b"x" * size


def client_stream(requests, context):
    count = octets = 0
    for request in requests:
        count, octets = count + 1, octets + len(request)
    return b"%d:%d" % (count, octets)


def bidi(requests, context):
    for request in requests:
        yield request


def slow(request, context):
    """Waits until the call ends, and says how it did."""
    ended = threading.Event()
    context.add_callback(ended.set)
    left = context.time_remaining()
    say("slow", "-" if left is None else "%.3f" % left)
    ended.wait(30)
    say("ended")
    return b""


def late(requests, context):
    """Sends its initial metadata, waits for the end of what the client sends, then answers."""
    context.send_initial_metadata(())
    octets = sum(len(request) for request in requests)
    time.sleep(0.3)
    yield b"%d" % octets


def check(request, context):
    service = request[2:].decode() if request else ""
    if service not in health:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
    return bytes([8, health[service]])


def turn(request, context):
    """Sets the health of a service: `NAME STATUS`."""
    name, status = request.decode().rsplit(" ", 1)
    health[name] = int(status)
    return b""


def raw(kind, behaviour):
    return kind(behaviour, request_deserializer=None, response_serializer=None)


def main():
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(64), options=options)
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler("test.Echo", {
            "Unary": raw(grpc.unary_unary_rpc_method_handler, unary),
            "ServerStream": raw(grpc.unary_stream_rpc_method_handler, server_stream),
            "ClientStream": raw(grpc.stream_unary_rpc_method_handler, client_stream),
            "Bidi": raw(grpc.stream_stream_rpc_method_handler, bidi),
            "Slow": raw(grpc.unary_unary_rpc_method_handler, slow),
            "Late": raw(grpc.stream_stream_rpc_method_handler, late),
            "Turn": raw(grpc.unary_unary_rpc_method_handler, turn),
        }),
        grpc.method_handlers_generic_handler("grpc.health.v1.Health", {
            "Check": raw(grpc.unary_unary_rpc_method_handler, check),
        }),
    ))
    if "--tls" in sys.argv:
        cert, key = (open(name, "rb").read() for name in sys.argv[sys.argv.index("--tls") + 1 :][:2])
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    say(port)
    sys.stdin.read()
    server.stop(0)


main()
