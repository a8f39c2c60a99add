#!/usr/bin/env python3
"""{{.Name}} is a Ferrule plug-in that is a program: a sidecar, which speaks the wire (docs/wire.md of Ferrule) by its standard input and output."""
import json
import re
import sys


def greet(input):
    """Greets whoever the input names."""
    return b"Hello, %s!" % (input or b"world")


functions = {"greet": greet}  # by their names; each takes bytes, and gives bytes
hooks = {}  # likewise, by their extension points


# What is below is the wire, and knows nothing of what is above but these two.

source, sink = open(0, "rb"), open(1, "wb")  # with buffers: no read and no write is short
sys.stdout = sys.stderr  # what is printed is no message
verbs = {"HELLO": 1, "CALL": 2, "CANCEL": 1, "BYE": 0}  # with the number of their arguments


class Broken(Exception):
    """What came is no message, or the stream has ended: so does the session (W3, W6)."""


def number(text, least=0):
    if not re.fullmatch("0|[1-9][0-9]{0,18}", text) or not least <= int(text) < 1 << 63:
        raise Broken(text)
    return int(text)


def receive():
    """The next message: its verb, its arguments, its fields and its body (W1, W2)."""
    lines, size = [], 0
    while not lines or lines[-1]:
        line = source.readline((4 << 10) + 2)
        size += len(line)
        if not line.endswith(b"\n") or size > 16 << 10 or re.search(rb"[^\t\r\n -~]|\r(?!\n)", line):
            raise Broken(line)
        lines.append(line.rstrip(b"\r\n").decode())
    verb, *args = lines[0].split(" ")
    if verbs.get(verb) != len(args) or "" in args:
        raise Broken(lines[0])
    fields = {}
    for line in lines[1:-1]:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not re.fullmatch("[a-z0-9-]+", name) or name == "content-length" and name in fields:
            raise Broken(line)
        fields[name] = value.strip(" \t")
    length = number(fields.get("content-length", "0"))
    if length > (256 << 20 if verb == "CALL" else 0):
        raise Broken(lines[0])
    body = source.read(length)
    if len(body) < length:
        raise Broken("the end")
    return verb, args, fields, body


def send(head, body):
    sink.write(b"%s\nContent-Length: %d\n\n%s" % (head.encode(), len(body), body))
    sink.flush()


def answer(name, fields, input):
    f = (hooks if "hook" in fields else functions).get(name)
    if f is None:
        return 3, b"there is no such function"
    try:
        return 0, b"" + f(input)  # anything but bytes is a failure
    except Exception as e:
        return 1, str(e).encode("utf-8", "replace")


def main():
    verb, args, fields, _ = receive()
    if verb != "HELLO" or args != ["1"]:
        raise Broken(verb)
    longest = number(fields.get("max-body", str(256 << 20)))
    said = [{name: {"doc": f.__doc__ or ""} for name, f in all.items()} for all in (functions, hooks)]
    send("HELLO 1", json.dumps({"name": "{{.Name}}", "version": "0.1.0", "functions": said[0], "hooks": said[1]}).encode())
    while True:
        verb, args, fields, input = receive()
        if verb == "HELLO":
            raise Broken(verb)
        if verb == "BYE":
            return
        id = number(args[0], 1)
        if verb == "CALL":  # CANCEL comes too late, for a call that is done
            status, output = answer(args[1], fields, input)
            if len(output) > longest:
                status, output = 6, b"it is too long"[:longest]
            send("DONE %d %d" % (id, status), output)


try:
    main()
except Broken as e:
    if e.args[0] not in (b"", "the end"):
        sys.exit("no message: %r" % e.args[0])
