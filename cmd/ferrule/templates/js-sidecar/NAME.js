#!/usr/bin/env node
// {{.Name}} is a Ferrule plug-in that is a program: a sidecar, which speaks the wire (docs/wire.md of Ferrule) by its standard input and output.
const fs = require("node:fs")

// By their names, each with what it is about; call takes bytes, a Buffer, and gives bytes or text.
const functions = {
  greet: { doc: "Greets whoever the input names.", call: input => Buffer.concat([Buffer.from("Hello, "), input.length ? input : Buffer.from("world"), Buffer.from("!")]) },
}
const hooks = {} // likewise, by their extension points

// What is below is the wire, and knows nothing of what is above but these two.

console.log = console.error // what is printed is no message
const verbs = { HELLO: 1, CALL: 2, CANCEL: 1, BYE: 0 } // with the number of their arguments

// What came is no message: so the session ends (W3).
function broken(what) {
  console.error("no message: " + JSON.stringify(what))
  process.exit(1)
}

function number(text, least = 0n) {
  const known = /^(0|[1-9][0-9]{0,18})$/.test(text) && BigInt(text)
  if (known === false || known < least || known >= 1n << 63n) broken(text)
  return known
}

// All n bytes; where the stream ends, the program does (W6).
function read(n, bytes = Buffer.alloc(n)) {
  for (let offset = 0; offset < n; ) offset += fs.readSync(0, bytes, { offset }) || process.exit()
  return bytes
}

// A line without its end.
function line() {
  let text = ""
  while (!text.endsWith("\n")) {
    text += read(1).toString("latin1")
    if (text.length > 4098) broken(text.slice(0, 60))
  }
  text = text.replace(/\r?\n$/, "")
  if (/[^\t -~]/.test(text)) broken(text)
  return text
}

// The next message: its verb, its arguments, its fields and its body (W1, W2).
function receive() {
  const first = line(), [verb, ...args] = first.split(" "), fields = {}
  if (!Object.hasOwn(verbs, verb) || verbs[verb] !== args.length || args.includes("")) broken(first)
  for (let text, size = first.length; (text = line()); ) {
    const [, name, value] = /^([A-Za-z0-9-]+):[ \t]*(.*?)[ \t]*$/.exec(text)?.map((s, i) => (i === 1 ? s.toLowerCase() : s)) ?? broken(text)
    if ((size += text.length + 1) > 16 << 10 || (name === "content-length" && name in fields)) broken(text)
    fields[name] = value
  }
  const length = Number(number(fields["content-length"] ?? "0"))
  if (length > (verb === "CALL" ? 256 << 20 : 0)) broken(first)
  return [verb, args, fields, read(length)]
}

function send(head, bytes) {
  fs.writeFileSync(1, Buffer.concat([Buffer.from(`${head}\nContent-Length: ${bytes.length}\n\n`), bytes]))
}

function answer(name, fields, input) {
  const all = "hook" in fields ? hooks : functions
  if (!Object.hasOwn(all, name)) return [3, Buffer.from("there is no such function")]
  try {
    return [0, Buffer.from(all[name].call(input))]
  } catch (e) {
    return [1, Buffer.from(String(e?.message ?? e))]
  }
}

const [hello, [version], { "max-body": most }] = receive()
if (hello !== "HELLO" || version !== "1") broken(hello)
const longest = number(most ?? String(256 << 20))
const said = [functions, hooks].map(all => Object.fromEntries(Object.entries(all).map(([name, { call, ...keys }]) => [name, keys])))
send("HELLO 1", Buffer.from(JSON.stringify({ name: "{{.Name}}", version: "0.1.0", functions: said[0], hooks: said[1] })))
for (;;) {
  const [verb, args, fields, input] = receive()
  if (verb === "BYE") process.exit()
  if (verb === "HELLO") broken(verb)
  const id = number(args[0], 1n)
  if (verb === "CALL") { // CANCEL comes too late, for a call that is done
    let [status, output] = answer(args[1], fields, input)
    if (output.length > longest) [status, output] = [6, Buffer.from("it is too long").subarray(0, Number(longest))]
    send(`DONE ${id} ${status}`, output)
  }
}
