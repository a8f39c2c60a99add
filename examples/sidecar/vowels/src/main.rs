//! A sidecar in Rust, without a library: see docs/wire.md.
use std::io::{self, BufRead, Read, Write};

fn send(head: &str, body: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{head}\nContent-Length: {}\n\n", body.len())?;
    out.write_all(body)?;
    out.flush()
}

/// The next CALL, or the DONE of a call of its own: two arguments and a body. What comes between, such as CANCEL, is too late for it.
fn receive(wanted: &str) -> io::Result<(String, String, Vec<u8>)> {
    let (mut from, mut head) = (io::stdin().lock(), String::new());
    while !head.ends_with("\n\n") && !head.ends_with("\n\r\n") {
        if from.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("Content-Length")).map_or("0", |(_, n)| n.trim());
    let mut body = vec![0; length.parse().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?];
    from.read_exact(&mut body)?;
    drop(from);
    match head.lines().next().unwrap_or("").split(' ').collect::<Vec<_>>()[..] {
        [verb, id, argument] if verb == wanted => Ok((id.into(), argument.into(), body)),
        ["HELLO" | "CANCEL", _] => receive(wanted),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The status of a call, with its output or its message.
fn call(name: &str, input: Vec<u8>) -> io::Result<(i32, Vec<u8>)> {
    Ok(match name {
        "count_vowels" => match String::from_utf8(input) {
            Ok(text) => (0, text.matches(|c| "aeiouAEIOU".contains(c)).count().to_string().into()),
            Err(e) => (2, e.to_string().into()),
        },
        "points" => {
            send("CALL 1 loyalty_points", &input)?;
            match receive("DONE")? {
                (_, status, answer) if status == "0" => (0, [b"points: ", &answer[..]].concat()),
                (_, _, answer) => (1, [b"loyalty_points: ", &answer[..]].concat()),
            }
        }
        "before_checkout" if input.is_empty() => (9, Vec::new()),
        "before_checkout" => (0, b"5 % off".to_vec()),
        _ => (3, Vec::new()),
    })
}

fn serve() -> io::Result<()> {
    send("HELLO 1", MANIFEST)?;
    loop {
        let (id, name, input) = receive("CALL")?;
        let (status, output) = call(&name, input)?;
        send(&format!("DONE {id} {status}"), &output)?;
    }
}

const MANIFEST: &[u8] = br#"{"name": "vowels", "version": "1.0.0", "functions": {"count_vowels": {}, "points": {}},
    "hooks": {"before_checkout": {}}, "wants": {"loyalty_points": {}}}"#;

fn main() -> io::Result<()> {
    serve().or_else(|e| if e.kind() == io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(e) })
    // BYE, or the stream ends
}
