//! The museum's module in Rust: what a WebAssembly module has of version 1.1 of the contract. See ../../README.md.

use ferrule::{Context, Error, Level, Reader, Room, State, Writer};
use std::io::{BufRead, Read, Write};

ferrule::plugin!(
    name: "museum-rust",
    version: env!("CARGO_PKG_VERSION"),
    threads: "serial",
    state: Greeter,
    state_format: "count-1",
    description: "What a module has of version 1.1 of the contract",
    config_schema: "{\"type\": \"string\"}",
    health: "greet",
    provides: ["greetings", "counts"],
    "host.museum": ">=1.1",
    "permit.memory": 1048576,
);

#[ferrule::import]
fn refuse(who: &[u8]) -> ferrule::Result<()>;

/// The text in capital letters.
#[ferrule::import(optional, why = "to shout")]
fn upper(text: &str) -> ferrule::Result<String>;

#[ferrule::import(optional)]
fn absent(text: &str) -> ferrule::Result<String>;

/// An instance's state: a greeting, which is its configuration, and a count.
struct Greeter {
    greeting: String,
    count: u64,
}

fn settings(config: &str) -> ferrule::Result<String> {
    match config {
        "" => Err(Error::invalid("found no greeting, expected one")),
        greeting => Ok(greeting.to_string()),
    }
}

impl State for Greeter {
    type Config = Vec<u8>;

    fn start(ctx: &Context, config: Vec<u8>) -> ferrule::Result<Greeter> {
        let greeting = settings(std::str::from_utf8(&config)?)?;
        ctx.log_with(Level::Info, "started", &[("greeting", &greeting), ("cancelled", &ctx.cancelled())]);
        Ok(Greeter { greeting, count: 0 })
    }

    fn stop(self, ctx: &Context) -> ferrule::Result<()> {
        ctx.log_with(Level::Info, "stopped", &[("count", &self.count), ("cancelled", &ctx.cancelled())]);
        Ok(())
    }
}

#[ferrule::configure]
fn configure(greeter: &mut Greeter, config: &str) -> ferrule::Result<()> {
    greeter.greeting = settings(config)?;
    Ok(())
}

#[ferrule::save]
fn save(greeter: &Greeter) -> String {
    greeter.count.to_string()
}

#[ferrule::resume]
fn resume(greeter: &mut Greeter, saved: &str) -> ferrule::Result<()> {
    greeter.count = saved.parse()?;
    Ok(())
}

/// Greets somebody, and counts.
#[ferrule::export(since = "1.1", in_schema = "{\"type\": \"string\"}")]
fn greet(greeter: &mut Greeter, who: &str) -> String {
    greeter.count += 1;
    format!("{}, {who}: {}", greeter.greeting, greeter.count)
}

#[ferrule::export]
fn panic(why: &str) {
    panic!("{why}");
}

/// Has something to say to numbers only.
#[ferrule::export]
fn pass(input: &str) -> Option<String> {
    Some((2 * input.parse::<u64>().ok()?).to_string())
}

#[ferrule::export]
fn shout(text: &str) -> ferrule::Result<String> {
    upper(text)
}

#[ferrule::export]
fn miss(text: &str) -> ferrule::Result<String> {
    if absent::offered() {
        return Err(Error::failed("it is offered"));
    }
    absent(text)
}

#[ferrule::export]
fn ask_refuse(who: &[u8]) -> ferrule::Result<()> {
    refuse(who)
}

/// Whether anything can happen between calls: in a module nothing runs then, and there are no threads.
#[ferrule::export]
fn between(ctx: &Context) -> ferrule::Result<String> {
    ctx.background()?;
    Ok("yes".to_string())
}

/// What the host knows under a key.
#[ferrule::export]
fn info(ctx: &Context, key: &str) -> ferrule::Result<String> {
    ctx.info(key).ok_or_else(|| Error::unsupported("it does not say"))
}

#[ferrule::export]
fn has_path(ctx: &Context) -> String {
    ctx.path().is_some().to_string()
}

/// As many letters as the input says, in the host's room.
#[ferrule::export]
fn fill(count: &str, out: &mut Room) -> ferrule::Result<()> {
    let count: usize = count.parse()?;
    out.reserve(count / 2)?;
    out.grow(count / 2)?.fill(b'a');
    out.write_all(&vec![b'b'; count - count / 2])?;
    Ok(())
}

/// The sum of the stream's bytes, and how many there are.
#[ferrule::export]
fn sum(ctx: &Context, input: &mut Reader) -> ferrule::Result<String> {
    let (mut sum, mut n) = (0, 0);
    loop {
        let piece = input.fill_buf()?;
        if piece.is_empty() {
            return Ok(format!("{sum} {n}"));
        }
        sum += piece.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let len = piece.len();
        n += len as u64;
        input.consume(len);
        ctx.progress(n, 0);
    }
}

/// The numbers below the input, each in a line.
#[ferrule::export]
fn lines(count: &str, output: &mut Writer) -> ferrule::Result<String> {
    let count: u32 = count.parse()?;
    for n in 0..count {
        writeln!(output, "{n}")?;
    }
    Ok(format!("{count} lines"))
}

/// The stream behind the input.
#[ferrule::export]
fn prefix(text: &[u8], input: &mut Reader, output: &mut Writer) -> ferrule::Result<&'static str> {
    output.write_all(text)?;
    let mut piece = [0; 4096];
    loop {
        match input.read(&mut piece)? {
            0 => return Ok("done"),
            n => output.write_all(&piece[..n])?,
        }
    }
}

#[ferrule::export]
fn work(ctx: &Context) {
    for done in 1..=100 {
        ctx.progress(done, 100);
    }
}

#[ferrule::export]
fn fields(ctx: &Context) {
    ctx.log_with(Level::Warn, "a line", &[("width", &7), ("name", &"a b")]);
}

/// Stands around what is behind it.
#[ferrule::hook(wrap, order = "first", before = ["log", "auth"], priority = -7, optional)]
fn around(ctx: &Context, input: &[u8]) -> ferrule::Result<Vec<u8>> {
    let mut result = ctx.next(input)?;
    result.push(b'!');
    Ok(result)
}
