//! The museum's plug-in in Rust: as much of the crate `ferrule` as one small plug-in can use. See ../../README.md.

use ferrule::{Context, Error, Level, State, Status};
use std::thread::{self, ThreadId};

ferrule::plugin!(
    name: "museum-rust",
    version: env!("CARGO_PKG_VERSION"),
    threads: "pinned",
    state: Counter,
    description: "As much of the crate as one small plug-in can use",
    homepage: "https://example.org/museum",
    license: "MIT",
    "x-unknown.key_1": "a=b; kept",
);

/// The text in capital letters.
#[ferrule::import]
fn upper(text: &str) -> ferrule::Result<String>;

#[ferrule::import]
fn refuse(who: &[u8]) -> ferrule::Result<()>;

/// An instance's state.
struct Counter {
    count: i64,
    thread: ThreadId,
}

impl State for Counter {
    fn start(ctx: &Context, config: &[u8]) -> ferrule::Result<Counter> {
        let config = std::str::from_utf8(config)?;
        let count = config.parse().map_err(|_| Error::invalid(format!("found {config:?}, expected a number")))?;
        ctx.log(Level::Info, format_args!("started at {count}"));
        Ok(Counter { count, thread: thread::current().id() })
    }

    fn stop(self, ctx: &Context) -> ferrule::Result<()> {
        ctx.log(Level::Info, format_args!("stopped at {}", self.count));
        Ok(())
    }
}

/// Adds the number to the instance's counter, and says the sum.
#[ferrule::export]
fn next(counter: &mut Counter, number: &str) -> ferrule::Result<String> {
    counter.count += number.parse::<i64>()?;
    Ok(counter.count.to_string())
}

/// Whether this is the thread that started the instance (R13).
#[ferrule::export]
fn pinned(counter: &Counter) -> String {
    (thread::current().id() == counter.thread).to_string()
}

/// Gives back what it gets.
#[ferrule::export]
fn echo(input: &[u8]) -> &[u8] {
    input
}

/// Gives back what it gets, in memory of its own.
#[ferrule::export]
fn own(mut input: Vec<u8>) -> Vec<u8> {
    input.push(b'!');
    input
}

#[ferrule::export]
fn nothing() {}

/// Returns the status that its input says.
#[ferrule::export]
fn status(number: &str) -> ferrule::Result<String> {
    let message = format!("status {number}");
    match number.parse::<u32>()? {
        0 => Ok(message),
        2 => Err(Error::invalid(message)),
        3 => Err(Error::unsupported(message)),
        own => Err(Error::new(Status::own(own as i32), message)),
    }
}

/// Panics: the instance that does is replaced (R16).
#[ferrule::export]
fn panic(counter: &mut Counter, why: &str) {
    counter.count = -1;
    panic!("{why}");
}

#[ferrule::export]
fn wanted(ctx: &Context) -> ferrule::Result<&'static str> {
    ctx.check_cancelled()?;
    Ok("wanted")
}

/// Works until it is cancelled, and says when it begins.
#[ferrule::export]
fn wait(ctx: &Context) -> ferrule::Result<()> {
    ctx.log(Level::Info, "working");
    loop {
        ctx.check_cancelled()?;
        thread::yield_now();
    }
}

/// Calls the host, whose result may be longer than the room there is at first.
#[ferrule::export]
fn ask_upper(text: &str) -> ferrule::Result<String> {
    upper(text)
}

/// The status and the message of the host's are this function's own.
#[ferrule::export]
fn ask_refuse(who: &[u8]) -> ferrule::Result<()> {
    refuse(who)
}

/// Calls the host and logs on a thread of the plug-in's own (R14).
#[ferrule::export]
fn on_a_thread(ctx: &Context, text: &str) -> ferrule::Result<String> {
    let work = || {
        ctx.scope(|| {
            ctx.log(Level::Info, "on a thread of its own");
            upper(text)
        })
    };
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|_| Err(Error::failed("the thread panicked")))
}

#[ferrule::export]
fn logs(ctx: &Context) {
    ctx.log(Level::Error, "error\n");
    ctx.log(Level::Warn, "warn");
    ctx.log(Level::Info, "info");
    ctx.log(Level::Debug, "debug");
    ctx.log(Level::Trace, "trace");
    ctx.log(Level::Warn, "");
}

/// Signs what is saved.
#[ferrule::hook]
fn before_save(text: &str) -> String {
    format!("{text}, signed")
}
