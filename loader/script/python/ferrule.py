"""The module `ferrule`, which scripts import. It stands on what adapter.c has."""

import dataclasses as _dataclasses
import inspect as _inspect
import json as _json
import os as _os
import sys as _sys
import _thread
import traceback as _traceback
import types as _types
import typing as _typing

import _ferrule

OK, FAILED, INVALID, UNSUPPORTED, CANCELLED, PANIC, NO_MEMORY, MISUSE, MORE, PASS = range(10)
_words = "OK FAILED INVALID UNSUPPORTED CANCELLED PANIC NO_MEMORY MISUSE MORE PASS".split()


class Failure(Exception):
    """A failure that a host is told as it is: its status, 1000 or more for one of the plug-in's own, and its message."""

    def __init__(self, status, message=""):
        super().__init__(message)
        if isinstance(status, bool) or not isinstance(status, int) or status < 1 or 10 <= status < 1000 or status >= 1 << 31:
            raise TypeError(f"found the status {status!r}, expected one of 1 to 9, or 1000 to 2147483647")
        self.status = status
        self.message = message


class Cancelled(BaseException):
    """Comes up in a function whose result nobody wants any more."""


class _Pass:
    def __repr__(self):
        return "ferrule.PASSED"


# What a function returns that has nothing to say to its input.
PASSED = _Pass()


def _to_bytes(value):
    if value is None:
        return b""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    return _dumps(value).encode()


def _plain(value):
    if _dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in _dataclasses.fields(value)}
    if hasattr(value, "tolist"):  # numpy's
        return value.tolist()
    raise TypeError(f"found a {type(value).__name__}, expected bytes, str, what JSON has, or a dataclass of these")


_dumps = _json.JSONEncoder(default=_plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_loads = _json.JSONDecoder().decode


def _fields(kind):
    """The types of a dataclass's fields, and the names of those that can be given. The class keeps them: to find them takes longer than a call."""
    known = kind.__dict__.get("__ferrule_fields__")
    if known is None:
        known = _typing.get_type_hints(kind), {f.name for f in _dataclasses.fields(kind) if f.init}
        kind.__ferrule_fields__ = known
    return known


def _made(kind, value):
    """Makes a dataclass of what JSON has, also within lists, dicts and optional fields."""
    origin, args = _typing.get_origin(kind), _typing.get_args(kind)
    if _dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise TypeError(f"found {value!r:.100}, expected an object for {kind.__name__}")
        hints, known = _fields(kind)
        unknown = [name for name in value if name not in known]
        if unknown:
            raise TypeError(f"found {', '.join(unknown)}, expected for {kind.__name__}: {', '.join(sorted(known))}")
        return kind(**{name: _made(hints[name], v) for name, v in value.items()})
    if origin is tuple and isinstance(value, list) and args and args[-1] is not Ellipsis:
        if len(value) != len(args):
            raise TypeError(f"found {len(value)} items, expected {len(args)}")
        return tuple(_made(a, v) for a, v in zip(args, value))
    if origin in (list, tuple, set, frozenset) and isinstance(value, list) and args:
        return origin(_made(args[0], v) for v in value)
    if origin is dict and isinstance(value, dict) and len(args) == 2:
        return {k: _made(args[1], v) for k, v in value.items()}
    if origin is not None and type(None) in args and value is not None:
        rest = [a for a in args if a is not type(None)]
        return _made(rest[0], value) if len(rest) == 1 else value
    return value


def _failed(name, status, out):
    raise Failure(status, out.decode(errors="replace") or f"{name}: {_words[status] if status < len(_words) else status}")


# In a wrapper: runs what stands behind it.
next = _ferrule.Call(-1, "next")


class _Hosts:
    """The host functions that a script's header names: host.name(input)."""

    def __init__(self, names):
        for i, name in enumerate(names):
            setattr(self, name, _ferrule.Call(i, name))

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"found host.{name}, which the script's header does not name: write import={name} behind the fn= or hook= that calls it, or want={name} where it does without")


def info(key):
    """What the host knows of a key, as a str; None where it does not."""
    return _ferrule.info(key)


def remaining():
    """How many seconds the call still has; infinity where it has no deadline."""
    text = _ferrule.info("remaining")
    return float("inf") if text is None else int(text) / 1e9


def cancelled():
    return _ferrule.cancelled()


def progress(done, total=0):
    _ferrule.progress(max(0, int(done)), max(0, int(total)))


def _log(level):
    def log(text, **fields):
        _ferrule.log(level, str(text), "".join(f"{k}={v}\0" for k, v in fields.items()))

    return log


class log:
    """Lines for the host's logger, with fields: log.info("read the file", path=path)."""

    error, warn, info, debug, trace = (staticmethod(_log(level)) for level in range(1, 6))


class _Input:
    """The call's input stream: for piece in ferrule.input."""

    def read(self):
        status, piece = _ferrule.read()
        if status != OK:
            raise Failure(status, "the input stream: " + _words[min(status, PASS)])
        return piece

    def __iter__(self):
        while piece := self.read():
            yield piece


input = _Input()


class output:
    """The call's output stream."""

    @staticmethod
    def write(piece):
        status = _ferrule.write(_to_bytes(piece))
        if status != OK:
            raise Failure(status, "the output stream: " + _words[min(status, PASS)])


class _Lines(_thread._local):
    """What a script prints is lines of the host's logger: each thread has a line of its own."""

    encoding, errors = "utf-8", "replace"

    def __init__(self, level):
        self.level, self.rest = level, ""

    def write(self, text):
        _ferrule.printed()
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            _ferrule.log(self.level, line, "")
        return len(text)

    def flush(self):
        if self.rest:
            self.rest, line = "", self.rest
            _ferrule.log(self.level, line, "")

    def writable(self):
        return True

    def isatty(self):
        return False


class _Settings:
    """The plug-in's settings: .bytes, .text, .json."""

    def __init__(self, data):
        self.bytes = data

    @property
    def text(self):
        return self.bytes.decode()

    @property
    def json(self):
        return _json.loads(self.bytes) if self.bytes else None


# From 3.14 on, annotations are evaluated when they are asked for: one whose name is not known then is to be no error.
_as_written = {}
if _sys.version_info >= (3, 14):
    import annotationlib as _annotationlib

    _as_written["annotation_format"] = _annotationlib.Format.FORWARDREF


def _annotated(fn, parameter):
    """The type that a parameter is annotated with; None where there is none, or its name is not known while the script runs."""
    kind = parameter.annotation
    if kind is parameter.empty:
        return None
    try:
        of = _inspect.unwrap(fn)
        return _typing.get_type_hints(_types.SimpleNamespace(__annotations__={"x": kind}), getattr(of, "__globals__", None))["x"]
    except Exception:
        return None


# How many instances have which folder in sys.path.
_folders = {}


class _Script:
    """An instance of a script."""

    @staticmethod
    def _begin(path, source, functions, names, settings, holder):
        """What starts an instance, and puts it into holder."""

        def begin():
            script = _Script()
            _ferrule.starting(script)
            script._run(path, source, functions, names, settings)
            holder.append(script)

        return begin

    def _run(self, path, source, functions, names, settings):
        self.path = path
        self.host = _Hosts(names)
        self.settings = _Settings(settings)
        self.services = set()
        folder = self.folder = path.rpartition("/")[0]
        _folders[folder] = _folders.get(folder, 0) + 1
        if folder not in _sys.path:
            _sys.path.insert(0, folder)
        self.module = type(_sys)(f"ferrule_script_{id(self)}")
        self.module.__file__ = path
        _sys.modules[self.module.__name__] = self.module  # where dataclasses, pickle and the like look
        try:
            exec(compile(source, path, "exec", dont_inherit=True), self.module.__dict__)
            self.calls, self.entries = [], ()
            for line in functions:
                if line[0] == "s":
                    self._named(line[1:])
                    self.services.add(line[1:])
                    continue
                call, entry = self._entry(line[0], line[1:])
                self.calls.append(call)
                self.entries += (entry,)
        except BaseException:
            self._gone()
            raise

    def _gone(self):
        """Takes away what finds the instance's module, and its folder where no other instance has it."""
        _sys.modules.pop(self.module.__name__, None)
        _folders[self.folder] -= 1
        if not _folders[self.folder]:
            del _folders[self.folder]
            beneath = self.folder.rstrip("/") + "/"
            for name, module in list(_sys.modules.items()):  # what changes until the next script is opened is read again; what is C cannot be
                file = getattr(module, "__file__", None)
                if isinstance(file, str) and file.startswith(beneath) and file.endswith(".py"):
                    _sys.modules.pop(name, None)
            if self.folder in _sys.path:
                _sys.path.remove(self.folder)
            _sys.path_importer_cache.pop(self.folder, None)

    def _named(self, name):
        """A function that the header names."""
        fn = getattr(self.module, name, None)
        if not callable(fn):
            raise Failure(FAILED, f"{self.path}: its header names {name}, expected that it has such a function")
        return fn

    def _entry(self, kind, name):
        fn = self._named(name)
        try:
            parameters = list(_inspect.signature(fn, **_as_written).parameters.values())
        except (TypeError, ValueError):  # one of C
            parameters = [None]
        kind_of = _annotated(fn, parameters[0]) if parameters and parameters[0] is not None else None
        if not parameters:
            take = None
        elif kind == "b" or kind_of is bytes:
            take = bytes
        elif kind == "j":
            take = (lambda data: _made(kind_of, _json.loads(data))) if kind_of is not None else _json.loads
        else:
            take = bytes.decode

        def call(data):
            if take is None:
                return fn()
            try:
                value = take(data)
            except (ValueError, TypeError) as error:
                raise Failure(INVALID, f"{type(error).__name__}: {error}") from None
            return fn(value)

        if take is None:
            quick = "n"
        elif take is bytes:
            quick = "b"
        elif take is bytes.decode:
            quick = "t"
        else:
            quick = "j" if take is _json.loads else "m"
        return call, (quick, fn, take)

    def _service(self, name, data):
        """What runs one of the functions that a host calls beside the header's."""

        def service():
            if name not in self.services:
                if name == "stop":
                    self._gone()
                raise Failure(UNSUPPORTED, f"{self.path} has no function {name}")
            fn = getattr(self.module, name)
            if name == "stop":
                try:
                    return fn()
                finally:
                    self._gone()
            if name == "resume":
                return fn(data)
            if name != "configure":
                return fn()
            before, self.settings.bytes = self.settings.bytes, data
            try:
                return fn()
            except BaseException:
                self.settings.bytes = before
                raise

        return service


def __getattr__(name):  # host and settings are an instance's own
    script = _ferrule.script()
    if script is not None and name in ("host", "settings"):
        return getattr(script, name)
    if name in ("host", "settings"):
        raise AttributeError(f"found {name} of the module ferrule asked for in a thread of the script's own, expected in the one that the host has called")
    raise AttributeError(f"module ferrule has no {name}")


def _describe(error):
    """What an exception that nobody caught says: its words, where it was raised, and what it was caused by."""
    if isinstance(error, SyntaxError):
        return "".join(_traceback.format_exception_only(error)).strip()
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename == "<ferrule>":
        tb = tb.tb_next
    error.__traceback__ = tb
    try:
        words = str(error)
    except Exception as second:
        words = f"it has no text: {type(second).__name__}"
    return f"{type(error).__name__}: {words}\n" + "".join(_traceback.format_exception(error)).strip()


class _End:
    """An end of a pipe, with what asyncio asks of a socket."""

    def __init__(self, fd):
        _os.set_blocking(fd, False)
        self.fileno = lambda: fd
        self.recv = lambda n: _os.read(fd, n)
        self.send = lambda data: _os.write(fd, data)
        self.close = lambda: _os.close(fd)


def _new_loop():
    """An event loop, also where a sandbox lets nobody make sockets, with which it wakes itself up otherwise."""
    import asyncio
    import socket

    try:
        for end in socket.socketpair():
            end.close()
        return asyncio.new_event_loop()
    except PermissionError:
        pass

    class Loop(asyncio.SelectorEventLoop):
        def _make_self_pipe(self):
            self._ssock, self._csock = map(_End, _os.pipe())
            self._internal_fds += 1
            self._add_reader(self._ssock.fileno(), self._read_from_self)

    return Loop()


async def _caught(coroutine):
    """(value, error) of a coroutine. What is raised through asyncio's own frames is kept by their tasks, and keeps these: see _outcome."""
    try:
        return await coroutine, None
    except BaseException as error:
        return None, error


def _run(coroutine):
    """What a coroutine comes to. The host may have called from within another one of this thread."""
    import asyncio

    outer = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        if not hasattr(asyncio, "Runner"):  # before 3.11
            value, error = asyncio.run(_caught(coroutine))
        else:
            with asyncio.Runner(loop_factory=_new_loop) as runner:
                value, error = runner.run(_caught(coroutine))
    finally:
        asyncio._set_running_loop(outer)
    if error is None:
        return value
    try:
        raise error
    finally:
        del error


def _flush():
    """Shows the line that was begun, also where the script has put something else in the place of what shows it."""
    for stream in (_sys.stdout, _sys.stderr, _out, _err):
        try:
            stream.flush()
        except Exception:
            pass


def _raises(error):
    try:
        raise error
    finally:
        del error  # see _outcome


def _returns(value):
    return value


def _outcome(run, *args):
    """(status, bytes) of what run does."""
    try:
        value = run(*args)
        if _inspect.iscoroutine(value):
            value = _run(value)
        if value is PASSED:
            return PASS, b""
        return OK, _to_bytes(value)
    except Failure as failure:
        status = failure.status
        known = isinstance(status, int) and (FAILED <= status <= NO_MEMORY or 1000 <= status < 1 << 31)  # the others are the contract's own
        return int(status) if known else FAILED, str(failure.message).encode(errors="replace")
    except Cancelled:
        return CANCELLED, b""
    except MemoryError:
        return NO_MEMORY, b"MemoryError"
    except BaseException as error:  # SystemExit and KeyboardInterrupt, too: nothing ends the process
        return FAILED, _describe(error).encode(errors="replace")
    finally:
        # The traceback of what was raised has this frame: an exception that the frame has would keep itself, and all that its own
        # frames have, until the garbage collector comes.
        args = value = None
        _flush()


_sys.stdout, _sys.stderr = _out, _err = _Lines(3), _Lines(2)
