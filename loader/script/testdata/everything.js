// ferrule: name=everything version=1.2.0 description="One of each" state=s1 services=configure,save,resume,stop
// ferrule: fn=upper fn=echo in=bytes fn=sum in=json out=json doc="Adds"
// ferrule: fn=twice fn=fails fn=throws fn=deep fn=spin fn=never fn=loses fn=graph out=json fn=logs fn=passes fn=grows fn=counts fn=knows fn=about out=json
// ferrule: fn=pieces stream=both
// ferrule: import=double want=absent
import { host, log, info, Failure, pass, settings, input, output, progress, remaining } from "ferrule";
import { tier } from "./parts/tier.mjs";
import table from "./parts/table.json";

let count = 0;
export const upper = (text) => text.toUpperCase();
export const echo = (bytes) => bytes;
export const sum = ({ a, b }) => ({ sum: a + b });
export async function twice(text) {
	const once = await host.double(text);
	await null;
	return await host.double(once);
}
export function fails() {
	throw new Failure(1234, "as it is");
}
export function throws() {
	return missing.name;
}
export function deep() {
	return deep() + 1;
}
export function spin() {
	for (;;);
}
export const never = () => new Promise(() => {});
export function loses() {
	Promise.reject(new Error("nobody waits"));
	return "done";
}
export const graph = (x) => ({ tier: tier(Number(x)), table });
export function logs() {
	log.warn("a line", { key: "value", n: 1 });
	console.log("text", { a: 1 }, [2], undefined, null);
	console.error(new TypeError("shown"));
}
export const passes = () => pass;
export function grows() {
	const all = [];
	for (;;) all.push(new Uint8Array(1 << 20));
}
export const counts = () => String(++count);
export const knows = (key) => info(key) ?? "nothing";
export const about = () => ({ settings: settings.json, remaining: remaining() });
export function pieces() {
	for (const piece of input) output.write(piece.map((b) => b ^ 1));
	progress(1, 1);
	return "end";
}
export function configure() {
	if (settings.json?.bad) throw new Failure("INVALID", "bad settings");
}
export const save = () => String(count);
export const resume = (state) => {
	count = Number(new TextDecoder().decode(state));
};
export function stop() {
	log.info("stopped");
}
