// The table of stats.json, made anew each second. Texts of plug-ins are put in as text, never as HTML.
"use strict";

const every = 1000; // ms from an answer to the next question
const patience = 5000; // ms for an answer

// threeDigits is a number with three digits that count.
function threeDigits(x) {
	return x >= 100 ? String(Math.round(x)) : String(Number(x.toPrecision(3)));
}

// count is a number of things; a large one in millions and more.
function count(n) {
	for (const [unit, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"]]) {
		if (n >= 10 * unit) return threeDigits(n / unit) + " " + name;
	}
	return n < 1000 ? threeDigits(n) : String(Math.round(n));
}

function duration(ns) {
	for (const [unit, name] of [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]]) {
		if (ns >= 0.9995 * unit) return threeDigits(ns / unit) + " " + name;
	}
	return threeDigits(ns) + " ns";
}

function amount(bytes) {
	let unit = -1;
	for (; bytes >= 1024 && unit < 3; unit++) bytes /= 1024;
	return unit < 0 ? bytes + " B" : (Math.round(bytes * 10) / 10) + " " + "KMGT"[unit] + "iB";
}

const states = ["failed", "suspended", "draining", "started", "ready", "disabled", "discovered", "gone"]; // what is wrong first

// Each column: its title, the value to sort by (undefined is not known, and comes last), and how it shows. Numbers begin with the largest.
const columns = [
	{title: "Name", words: true, value: p => p.name},
	{title: "Version", words: true, value: p => p.version},
	{title: "State", words: true, value: p => states.indexOf(p.state), show: (_, p) => p.state},
	{title: "Runs", words: true, value: p => p.group || p.runs},
	{title: "Calls/s", value: p => p.rate, show: count},
	{title: "Calls", value: p => p.calls?.calls, show: count},
	{title: "Errors", value: p => p.calls?.failed, show: count},
	{title: "Crashed", value: p => p.calls?.crashed, show: count},
	{title: "Late", value: p => p.calls?.late, show: count},
	{title: "Mean", value: p => p.calls?.timed ? p.calls.time_ns / p.calls.timed : undefined, show: duration},
	{title: "Longest", value: p => p.calls?.timed ? p.calls.longest_ns : undefined, show: duration},
	{title: "Restarts", value: p => p.restarts, show: count},
	{title: "Memory", value: p => p.memory || undefined, show: amount},
];

const $ = id => document.getElementById(id);
let by = 0, turned = false, seen = null;

function element(name, text, attributes = {}) {
	const e = document.createElement(name);
	if (text !== undefined) e.textContent = text;
	for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
	return e;
}

// rates notes how many calls each plug-in had in a second since the picture before.
function rates(before, now) {
	if (!before || before.pid !== now.pid || before.app !== now.app) return;
	const took = (Date.parse(now.time) - Date.parse(before.time)) / 1000;
	const was = new Map(before.plugins.map(p => [p.name, p.calls?.calls]));
	for (const p of now.plugins) {
		const calls = p.calls?.calls - was.get(p.name);
		if (took > 0 && calls >= 0) p.rate = calls / took;
	}
}

function compare(a, b) {
	const c = columns[by], x = c.value(a), y = c.value(b);
	let order = 0;
	if (x === undefined || y === undefined) order = (x === undefined) - (y === undefined);
	else {
		order = x < y ? -1 : x > y ? 1 : 0;
		if (!c.words !== turned) order = -order;
	}
	return order || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
}

function sortBy(i) {
	turned = i === by && !turned;
	by = i;
	draw();
}

function draw() {
	$("sort").value = by;
	[...$("titles").children].forEach((th, i) => {
		if (i !== by) th.removeAttribute("aria-sort");
		else th.setAttribute("aria-sort", !columns[i].words !== turned ? "descending" : "ascending");
	});
	if (!seen) return;
	document.title = seen.app + ": plug-ins";
	$("title").textContent = "Plug-ins of " + seen.app + " " + seen.version;
	const failed = seen.plugins.filter(p => p.state === "failed").length;
	$("summary").textContent = [seen.plugins.length + (seen.plugins.length === 1 ? " plug-in" : " plug-ins"), failed ? failed + " failed" : "", "process " + seen.pid,
		seen.memory ? amount(seen.memory) : "", new Date(seen.time).toLocaleTimeString()].filter(text => text).join(", ");
	const notes = [];
	if (seen.config) notes.push(["config.yaml", `not taken over since ${new Date(seen.config.since).toLocaleTimeString()}: ${seen.config.error}`]);
	$("rows").replaceChildren(...[...seen.plugins].sort(compare).map(p => {
		const row = element("tr", undefined, {role: "row"});
		for (const c of columns) {
			const value = c.value(p);
			const known = value !== undefined && value !== "";
			const cell = element("td", undefined, {role: "cell", "data-title": c.title});
			cell.append(element("bdi", !known ? "–" : c.show ? c.show(value, p) : String(value)));
			if (c.words) cell.classList.add("words");
			if (c.title === "Name") cell.classList.add("name");
			if (!known) cell.classList.add("quiet");
			if (c.title === "State") cell.classList.add({failed: "bad", suspended: "bad", started: "good"}[p.state] || "words");
			row.append(cell);
		}
		if (p.error) notes.push([p.name, p.error.startsWith(p.name + ": ") ? p.error.slice(p.name.length + 2) : p.error]);
		for (const c of p.counted || []) {
			if (c.left_out_ns) notes.push([p.name, `its hook ${c.point} is left out for ${c.left_out_ns < 1e9 ? "less than a second" : Math.round(c.left_out_ns / 1e9) + " s"}, because it failed again and again${c.error ? ": " + c.error : ""}`]);
		}
		return row;
	}));
	$("notes").replaceChildren(...notes.map(([name, text]) => {
		const li = element("li");
		const b = element("b");
		b.append(element("bdi", name));
		li.append(b, ": ", element("bdi", text));
		return li;
	}));
	$("wrong").hidden = notes.length === 0;
}

// warn shows what there is to say above the table. The same again is not said again.
function warn(...texts) {
	texts = texts.filter(text => text);
	const shown = [...$("warnings").children].map(e => e.textContent);
	if (JSON.stringify(shown) !== JSON.stringify(texts)) $("warnings").replaceChildren(...texts.map(text => element("p", text, {class: "warning"})));
}

let asking = false;

// answered is the text that the application answers with; undefined where there is no answer.
async function answered() {
	try {
		const answer = await fetch("stats.json", {cache: "no-store", signal: AbortSignal.timeout(patience)});
		const text = await answer.text();
		if (!answer.ok) throw new Error("The application says: " + text.trim());
		return text;
	} catch (e) {
		if (!(e instanceof TypeError) && e.name !== "TimeoutError") throw e; // these two are how fetch says that nothing came
	}
}

// picture is an answer as a picture of the system.
function picture(text) {
	let now;
	try {
		now = JSON.parse(text);
	} catch {
		throw new Error("The answer is no picture of plug-ins: something else is where the application was.");
	}
	if (now?.format !== 1) throw new Error("This page and the application are of different versions: load the page again.");
	return now;
}

async function ask() {
	if (document.hidden || asking) return; // nobody looks; or an answer is on its way
	asking = true;
	const old = () => seen ? "What follows is of " + new Date(seen.time).toLocaleTimeString() + "." : "";
	try {
		const text = await answered();
		if (text === undefined) {
			warn("The application does not answer.", old());
			return;
		}
		const now = picture(text);
		rates(seen, now);
		seen = now;
		warn(now.counting ? "" : "Calls are not counted: the application has no plugins.Counting().");
		draw();
	} catch (e) {
		warn(e.message, old());
	} finally {
		asking = false;
	}
}

async function run() {
	for (;;) {
		await ask();
		await new Promise(done => setTimeout(done, every));
	}
}

columns.forEach((c, i) => {
	const th = element("th", undefined, {role: "columnheader", scope: "col"});
	if (c.words) th.className = "words";
	const button = element("button", c.title, {type: "button"});
	button.addEventListener("click", () => sortBy(i));
	th.append(button);
	$("titles").append(th);
	$("sort").append(element("option", c.title, {value: i}));
});
$("sort").addEventListener("change", e => { turned = false; by = Number(e.target.value); draw(); });
$("turn").addEventListener("click", () => { turned = !turned; draw(); });
document.addEventListener("visibilitychange", ask);
draw();
run();
