# ferrule: name={{.Name}} version=0.1.0
# ferrule: fn=greet doc="Greets whoever the input names."
"""The lines above say what a host calls; each function of theirs is defined below.

Add import=NAME to a function's line for a host function that it needs, and call host.NAME(input)."""

from ferrule import log


def greet(name: str) -> str:
    log.debug("greeting")
    return f"Hello, {name or 'world'}!"
