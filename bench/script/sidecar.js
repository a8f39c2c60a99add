// work.js as a sidecar for node, without a library. Its module is read as a text, since node has no module ferrule.
const fs = require("node:fs");
const path = require("node:path");

let have = Buffer.alloc(0);

function more() {
	const piece = Buffer.allocUnsafe(1 << 17);
	const n = fs.readSync(0, piece);
	if (n === 0) process.exit();
	have = have.length ? Buffer.concat([have, piece.subarray(0, n)]) : piece.subarray(0, n);
}

function send(head, text) {
	const body = Buffer.from(text);
	const all = Buffer.concat([Buffer.from(`${head}\nContent-Length: ${body.length}\n\n`), body]);
	for (let at = 0; at < all.length; ) at += fs.writeSync(1, all, at);
}

function receive(verb) {
	for (;;) {
		let end;
		while ((end = have.indexOf("\n\n")) < 0) more();
		const head = have.toString("latin1", 0, end);
		const length = Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0);
		while (have.length < end + 2 + length) more();
		const body = have.toString("utf8", end + 2, end + 2 + length);
		have = have.subarray(end + 2 + length);
		const [found, ...args] = head.split("\n", 1)[0].split(" ");
		if (found === verb) return [...args, body];
		if (found === "BYE") process.exit();
	}
}

const host = {
	loyalty_points(customer) {
		send("CALL 1 loyalty_points", customer);
		return receive("DONE").at(-1);
	},
};
const text = fs.readFileSync(path.join(__dirname, "work.js"), "utf8").replace(/^import .*$/m, "").replaceAll("export function", "function");
const work = new Function("host", `${text}\nreturn { echo, count_vowels, checkout };`)(host);
const functions = { echo: work.echo, count_vowels: work.count_vowels, checkout: (body) => JSON.stringify(work.checkout(JSON.parse(body))) };

send("HELLO 1", '{"name": "work", "version": "1.0.0", "functions": {"echo": {}, "count_vowels": {}, "checkout": {}}, "imports": {"loyalty_points": {}}}');
for (;;) {
	const [id, name, body] = receive("CALL");
	send(`DONE ${id} 0`, functions[name](body));
}
