// ferrule: name=work version=1.0.0
// ferrule: fn=echo fn=count_vowels fn=checkout in=json out=json import=loyalty_points
import { host } from "ferrule";

export function echo(text) {
	return text;
}

export function count_vowels(text) {
	let n = 0;
	for (let i = 0; i < text.length; i++) if ("aeiouAEIOU".includes(text[i])) n++;
	return String(n);
}

export function checkout(cart) {
	const points = Number(host.loyalty_points(cart.customer));
	if (points === 0 && cart.total_cents > 10000) return { cents: Math.floor(cart.total_cents / 5), reason: "20 % for a new customer" };
	return { cents: 0, reason: "no" };
}
