"""work.py as a sidecar, without a library: the module ferrule that it imports is made here."""
import json
import sys
import types

source, sink = open(0, "rb"), open(1, "wb")


def send(head, body):
    sink.write(b"%s\nContent-Length: %d\n\n%s" % (head, len(body), body))
    sink.flush()


def receive(verb):
    while line := source.readline():
        found, *args = line.split()
        length = 0
        while (field := source.readline()) != b"\n":
            if field.startswith(b"Content-Length:"):
                length = int(field[15:])
        body = source.read(length)
        if found == verb:
            return *args, body
        if found == b"BYE":
            break
    raise SystemExit


def loyalty_points(customer):
    send(b"CALL 1 loyalty_points", customer.encode())
    return receive(b"DONE")[-1].decode()


sys.modules["ferrule"] = types.SimpleNamespace(host=types.SimpleNamespace(loyalty_points=loyalty_points))
sys.dont_write_bytecode = True
import work  # noqa: E402

functions = {
    b"echo": lambda body: work.echo(body.decode()).encode(),
    b"count_vowels": lambda body: work.count_vowels(body.decode()).encode(),
    b"checkout": lambda body: json.dumps(work.checkout(json.loads(body)), separators=(",", ":")).encode(),
}
send(b"HELLO 1", b'{"name": "work", "version": "1.0.0", "functions": {"echo": {}, "count_vowels": {}, "checkout": {}}, "imports": {"loyalty_points": {}}}')
while True:
    id, name, body = receive(b"CALL")
    send(b"DONE %s 0" % id, functions[name](body))
