//! A sidecar in Rust, without a library: see docs/wire.md.
use std::io::{self, BufRead, Read, Write};

/// The status of a call, with its output or its message.
type Answer = (i32, Vec<u8>);

fn send(head: &str, body: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{head}\nContent-Length: {}\n\n", body.len())?;
    out.write_all(body)?;
    out.flush()
}

/// The next CALL, or the DONE of a call of its own: two arguments and a body. What comes between, such as CANCEL, is too late for it.
fn receive(wanted: &str) -> io::Result<(String, String, Vec<u8>)> {
    let mut from = io::stdin().lock();
    loop {
        let (mut lines, mut body) = (Vec::new(), Vec::new());
        while lines.last().map_or(true, |line: &String| !line.trim_end().is_empty()) {
            lines.push(String::new());
            if from.read_line(lines.last_mut().unwrap())? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        for (name, value) in lines[1..].iter().filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("Content-Length") {
                body.resize(value.trim().parse().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?, 0);
            }
        }
        from.read_exact(&mut body)?;
        match lines[0].split_whitespace().collect::<Vec<_>>()[..] {
            [verb, id, argument] if verb == wanted => return Ok((id.into(), argument.into(), body)),
            ["HELLO" | "CANCEL", _] => {}
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn count_vowels(text: Vec<u8>) -> Answer {
    match String::from_utf8(text) {
        Ok(text) => (0, text.matches(|c| "aeiouAEIOU".contains(c)).count().to_string().into()),
        Err(e) => (2, e.to_string().into()),
    }
}

fn points(input: &[u8]) -> io::Result<Answer> {
    send("CALL 1 loyalty_points", input)?;
    let (_, status, answer) = receive("DONE")?;
    Ok(if status == "0" {
        (0, [b"points: ", &answer[..]].concat())
    } else {
        (1, [b"loyalty_points: ", &answer[..]].concat())
    })
}

fn serve() -> io::Result<()> {
    send(
        "HELLO 1",
        br#"{"name": "vowels", "version": "1.0.0", "functions": {"count_vowels": {}, "points": {}},
             "hooks": {"before_checkout": {}}, "wants": {"loyalty_points": {}}}"#,
    )?;
    loop {
        let (id, name, input) = receive("CALL")?;
        let (status, output) = match name.as_str() {
            "count_vowels" => count_vowels(input),
            "points" => points(&input)?,
            "before_checkout" if input.is_empty() => (9, Vec::new()),
            "before_checkout" => (0, b"5 % off".to_vec()),
            _ => (3, Vec::new()),
        };
        send(&format!("DONE {id} {status}"), &output)?;
    }
}

fn main() -> io::Result<()> {
    match serve() {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(()), // BYE, or the stream ends
        ended => ended,
    }
}
