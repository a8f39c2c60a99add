// ferrule: name=soak_nobody version=1.0.100000 services=configure
// ferrule: fn=work import=points
// ferrule: fn=asks
// ferrule: fn=harm
// ferrule: hook=each
// ferrule: hook=chain
import { Failure, host, settings } from "ferrule";

const name = "soak_nobody", version = "1.0.100000";
const number = () => settings.json?.n ?? 0;

// FNV-1a of a text in ASCII.
function hash(text) {
	let h = 2166136261;
	for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 16777619);
	return h;
}

export const work = (text) => `${version} ${number()} ${((hash(text) ^ number()) >>> 0).toString(16).padStart(8, "0")}`;
export const each = work;
export const chain = (text) => `${text};${name} ${version} ${number()}`;
export const asks = (text) => host.points(text);
export function harm(text) {
	while (text === "loop");
	throw new Failure("FAILED", "as it was told");
}
export function configure() {}
