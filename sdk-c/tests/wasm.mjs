// A host for a plug-in in WebAssembly, of the smallest kind: `node wasm.mjs exports FILE` lists what the module exports,
// `node wasm.mjs readme|noexceptions FILE LAYOUT` runs it. A pointer of the contract is an offset into the module's
// memory, a function pointer an index of its table, an exported variable a global with the variable's address.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const [what, file, golden] = process.argv.slice(2);
const module = new WebAssembly.Module(readFileSync(file));
if (what === "exports") {
    for (const e of WebAssembly.Module.exports(module)) console.log(e.name);
    process.exit();
}

// The layout for 32 bits: sizes of structs, offsets of members.
const layout = {};
for (const line of readFileSync(golden, "utf8").split("\n")) {
    const [kind, struct, a, b, , c] = line.split(/\s+/);
    if (kind === "struct") (layout[struct] ??= {}).sizeof = Number(b);
    if (kind === "field") (layout[struct] ??= {})[a] = Number(c);
}
const { ferrule_call: frame, ferrule_host: table, ferrule_request: request } = layout;

// Memory of the host's in the module.
let exports;
const bytes = () => new Uint8Array(exports.memory.buffer);
const word = (at) => new DataView(exports.memory.buffer).getUint32(at, true);
const setWord = (at, value) => new DataView(exports.memory.buffer).setUint32(at, value, true);
const text = (at, len) => new TextDecoder().decode(bytes().slice(at, at + len));
const take = (size) => {
    const at = exports.ferrule_alloc(Math.max(size, 1));
    assert.ok(at > 0 && at % 8 === 0, `memory at ${at}`);
    return at;
};
const put = (value) => {
    const encoded = new TextEncoder().encode(value), at = take(encoded.length);
    bytes().set(encoded, at);
    return at;
};

// The host of version 1.1: the stream is an array of pieces, the host function echoes.
const UNSUPPORTED = 3;
let stream = [], written = "", logged = "";
const services = {
    call: (call, r) => {
        assert.equal(word(r + request.ordinal), 0);
        const len = word(r + request.in_len);
        assert.ok(len <= word(r + request.out_cap));
        bytes().copyWithin(word(r + request.out), word(r + request.in), word(r + request.in) + len);
        setWord(r + request.out_len, len);
        return 0;
    },
    log: (call, level, line, len) => ((logged = text(line, len)), 0),
    log_fields: (call, level, line, len, fields, fields_len) => {
        logged = `${text(line, len)}|${text(fields, fields_len)}`;
        return 0;
    },
    info: (call, r) => (setWord(r + request.out_len, 0), UNSUPPORTED),
    next: (call, r) => UNSUPPORTED,
    background: (call) => 0,
    room: (call, n) => {
        setWord(call + frame.out, take(n));
        setWord(call + frame.out_cap, n);
        return 0;
    },
    read: (call, piece, len) => {
        const next = stream.shift() ?? "";
        setWord(piece, put(next));
        setWord(len, next.length);
        return 0;
    },
    write: (call, piece, len) => ((written += text(piece, len)), 0),
};
// WASI is there for the C library, which a plug-in of these does not have do anything.
const imports = { ferrule: services };
for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    if (from !== "ferrule") (imports[from] ??= {})[name] = () => 8; // EBADF: a folder that is not there ends the list of them
}
({ exports } = new WebAssembly.Instance(module, imports));
exports._initialize?.();
const host = exports.ferrule_services.value;
assert.equal(word(host + table.size), table.sizeof);
assert.deepEqual(Object.keys(table).filter((name) => !(name in services)).sort(), ["size", "sizeof"], "services left out");

const run = (symbol, input, room = 64, state = 0) => {
    const call = take(frame.sizeof);
    bytes().fill(0, call, call + frame.sizeof);
    const set = { size: frame.sizeof, state, in: put(input), in_len: input.length, out: take(room), out_cap: room, host };
    for (const [name, value] of Object.entries(set)) setWord(call + frame[name], value);
    const status = exports[symbol](call);
    const out = text(word(call + frame.out), word(call + frame.out_len)), release = word(call + frame.release);
    if (release) exports.__indirect_function_table.get(release)(call);
    return { status, out, state: word(call + frame.state) };
};
const gives = (symbol, input, status, out, room, state) => {
    const { state: left, ...found } = run(symbol, input, room, state);
    assert.deepEqual(found, { status, out }, symbol);
};

// The manifest is in the file: before anything ran its text stands at the address that its global has.
const manifest = text(exports.ferrule_manifest.value, 256);
assert.ok(manifest.startsWith("ferrule=1\0name="), manifest);
for (const slot of ["ferrule_import_echo", "ferrule_want_cache"]) {
    assert.equal(word(exports[slot].value), 0xffffffff, `${slot} before it is set`);
}
setWord(exports.ferrule_import_echo.value, 0);

if (what === "readme") {
    gives("ferrule_fn_count_vowels", "An Apple", 0, "3");
    gives("ferrule_fn_echo", "x".repeat(300), 0, "x".repeat(300)); // in a room of its own
    gives("ferrule_fn_tail", "abc", 0, "abc"); // in the plug-in's memory
    gives("ferrule_fn_half", "abc", 2, "expected pairs, found 3 bytes");
    gives("ferrule_fn_ask", "hello", 0, "hello");
    gives("ferrule_fn_look_up", "key", 0, "computed"); // the want's slot says that the host is older
    gives("ferrule_hook_before_print", "", 9, "");
    stream = ["one ", "two ", "three"];
    gives("ferrule_fn_pass_on", "", 0, "13");
    assert.equal(written, "one two three");
    gives("ferrule_fn_sum", "ab", 0, "195");
    assert.equal(logged, "summed|bytes=2\0sum=195\0");
    gives("ferrule_fn_where", "", UNSUPPORTED, "the host does not say");
    const { state } = run("ferrule_start", "");
    gives("ferrule_fn_count", "", 0, "1", 64, state);
    gives("ferrule_fn_count", "", 0, "2", 64, state);
    gives("ferrule_stop", "", 0, "", 64, state);
} else {
    const { state } = run("ferrule_start", "");
    const answers = (symbol, input, status, out) => gives(symbol, input, status, out, 64, state);
    answers("ferrule_fn_next", "", 0, "1");
    answers("ferrule_fn_ask", "", 9, "");
    answers("ferrule_fn_ask", "hello", 0, "hello");
    assert.equal(logged, "asking|bytes=5\0");
    answers("ferrule_fn_ask", "x".repeat(100), 2, "expected a short text");
    stream = ["one\nt", "wo\n", "three"];
    answers("ferrule_fn_lines", "", 0, "3");
    answers("ferrule_fn_next", "", 0, "2");
    answers("ferrule_stop", "", 0, "");
}
console.log(`ok: ${what}, run by node`);
