// The module `ferrule`, which scripts import. It stands on what adapter.c has.
import * as $ from "ferrule:primitives";

const names = globalThis["ferrule:names"];
delete globalThis["ferrule:names"];

const statuses = ["OK", "FAILED", "INVALID", "UNSUPPORTED", "CANCELLED", "PANIC", "NO_MEMORY", "MISUSE", "MORE", "PASS"];

// A failure that a host is told as it is: its status, a number of 1000 or more for one of the plug-in's own, and its message.
export class Failure extends Error {
	constructor(status, message) {
		super(message);
		this.status = typeof status === "string" ? statuses.indexOf(status) : status;
		if (!Number.isInteger(this.status) || this.status < 1 || (this.status > 9 && this.status < 1000) || this.status > 2147483647)
			throw new TypeError(`found the status ${String(status)}, expected one of ${statuses.slice(1).join(", ")}, or a number from 1000 to 2147483647`);
	}
	get name() {
		return "Failure";
	}
	get word() {
		return statuses[this.status] ?? String(this.status);
	}
}

// What a function returns that has nothing to say to its input.
export const pass = Symbol("pass");

function result(what, [status, bytes], as) {
	if (status === 9) return pass;
	if (status !== 0) {
		const said = $.decode(bytes);
		throw new Failure(status, said || `${what}: ${statuses[status] ?? status}`);
	}
	return as(bytes);
}

const toText = (b) => $.decode(b), toBytes = (b) => new Uint8Array(b), toJSON = (b) => (b.byteLength ? JSON.parse($.decode(b)) : undefined);

function three(make) {
	const f = make(toText);
	f.json = make(toJSON);
	f.bytes = make(toBytes);
	return Object.freeze(f);
}

// What is asked for and not there is no function that the header names; but what a language asks of any object is none of that.
const unnamed = new Proxy({}, {
	get(target, name, of) {
		if (typeof name === "symbol" || name in target || name === "toJSON" || name === "then") return Reflect.get(target, name, of);
		throw new TypeError(`found host.${name}, which the script's header does not name: write import=${name} behind the fn= or hook= that calls it, or want=${name} where it does without`);
	},
});

// The host functions that the script's header names: host.name(input) returns a text, host.name.json(input) what JSON has, host.name.bytes(input) a Uint8Array.
export const host = Object.freeze(Object.setPrototypeOf(Object.fromEntries((names ? names.split("\n") : []).map((name, i) => [name, three((as) => (input) => result(name, $.call(i, input), as))])), unnamed));

// In a wrapper: runs what stands behind it.
export const next = three((as) => (input) => result("next", $.next(input), as));

function fieldsOf(fields) {
	let text = "";
	for (const [key, value] of Object.entries(fields ?? {})) text += `${key}=${show(value)}\0`;
	return text;
}

// Lines for the host's logger, with fields: log.info("read the file", { path, lines }).
export const log = Object.freeze(Object.fromEntries(["error", "warn", "info", "debug", "trace"].map((name, i) => [name, (text, fields) => $.log(i + 1, String(text), fieldsOf(fields))])));

// What the host knows of a key, as a text; undefined where it does not.
export const info = (key) => $.info(String(key));

// How many milliseconds the call still has; Infinity where it has no deadline.
export const remaining = () => {
	const text = $.info("remaining");
	return text === undefined ? Infinity : Number(text) / 1e6;
};

export const cancelled = () => $.cancelled();
export const progress = (done, total = 0) => $.progress(done, total);

// The plug-in's settings.
export const settings = Object.freeze({
	get bytes() {
		return toBytes($.settings());
	},
	get text() {
		return $.decode($.settings());
	},
	get json() {
		return toJSON($.settings());
	},
});

// The call's streams: for (const piece of input) …; output.write(piece).
export const input = Object.freeze({
	read() {
		const piece = result("the input stream", $.read(), toBytes);
		return piece.length ? piece : undefined;
	},
	*[Symbol.iterator]() {
		for (let piece = this.read(); piece !== undefined; piece = this.read()) yield piece;
	},
});
export const output = Object.freeze({
	write(piece) {
		result("the output stream", [$.write(piece), new ArrayBuffer(0)], () => undefined);
	},
});

function show(value) {
	if (typeof value === "string") return value;
	if (value instanceof Error) return describe(value);
	if (typeof value === "object" && value !== null) {
		try {
			return JSON.stringify(value) ?? String(value);
		} catch {
			return Object.prototype.toString.call(value);
		}
	}
	return typeof value === "function" ? `[function ${value.name || "without a name"}]` : String(value);
}

// What an error that nobody caught says: its words, where it was thrown, and what it was caused by.
function describe(error, depth = 0) {
	if (error === null) return "found null thrown, which is no Error, or memory was out, and none was left for an Error";
	if (!(error instanceof Error)) return `found ${show(error)} thrown, which is no Error`;
	let text = `${error.name}: ${error.message}`;
	const stack = typeof error.stack === "string" ? error.stack.trimEnd() : "";
	if (stack) text += "\n" + stack;
	if (depth === 8) return text; // what caused it may be caused by it
	if (error instanceof AggregateError) for (const one of error.errors) text += "\n" + describe(one, depth + 1);
	if (error.cause !== undefined) text += "\ncaused by " + describe(error.cause, depth + 1);
	return text;
}

const line = (values) => values.map(show).join(" ");
const counts = new Map();
globalThis.console = Object.freeze({
	error: (...values) => $.log(1, line(values), ""),
	warn: (...values) => $.log(2, line(values), ""),
	log: (...values) => $.log(3, line(values), ""),
	info: (...values) => $.log(3, line(values), ""),
	debug: (...values) => $.log(4, line(values), ""),
	trace: (...values) => $.log(5, `${line(values)}\n${new Error().stack.trimEnd()}`.trim(), ""),
	assert: (holds, ...values) => holds || $.log(1, `assertion failed: ${line(values)}`, ""),
	count: (label = "default") => {
		counts.set(label, (counts.get(label) ?? 0) + 1);
		$.log(3, `${label}: ${counts.get(label)}`, "");
	},
});

globalThis.TextEncoder = class TextEncoder {
	get encoding() {
		return "utf-8";
	}
	encode(text = "") {
		return new Uint8Array($.encode(String(text)));
	}
};
globalThis.TextDecoder = class TextDecoder {
	constructor(label = "utf-8") {
		if (!/^utf-?8$/i.test(label)) throw new RangeError(`found the encoding ${label}, expected utf-8`);
	}
	get encoding() {
		return "utf-8";
	}
	decode(bytes = new Uint8Array()) {
		return $.decode(bytes);
	}
};

$.keep(Failure, pass, describe);
