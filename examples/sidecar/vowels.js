#!/usr/bin/env node
const fs = require("node:fs")
const send = (head, body) => fs.writeFileSync(1, Buffer.concat([Buffer.from(`${head}\nContent-Length: ${Buffer.byteLength(body)}\n\n`), Buffer.from(body)]))

function receive(wanted) { // the next CALL, or the DONE of its own; what comes between, such as CANCEL, is too late for it
  const read = (n, bytes = Buffer.alloc(n)) => { // all n bytes; where the stream ends, the program does
    for (let offset = 0; offset < n; ) offset += fs.readSync(0, bytes, { offset }) || process.exit()
    return bytes
  }
  let head = ""
  while (!/\n\r?\n$/.test(head)) head += read(1)
  const [verb, ...args] = head.split(/\r?\n/)[0].split(" "), body = read(Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0))
  return verb === wanted ? [...args, body] : ["HELLO", "CANCEL"].includes(verb) ? receive(wanted) : process.exit()
}

exports.count_vowels = text => [0, String(new TextDecoder("utf-8", { fatal: true }).decode(text).replace(/[^aeiou]/gi, "").length)]
exports.before_checkout = input => (input.length ? [0, "5 % off"] : [9, ""])
exports.points = input => {
  send("CALL 1 loyalty_points", input)
  const [, status, answer] = receive("DONE")
  return status === "0" ? [0, `points: ${answer}`] : [1, `loyalty_points: ${answer}`]
}

send("HELLO 1", `{"name": "vowels", "version": "1.0.0", "functions": {"count_vowels": {}, "points": {}}, "hooks": {"before_checkout": {}}, "wants": {"loyalty_points": {}}}`)
for (let [id, name, input] = receive("CALL"), done; ; [id, name, input] = receive("CALL")) {
  try { done = Object.hasOwn(exports, name) ? exports[name](input) : [3, ""] } catch (e) { done = [e.code === "ERR_ENCODING_INVALID_ENCODED_DATA" ? 2 : 1, e.message] }
  send(`DONE ${id} ${done[0]}`, done[1])
}
