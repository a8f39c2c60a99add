# ferrule: name=soak_nobody version=1.0.100000 services=configure
# ferrule: fn=work import=points
# ferrule: fn=asks
# ferrule: fn=harm
# ferrule: hook=each
# ferrule: hook=chain
import os

from ferrule import FAILED, Failure, host, settings

NAME, VERSION = "soak_nobody", "1.0.100000"


def number():
    return (settings.json or {}).get("n", 0)


def digest(text):
    """FNV-1a of a text in ASCII."""
    h = 2166136261
    for b in text.encode():
        h = (h ^ b) * 16777619 & 0xFFFFFFFF
    return h


def work(text):
    return f"{VERSION} {number()} {digest(text) ^ number():08x}"


def each(text):
    return work(text)


def chain(text):
    return f"{text};{NAME} {VERSION} {number()}"


def asks(text):
    return host.points(text)


def harm(text):
    if text == "crash":
        os._exit(3)
    while text == "loop":
        pass
    raise Failure(FAILED, "as it was told")


def configure():
    pass
