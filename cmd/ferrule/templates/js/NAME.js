// ferrule: name={{.Name}} version=0.1.0
// ferrule: fn=greet doc="Greets whoever the input names."

// The lines above say what a host calls; each function of theirs is exported below. Add import=NAME to a function's line for a host function that it needs, and call host.NAME(input).
import { log } from "ferrule";

export function greet(name) {
	log.debug("greeting");
	return `Hello, ${name || "world"}!`;
}
