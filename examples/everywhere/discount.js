// ferrule: name=discount version=1.0.0 description="The discount in JavaScript. What it decides is in the README."
// ferrule: fn=before_checkout in=json out=json import=loyalty_points
import { Failure, host } from "ferrule";

const isText = (value) => typeof value === "string";
const isNumber = (value) => Number.isSafeInteger(value) && value >= 0;

function expect(holds, what) {
	if (!holds) throw new Failure("INVALID", `expected ${what}`);
}

// So much of an amount, to the nearest cent, half of one up. Amounts are of BigInt, which loses nothing.
const percent = (amount, percent) => (amount * percent + 50n) / 100n;
const least = (a, b) => (a < b ? a : b);

export function before_checkout(cart) {
	const { customer, coupon, items } = cart ?? {};
	expect(isText(customer) && isText(coupon ?? "") && Array.isArray(items), "a cart");
	expect(!coupon || coupon === "FIVE", "the coupon FIVE");
	let remains = 0n, books = 0n, best = null, most = 0n;
	for (const item of items) {
		const { name, category, cents, quantity } = item ?? {};
		expect(isText(name) && isText(category) && isNumber(cents) && isNumber(quantity), "an item");
		const cost = BigInt(cents) * BigInt(quantity);
		remains += cost;
		if (category !== "books") continue;
		const off = percent(cost, 10n);
		books += off;
		if (off > most) [most, best] = [off, name];
	}
	expect(remains <= Number.MAX_SAFE_INTEGER, "a cart that costs less");
	const points = customer ? BigInt(host.loyalty_points(customer)) : 0n;

	remains -= books;
	const volume = percent(remains, remains >= 50_000n ? 10n : remains >= 10_000n ? 5n : 0n);
	remains -= volume;
	const reduced = coupon ? least(500n, remains) : 0n;
	remains -= reduced;
	const spent = least(points, remains / 2n);
	return { cents: Number(books + volume + reduced + spent), points: Number(spent), best };
}
