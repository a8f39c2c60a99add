#!/usr/bin/env python3
"""internal/fixture/c/system.c as a sidecar, from docs/wire.md and with the standard library alone. Tests make other ones of it by changing
the words in capitals: TAG, VERSION, START and HEALTH, by which the start and the health function do what words do, and MORE, which is more of the manifest."""
import json, os, signal, socket, sys, threading, time

TAG, VERSION = "aaaa", "1.0.0"
START = "ok"
HEALTH = "ok"
MORE = {}


class Session:
    def __init__(self, source, sink):
        self.source, self.sink, self.config, self.id = source, sink, b"", 0

    def send(self, head, body=b""):
        self.sink.write(b"%s\nContent-Length: %d\n\n%s" % (head.encode(), len(body), body))
        self.sink.flush()

    def receive(self):
        head = [self.source.readline()]
        while head[-1].strip():
            head.append(self.source.readline())
        fields = dict(line.decode().strip().lower().split(": ", 1) for line in head[1:-1])
        return head[0].decode().split(), fields, self.source.read(int(fields.get("content-length", 0)))

    def ask(self, name, body):
        self.id += 1
        self.send(f"CALL {self.id} {name}", body)
        while True:
            words, _, answer = self.receive()
            if words[:1] == ["DONE"]:
                return int(words[2]), answer
            if words[:1] != ["CANCEL"]:
                raise SystemExit

    def behave(self, word, ok):
        if word == "pa":
            return 9, b""
        if word == "in":
            return 2, b""
        if word == "no":
            return 0, b""
        if word == "fa":
            return 1, b"as it was told"
        if word == "un":
            return 5, b""
        if word == "cr":
            print("crashing as it was told", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL) if hasattr(signal, "SIGKILL") else os._exit(3)
        if word == "ha":
            time.sleep(1000)
        return ok()

    def call(self, name, input):
        word = input.decode().partition(TAG + "=")[2][:2]
        own = lambda: (0, TAG.encode())
        if name in ("told", "asked", "decided", "objected", "answer"):
            return self.behave(word, own)
        if name == "piped":
            return self.behave(word, lambda: (0, input + b"+" + TAG.encode()))
        if name == "wrapped":
            def around():
                status, inner = self.ask("ferrule.next", input)
                return (status, inner) if status else (0, TAG.encode() + b"(" + inner + b")")
            return self.behave(word, around)
        if name == "ferrule.start":
            self.config = input
            return self.behave(START, lambda: (0, b""))
        if name == "ferrule.configure":
            if b"refuse" in input:
                return 2, b"refused"
            self.config = input
            return 0, b""
        if name == "health":
            return self.behave(HEALTH, lambda: (0, b""))
        if name == "version":
            return 0, VERSION.encode()
        if name == "config":
            return 0, self.config
        if name == "environment":
            return 0, os.environ.get(input.decode(), "(none)").encode()
        if name == "argument":
            return 0, " ".join(sys.argv[1:]).encode()
        if name == "process":
            return 0, b"%d" % os.getpid()
        if name == "data":
            return self.ask("ferrule.info", b"data")
        if name == "points":
            return self.ask("points", input)
        return 3, b""

    def run(self):
        hooks = {point: {} for point in ("told", "asked", "decided", "objected", "piped")}
        hooks["wrapped"] = {"wrap": "yes"}
        functions = {name: {} for name in ("health", "version", "answer", "config", "environment", "argument", "process", "data", "points")}
        about = {"name": "plugin_" + TAG, "version": VERSION, "keys": {"health": "health"}, "functions": functions, "hooks": hooks, "wants": {"points": {}},
                 "services": ["start", "configure"]}
        about.update(MORE)
        self.send("HELLO 1", json.dumps(about).encode())
        while True:
            words, fields, body = self.receive()
            if words[:1] == ["CALL"]:
                self.send("DONE %s %d" % ((words[1],) + (answer := self.call(words[2], body))[:1]), answer[1])
            elif words[:1] not in (["HELLO"], ["CANCEL"]):
                return


def listen(address, token=None):
    """A session for each connection, one process each, until the standard input ends; the first line on the standard output says where."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    threading.Thread(target=lambda: (os.read(0, 1), os.killpg(0, signal.SIGKILL))).start()
    os.setpgid(0, 0)
    host, _, port = address.rpartition(":")
    s = socket.create_server((host, int(port))) if host else socket.socket(socket.AF_UNIX)
    if not host:
        s.bind(address)
        s.listen()
    print("%s:%d" % s.getsockname()[:2] if host else address, flush=True)
    while True:
        connection, _ = s.accept()
        if os.fork() == 0:
            s.close()
            f = connection.makefile("rwb")
            session = Session(f, f)
            if token:
                _, fields, _ = session.receive()
                if fields.get("token") != token:
                    os._exit(1)
            session.run()
            os._exit(0)
        connection.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--listen"]:
        listen(*sys.argv[2:])
    else:
        Session(open(0, "rb"), open(1, "wb")).run()
