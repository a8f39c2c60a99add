# ferrule: name=which version=1.0.0 fn=which
import sys


def which():
    return sys.executable
