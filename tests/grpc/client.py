"""A gRPC client for tests: `client.py ADDRESS SCENARIO`. It asserts by itself, and prints nothing when all is well."""

import sys
import threading
import time

import grpc

address, scenario = sys.argv[1:3]
options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)]
channel = grpc.insecure_channel(address, options=options)
unary = channel.unary_unary("/test.Echo/Unary")
server_stream = channel.unary_stream("/test.Echo/ServerStream")
client_stream = channel.stream_unary("/test.Echo/ClientStream")
bidi = channel.stream_stream("/test.Echo/Bidi")
slow = channel.unary_unary("/test.Echo/Slow")
late = channel.stream_stream("/test.Echo/Late")
PATIENCE = 20


def expect(what, wanted):
    assert what == wanted, f"{what!r} is not {wanted!r}"


def failure(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


def run_unary():
    for size in [0, 1, 5, 1000, 16 << 10, 70_000, 5 << 20]:
        message = bytes(i % 251 for i in range(1000)) * (size // 1000 + 1)
        answer, call = unary.with_call(message[:size], timeout=PATIENCE, metadata=(("x-sent", "me"),))
        assert answer == message[:size], size
        expect(dict(call.initial_metadata())["x-initial"], "yes")
        trailing = dict(call.trailing_metadata())
        expect((trailing["x-got"], trailing["x-bin-bin"]), ("me", b"\x00\xff"))


def run_statuses():
    for code in range(1, 17):
        error = failure(lambda: unary(b"fail %d no %% \xc3\xb6" % code, timeout=PATIENCE))
        expect((error.code().value[0], error.details()), (code, "no % \u00f6"))
        expect(dict(error.trailing_metadata())["x-why"], "asked")


def run_streams():
    expect([len(m) for m in server_stream(b"100:10", timeout=PATIENCE)], [len(b"%d:" % i) + 10 for i in range(100)])
    expect(sum(len(m) for m in server_stream(b"40:100000", timeout=PATIENCE)) > 4_000_000, True)
    expect(client_stream(iter([b"x" * 1000] * 100), timeout=PATIENCE), b"100:100000")
    expect(client_stream(iter([b"x" * 300_000] * 10), timeout=PATIENCE), b"10:3000000")
    expect(list(bidi(iter([b"%d" % i for i in range(50)]), timeout=PATIENCE)), [b"%d" % i for i in range(50)])


def run_ping_pong():
    """Each message is sent only when the one before has come back: nothing may be held on the way."""
    turn, sent = threading.Semaphore(1), []

    def messages():
        for at in range(20):
            assert turn.acquire(timeout=PATIENCE)
            sent.append(at)
            yield b"%d" % at

    for at, answer in enumerate(bidi(messages(), timeout=PATIENCE)):
        expect((answer, len(sent)), (b"%d" % at, at + 1))
        turn.release()


def run_pauses():
    """Both sides are silent for longer than either may be in a body of plain HTTP."""

    def messages():
        yield b"a"
        time.sleep(2.5)
        yield b"b"

    expect(list(bidi(messages(), timeout=PATIENCE)), [b"a", b"b"])

    def busy():
        for _ in range(8):
            yield b"x"
            time.sleep(0.4)

    # The target says nothing for longer than `idle`, the client does not pause that long.
    expect(list(late(busy(), timeout=PATIENCE)), [b"8"])


def run_idle():
    """Nobody says anything for too long."""
    stop = threading.Event()

    def messages():
        yield b"a"
        stop.wait(PATIENCE)

    began = time.monotonic()
    calls = bidi(messages(), timeout=PATIENCE)
    expect(next(calls), b"a")
    error = failure(lambda: next(calls))
    stop.set()
    assert error.code() != grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert time.monotonic() - began < 15


def run_deadline():
    error = failure(lambda: slow(b"", timeout=1.0))
    expect(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)


def run_cancel():
    call = slow.future(b"", timeout=PATIENCE)
    time.sleep(0.5)
    call.cancel()
    assert call.cancelled()


def run_many():
    """Many calls at once, each of which has to be answered."""
    futures = [unary.future(b"%d" % at, timeout=PATIENCE) for at in range(300)]
    expect([future.result() for future in futures], [b"%d" % at for at in range(300)])


def run_unavailable():
    error = failure(lambda: unary(b"x", timeout=PATIENCE))
    expect(error.code(), grpc.StatusCode.UNAVAILABLE)
    metadata = {**dict(error.trailing_metadata() or ()), **dict(error.initial_metadata() or ())}
    assert "x-ringgate-reason" in metadata, metadata


def run_no_route():
    error = failure(lambda: unary(b"x", timeout=PATIENCE))
    expect(error.code(), grpc.StatusCode.UNIMPLEMENTED)
    expect(error.details(), "No rule takes this request.")


globals()["run_" + scenario]()
channel.close()
