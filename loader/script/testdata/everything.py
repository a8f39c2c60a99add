# ferrule: name=everything version=1.2.0 description="One of each" state=s1 services=configure,save,resume,stop
# ferrule: fn=upper fn=echo in=bytes fn=sum in=json out=json doc="Adds"
# ferrule: fn=twice fn=fails fn=throws fn=deep fn=spin fn=never fn=graph out=json fn=logs fn=passes fn=grows fn=counts fn=knows fn=about out=json fn=exits
# ferrule: fn=pieces stream=both
# ferrule: import=double want=absent
import asyncio
import dataclasses
import json
import sys

import ferrule
from ferrule import Failure, host, info, input, log, output, progress, remaining, settings

from parts import tier

count = 0


@dataclasses.dataclass
class Pair:
    a: int
    b: int = 0


@dataclasses.dataclass
class Sum:
    sum: int


def upper(text: str) -> str:
    return text.upper()


def echo(data):
    return data


def sum(pair: Pair):
    return Sum(pair.a + pair.b)


async def twice(text):
    once = host.double(text)
    await asyncio.sleep(0)
    return host.double(once)


def fails(_):
    raise Failure(1234, "as it is")


def throws(_):
    return missing.name


def deep(_):
    return deep(None) + 1


def spin(_):
    while True:
        pass


def never(_):
    raise ferrule.Cancelled


def graph(x):
    with open(__file__.replace("everything.py", "parts/table.json")) as f:
        return {"tier": tier.tier(int(x)), "table": json.load(f)}


def logs():
    log.warn("a line", key="value", n=1)
    print("text", [2], None)
    print("shown", file=sys.stderr)


def passes():
    return ferrule.PASSED


def grows():
    raise MemoryError


def counts():
    global count
    count += 1
    return str(count)


def knows(key):
    return info(key) or "nothing"


def about():
    return {"settings": settings.json, "remaining": remaining() if remaining() < 1e9 else None}


def exits():
    sys.exit(3)


def pieces():
    for piece in input:
        output.write(bytes(b ^ 1 for b in piece))
    progress(1, 1)
    return "end"


def configure():
    if (settings.json or {}).get("bad"):
        raise Failure(ferrule.INVALID, "bad settings")


def save():
    return str(count)


def resume(state):
    global count
    count = int(state)


def stop():
    log.info("stopped")
