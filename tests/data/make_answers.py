#!/usr/bin/env python3
"""Writes bad_answers.jsonl: answers that backends may send, and what may become of them.

    tests/data/make_answers.py > tests/data/bad_answers.jsonl

Each line is one case. `answer` is what the backend sends for the first request on a connection (a character is a byte), after which it
closes the connection if `closes`; every further request on it gets a clean answer, 200 with the body "ok". `accept` lists what may come of
it: "pass" (the client gets `status` and `body`, whole), "refuse" (an answer of the proxy's own, 502 or 504) or "cut" (the client can tell
that the answer is not whole). Whatever comes of it, the next request must get the clean answer. With `reuse` false it must come on
another connection: what may be left on the first one belongs to nobody. `absent` and `present` are about the head that the client sees.
"""

import json

CASES = []


def case(name, category, answer, accept, why, *, method="GET", closes=False, status=200, body="hello", reuse=None,
         absent=(), present=()):
    """One case."""
    CASES.append({"name": name, "category": category, "method": method, "answer": answer, "closes": closes,
                  "accept": accept.split(), "status": status, "body": body, "reuse": reuse, "absent": list(absent),
                  "present": list(present), "why": why})


LENGTH = "content-length: 5\r\n"
CHUNKED = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
BAD = "refuse cut"


def good():
    """What must pass."""
    for name, line in (("http-1.1", "HTTP/1.1 200 OK"), ("no-reason", "HTTP/1.1 200 "), ("no-space", "HTTP/1.1 200"),
                       ("long-reason", "HTTP/1.1 200 " + "very " * 50 + "OK"), ("obs-text-reason", "HTTP/1.1 200 \xe9t\xe9")):
        case(f"good-{name}", "good", f"{line}\r\n{LENGTH}\r\nhello", "pass", "RFC 9112 4", reuse=True)
    case("good-http-1.0", "good", f"HTTP/1.0 200 OK\r\n{LENGTH}\r\nhello", "pass", "RFC 9112 9.3", reuse=False)
    case("good-http-1.0-kept", "good", f"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n{LENGTH}\r\nhello", "pass", "RFC 9112 9.3")
    case("good-close", "good", f"HTTP/1.1 200 OK\r\nconnection: close\r\n{LENGTH}\r\nhello", "pass", "RFC 9112 9.6", closes=True,
         reuse=False, absent=["connection: close"])
    case("good-until-close", "good", "HTTP/1.1 200 OK\r\n\r\nhello", "pass", "RFC 9112 6.3 (8)", closes=True, reuse=False)
    case("good-until-close-1.0", "good", "HTTP/1.0 200 OK\r\n\r\nhello", "pass", "RFC 9112 6.3 (8)", closes=True, reuse=False)
    for name, body in (("one", "5\r\nhello\r\n0\r\n\r\n"), ("two", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
                       ("upper-case", "00005\r\nhello\r\n00\r\n\r\n"), ("extension", '5;a=b;c="d;e"\r\nhello\r\n0;x\r\n\r\n'),
                       ("trailer", "5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n")):
        case(f"good-chunked-{name}", "good", CHUNKED + body, "pass", "RFC 9112 7.1", reuse=True)
    case("good-chunked-case", "good", "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "pass",
         "codings are without case", reuse=True)
    case("good-empty", "good", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "pass", "RFC 9112 6.2", body="", reuse=True)
    case("good-empty-chunked", "good", CHUNKED + "0\r\n\r\n", "pass", "RFC 9112 7.1", body="", reuse=True)
    for status in (204, 304):
        case(f"good-{status}", "good", f"HTTP/1.1 {status} x\r\nx-a: b\r\n\r\n", "pass", "RFC 9112 6.3 (1)", status=status, body="")
    case("good-head", "good", f"HTTP/1.1 200 OK\r\n{LENGTH}\r\n", "pass", "RFC 9110 9.3.2", method="HEAD", body="",
         present=["content-length: 5"])
    for status in (201, 301, 404, 418, 500, 503, 599):
        case(f"good-{status}", "good", f"HTTP/1.1 {status} x\r\n{LENGTH}\r\nhello", "pass", "RFC 9110 15", status=status, reuse=True)
    case("good-status-600", "good", f"HTTP/1.1 600 x\r\n{LENGTH}\r\nhello", "pass refuse", "RFC 9110 15", status=600)
    case("good-no-date", "good", f"HTTP/1.1 200 OK\r\n{LENGTH}\r\nhello", "pass", "RFC 9110 6.6.1", present=["\ndate: "])
    case("good-date", "good", f"HTTP/1.1 200 OK\r\nDate: theirs\r\n{LENGTH}\r\nhello", "pass", "RFC 9110 6.6.1", present=["date: theirs"],
         absent=["gmt"])
    case("good-426", "good", f"HTTP/1.1 426 x\r\nConnection: upgrade\r\nUpgrade: TLS/1.3\r\n{LENGTH}\r\nhello", "pass", "RFC 9110 15.5.22",
         status=426)
    case("good-obs-text-value", "good", f"HTTP/1.1 200 OK\r\nx-a: \xe9\r\n{LENGTH}\r\nhello", "pass", "RFC 9110 5.5", present=["x-a: "])
    case("good-empty-value", "good", f"HTTP/1.1 200 OK\r\nx-a:\r\n{LENGTH}\r\nhello", "pass", "RFC 9110 5.5", present=["x-a:"])
    case("good-cookies", "good", f"HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n{LENGTH}\r\nhello", "pass",
         "RFC 9110 5.3", present=["set-cookie: a=1", "set-cookie: b=2"])


def status_lines():
    """Lines that begin no answer."""
    for name, line in (
        ("http-2", "HTTP/2.0 200 OK"), ("http-2-short", "HTTP/2 200 OK"), ("http-0.9", "HTTP/0.9 200 OK"), ("http-1.2", "HTTP/1.2 200 OK"),
        ("http-11.1", "HTTP/11.1 200 OK"), ("http-1.10", "HTTP/1.10 200 OK"), ("lower-case", "http/1.1 200 OK"), ("no-version", "200 OK"),
        ("icy", "ICY 200 OK"), ("two-digits", "HTTP/1.1 20 OK"), ("four-digits", "HTTP/1.1 2000 OK"), ("letters", "HTTP/1.1 abc OK"),
        ("plus", "HTTP/1.1 +20 OK"), ("minus", "HTTP/1.1 -20 OK"), ("zero", "HTTP/1.1 000 OK"), ("below-100", "HTTP/1.1 099 OK"),
        ("two-spaces", "HTTP/1.1  200 OK"), ("tab", "HTTP/1.1\t200 OK"), ("space-in-front", " HTTP/1.1 200 OK"), ("no-code", "HTTP/1.1 "),
        ("nul-in-reason", "HTTP/1.1 200 O\0K"), ("cr-in-reason", "HTTP/1.1 200 O\rK"), ("control-in-reason", "HTTP/1.1 200 O\x01K"),
        ("request", "GET / HTTP/1.1"), ("html", "<html>"), ("tls-alert", "\x15\x03\x01\x00\x02\x02\x46"), ("ssh", "SSH-2.0-OpenSSH_9"),
        ("space-in-version", "HTTP /1.1 200 OK"), ("hex-code", "HTTP/1.1 0xc8 OK"), ("unicode-code", "HTTP/1.1 \xb2\xb0\xb0 OK"),
    ):
        case(f"line-{name}", "status line", f"{line}\r\n{LENGTH}\r\nhello", "refuse", "RFC 9112 4", closes=True, reuse=False)
    case("line-empty-lines-first", "status line", f"\r\n\r\nHTTP/1.1 200 OK\r\n{LENGTH}\r\nhello", "pass refuse", "RFC 9112 2.2")
    case("line-silence", "status line", "", "refuse", "no answer in time", reuse=False)
    case("line-half", "status line", "HTTP/1.1 20", "refuse", "the connection breaks in it", closes=True, reuse=False)
    case("line-half-silence", "status line", "HTTP/1.1 20", "refuse", "nothing follows", reuse=False)
    case("line-half-head", "status line", f"HTTP/1.1 200 OK\r\n{LENGTH}", "refuse", "the connection breaks in the head", closes=True,
         reuse=False)
    case("line-half-head-silence", "status line", f"HTTP/1.1 200 OK\r\n{LENGTH}", "refuse", "nothing follows", reuse=False)


def fields():
    """Header fields."""
    for name, line in (
        ("space-before-colon", "X-A : b"), ("tab-before-colon", "X-A\t: b"), ("no-colon", "X-A"), ("empty-name", ": b"),
        ("space-in-name", "X A: b"), ("bracket-in-name", "X(A: b"), ("slash-in-name", "X/A: b"), ("obs-text-in-name", "X\xe9: b"),
        ("nul-in-name", "X\0A: b"), ("nul-in-value", "X-A: b\0c"), ("cr-in-value", "X-A: b\rc"), ("control-in-value", "X-A: b\x01c"),
        ("delete-in-value", "X-A: b\x7fc"), ("escape-in-value", "X-A: \x1b[2J"), ("obs-fold", "X-A: b\r\n c"), ("obs-fold-tab", "X-A: b\r\n\tc"),
        ("fold-first", " X-A: b"), ("second-status-line", "HTTP/1.1 200 OK"),
    ):
        case(f"field-{name}", "field", f"HTTP/1.1 200 OK\r\n{line}\r\n{LENGTH}\r\nhello", "refuse", "RFC 9112 5", reuse=False)
    case("field-bare-lf", "field", f"HTTP/1.1 200 OK\nX-A: b\n{LENGTH}\nhello", "pass refuse", "RFC 9112 2.2: a recipient may")
    case("field-bare-cr", "field", f"HTTP/1.1 200 OK\rX-A: b\r\n{LENGTH}\r\nhello", "refuse", "RFC 9112 2.2", reuse=False)
    case("field-too-many", "field", "HTTP/1.1 200 OK\r\n" + "a: b\r\n" * 1001 + f"{LENGTH}\r\nhello", "refuse", "bounded", reuse=False)
    case("field-too-long", "field", "HTTP/1.1 200 OK\r\nx-a: " + "b" * 70_000 + f"\r\n{LENGTH}\r\nhello", "refuse", "bounded", reuse=False)
    for name in ("Connection", "Keep-Alive", "Proxy-Connection", "Upgrade", "Proxy-Authenticate"):
        value = "keep-alive" if "Connection" in name else "x"
        case(f"hop-{name.lower()}", "hop", f"HTTP/1.1 200 OK\r\n{name}: {value}\r\n{LENGTH}\r\nhello", "pass", "RFC 9110 7.6.1",
             absent=[f"{name.lower()}:"])
    case("hop-named", "hop", f"HTTP/1.1 200 OK\r\nConnection: X-Secret, keep-alive\r\nX-Secret: 1\r\n{LENGTH}\r\nhello", "pass",
         "RFC 9110 7.6.1", absent=["x-secret"])
    case("hop-names-length", "hop", f"HTTP/1.1 200 OK\r\nConnection: Content-Length\r\n{LENGTH}\r\nhello", "pass refuse", "RFC 9110 7.6.1",
         present=["content-length: 5"])
    case("hop-names-many", "hop", "HTTP/1.1 200 OK\r\nConnection: " + ",".join(f"x-{i}" for i in range(100)) + f"\r\n{LENGTH}\r\nhello",
         "pass refuse", "bounded")


def framing():
    """How long a body is."""
    for name, value in (("plus", "+5"), ("minus", "-5"), ("hex", "0x5"), ("two", "5 5"), ("list", "5, 6"), ("letters", "five"), ("empty", ""),
                        ("huge", "9" * 30), ("float", "5.0"), ("exponent", "5e0"), ("nul", "5\0"), ("separator", "5_0"), ("quoted", '"5"')):
        case(f"length-{name}", "framing", f"HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\nhello", "refuse", "RFC 9112 6.3 (5)", reuse=False)
    case("length-over-63-bits", "framing", "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nhello", "refuse",
         "readers with signed numbers", closes=True, reuse=False)
    case("length-same-list", "framing", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", "pass refuse", "RFC 9110 8.6")
    case("length-twice-same", "framing", f"HTTP/1.1 200 OK\r\n{LENGTH}{LENGTH}\r\nhello", "pass refuse", "RFC 9110 8.6")
    case("length-twice", "framing", f"HTTP/1.1 200 OK\r\n{LENGTH}Content-Length: 6\r\n\r\nhello", "refuse", "RFC 9112 6.3 (5)", reuse=False)
    case("length-short-close", "framing", f"HTTP/1.1 200 OK\r\n{LENGTH}\r\nhel", "cut refuse", "RFC 9112 8", closes=True, reuse=False)
    case("length-short-silence", "framing", f"HTTP/1.1 200 OK\r\n{LENGTH}\r\nhel", "cut refuse", "nothing follows", reuse=False)
    case("length-none-close", "framing", f"HTTP/1.1 200 OK\r\n{LENGTH}\r\n", "cut refuse", "RFC 9112 8", closes=True, reuse=False)
    chunk = "5\r\nhello\r\n0\r\n\r\n"
    for name, lines in (
        ("gzip", "Transfer-Encoding: gzip\r\n"), ("gzip-chunked", "Transfer-Encoding: gzip, chunked\r\n"),
        ("chunked-gzip", "Transfer-Encoding: chunked, gzip\r\n"), ("chunked-twice", "Transfer-Encoding: chunked, chunked\r\n"),
        ("two-fields", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), ("xchunked", "Transfer-Encoding: xchunked\r\n"),
        ("identity", "Transfer-Encoding: identity\r\n"), ("empty", "Transfer-Encoding:\r\n"), ("quoted", 'Transfer-Encoding: "chunked"\r\n'),
        ("parameter", "Transfer-Encoding: chunked;a=b\r\n"), ("vertical-tab", "Transfer-Encoding: \x0bchunked\r\n"),
    ):
        case(f"coding-{name}", "framing", f"HTTP/1.1 200 OK\r\n{lines}\r\n{chunk}", "refuse", "RFC 9112 6.1", closes=True, reuse=False)
    case("coding-http-1.0", "framing", f"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}", "refuse", "RFC 9112 6.1", closes=True,
         reuse=False)
    for first in (True, False):
        both = [LENGTH, "Transfer-Encoding: chunked\r\n"]
        lines = "".join(both if first else both[::-1])
        case(f"coding-and-length-{first}".lower(), "framing", f"HTTP/1.1 200 OK\r\n{lines}\r\n{chunk}", "pass refuse", "RFC 9112 6.1",
             reuse=False, absent=["content-length: 5"])


def chunks():
    """The chunked coding."""
    for name, body in (
        ("letter", "g\r\nhello\r\n0\r\n\r\n"), ("empty-size", "\r\nhello\r\n0\r\n\r\n"), ("minus", "-5\r\nhello\r\n0\r\n\r\n"),
        ("plus", "+5\r\nhello\r\n0\r\n\r\n"), ("hex-prefix", "0x5\r\nhello\r\n0\r\n\r\n"), ("space-in-front", " 5\r\nhello\r\n0\r\n\r\n"),
        ("tab-in-front", "\t5\r\nhello\r\n0\r\n\r\n"), ("overflow", "f" * 17 + "\r\nhello\r\n0\r\n\r\n"), ("wraps", "1" + "0" * 16 + "5\r\nhello\r\n0\r\n\r\n"),
        ("over-63-bits", "8" + "0" * 15 + "\r\nhello\r\n0\r\n\r\n"),
        ("separator", "0_5\r\nhello\r\n0\r\n\r\n"), ("lf-after-size", "5\nhello\r\n0\r\n\r\n"), ("cr-after-size", "5\rhello\r\n0\r\n\r\n"),
        ("nul-after-size", "5\0\r\nhello\r\n0\r\n\r\n"), ("no-end-of-data", "5\r\nhello0\r\n\r\n"), ("lf-after-data", "5\r\nhello\n0\r\n\r\n"),
        ("data-too-long", "3\r\nhello\r\n0\r\n\r\n"), ("data-too-short", "8\r\nhello\r\n0\r\n\r\n"), ("extension-control", "5;a\x01\r\nhello\r\n0\r\n\r\n"),
        ("extension-lf", "5;a\nb\r\nhello\r\n0\r\n\r\n"), ("extension-cr", "5;a\rb\r\nhello\r\n0\r\n\r\n"), ("extension-long", "5;" + "a" * 2000 + "\r\nhello\r\n0\r\n\r\n"),
        ("extensions-many", ("1;" + "x" * 200 + "\r\na\r\n") * 200 + "0\r\n\r\n"), ("trailer-space", "5\r\nhello\r\n0\r\nA : b\r\n\r\n"),
        ("trailer-fold", "5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n"), ("trailer-no-colon", "5\r\nhello\r\n0\r\nA\r\n\r\n"),
        ("trailer-nul", "5\r\nhello\r\n0\r\nA: b\0c\r\n\r\n"), ("trailer-long", "5\r\nhello\r\n0\r\nA: " + "b" * 20_000 + "\r\n\r\n"),
        ("no-last", "5\r\nhello\r\n"), ("half-size", "5\r\nhello\r\n0"), ("no-last-line", "5\r\nhello\r\n0\r\n"), ("half-trailer", "5\r\nhello\r\n0\r\nA: b"),
        ("half-data", "5\r\nhel"), ("nothing", ""),
    ):
        case(f"chunk-{name}", "chunk", CHUNKED + body, BAD, "RFC 9112 7.1", closes=True, reuse=False)
    case("chunk-silence", "chunk", CHUNKED + "5\r\nhel", BAD, "nothing follows", reuse=False)
    for name in ("Content-Length", "Transfer-Encoding", "Host", "Set-Cookie", "Authorization", "Content-Type", "Trailer", "Connection"):
        case(f"chunk-trailer-{name.lower()}", "chunk", CHUNKED + f"5\r\nhello\r\n0\r\n{name}: 5\r\n\r\n", "pass refuse cut", "RFC 9110 6.5.1",
             absent=[f"\n{name.lower()}: 5"])


def beyond():
    """Bytes that belong to no answer."""
    second = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
    for name, more in (("crlf", "\r\n"), ("byte", "x"), ("answer", second), ("half-answer", second[:20]), ("nul", "\0"), ("interim", "HTTP/1.1 100 Continue\r\n\r\n")):
        case(f"beyond-length-{name}", "beyond", f"HTTP/1.1 200 OK\r\n{LENGTH}\r\nhello{more}", "pass", "RFC 9112 6.3: it is no answer",
             reuse=False)
        case(f"beyond-chunked-{name}", "beyond", f"{CHUNKED}5\r\nhello\r\n0\r\n\r\n{more}", "pass", "RFC 9112 6.3: it is no answer", reuse=False)
        case(f"beyond-204-{name}", "beyond", f"HTTP/1.1 204 No Content\r\n\r\n{more}", "pass", "RFC 9112 6.3 (1)", status=204, body="",
             reuse=False)
        case(f"beyond-304-{name}", "beyond", f"HTTP/1.1 304 Not Modified\r\n{LENGTH}\r\n{more}", "pass", "RFC 9112 6.3 (1)", status=304, body="",
             reuse=False)
        case(f"beyond-head-{name}", "beyond", f"HTTP/1.1 200 OK\r\n{LENGTH}\r\n{more}", "pass", "RFC 9112 6.3 (1)", method="HEAD", body="",
             reuse=False)
    case("beyond-204-length", "beyond", f"HTTP/1.1 204 No Content\r\n{LENGTH}\r\nhello", "pass refuse", "RFC 9110 8.6", status=204, body="",
         reuse=False, absent=["content-length"])
    case("beyond-204-chunked", "beyond", "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "pass refuse",
         "RFC 9112 6.1", status=204, body="", reuse=False, absent=["transfer-encoding"])
    case("beyond-head-chunked", "beyond", CHUNKED + "5\r\nhello\r\n0\r\n\r\n", "pass refuse", "RFC 9110 9.3.2", method="HEAD", body="", reuse=False)


def interim():
    """Answers before the answer."""
    final = f"HTTP/1.1 200 OK\r\n{LENGTH}\r\nhello"
    for status in (100, 102, 103, 199):
        case(f"interim-{status}", "interim", f"HTTP/1.1 {status} x\r\n\r\n{final}", "pass", "RFC 9110 15.2", reuse=True)
    case("interim-many", "interim", "HTTP/1.1 102 x\r\n\r\n" * 10 + final, "pass", "RFC 9110 15.2")
    case("interim-flood", "interim", "HTTP/1.1 102 x\r\n\r\n" * 1000 + final, "refuse cut", "bounded", reuse=False)
    case("interim-101", "interim", "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello", "refuse", "nobody asked", reuse=False)
    case("interim-101-bare", "interim", "HTTP/1.1 101 x\r\n\r\n" + final, "refuse", "nobody asked", reuse=False)
    case("interim-length", "interim", f"HTTP/1.1 103 x\r\n{LENGTH}\r\n{final}", "pass refuse", "RFC 9110 8.6", absent=[])
    case("interim-chunked", "interim", "HTTP/1.1 103 x\r\ntransfer-encoding: chunked\r\n\r\n" + final, "pass refuse", "RFC 9112 6.1")
    case("interim-body", "interim", "HTTP/1.1 100 Continue\r\n\r\nhello", "refuse cut", "RFC 9110 15.2", closes=True, reuse=False)
    case("interim-only", "interim", "HTTP/1.1 100 Continue\r\n\r\n", "refuse cut", "no answer follows", closes=True, reuse=False)
    case("interim-silence", "interim", "HTTP/1.1 100 Continue\r\n\r\n", "refuse cut", "no answer follows", reuse=False)
    case("interim-bad-field", "interim", "HTTP/1.1 103 x\r\nX A: b\r\n\r\n" + final, "refuse", "RFC 9112 5", reuse=False)


for part in (good, status_lines, fields, framing, chunks, beyond, interim):
    part()
names = [one["name"] for one in CASES]
assert len(set(names)) == len(names), "two cases of one name"
for one in CASES:
    print(json.dumps(one))
