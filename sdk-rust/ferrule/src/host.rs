//! The host as the plug-in's code sees it: its log, its word on cancellation, its functions and its answers.

use crate::abi;
use crate::frame::Frame;
use crate::{Error, Result};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The importance of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Level {
    /// Something failed.
    Error = abi::LOG_ERROR,
    /// Something looks wrong.
    Warn = abi::LOG_WARN,
    /// What an operator may want to know.
    Info = abi::LOG_INFO,
    /// What the author may want to know.
    Debug = abi::LOG_DEBUG,
    /// Every step.
    Trace = abi::LOG_TRACE,
}

/// A field of a log line: its key, and its value as text.
pub type Field = (String, String);

/// Where the services of a context come from.
pub enum Services {
    /// From the host that has made the call.
    Frame(Frame),
    /// From the frame that ferrule_start got for what happens between calls (R27).
    Background(Arc<Gate>),
    /// From what stands in for a host in a plug-in's own tests.
    #[cfg(feature = "testing")]
    Testing(Box<dyn StandIn>),
}

/// What stands in for the host in a plug-in's own tests.
#[cfg(feature = "testing")]
pub trait StandIn: Send + Sync {
    /// Takes a log line.
    fn log(&self, level: Level, line: &str, fields: &[Field]);
    /// Is the call cancelled?
    fn cancelled(&self) -> bool;
    /// Answers the import `name`; None where it is not offered.
    fn answer(&self, name: &str, input: &[u8]) -> Option<Result<Vec<u8>>>;
    /// Answers a key.
    fn info(&self, key: &str) -> Option<String>;
    /// Notes how far the call is.
    fn progress(&self, done: u64, total: u64);
    /// Runs what stands behind a wrapper.
    fn next(&self, input: &[u8]) -> Result<Vec<u8>>;
    /// Puts the next piece of the input stream into `piece`, which is empty then at the end.
    fn read(&self, piece: &mut Vec<u8>) -> Result<()>;
    /// Takes a piece of the output stream.
    fn write(&self, piece: &[u8]) -> Result<()>;
    /// The same host, for what happens between calls.
    fn background(&self) -> Result<Arc<Gate>>;
}

/// A piece of the input stream. What it points at lives until the next read on its call (R24).
pub struct Piece {
    start: *const u8,
    len: usize,
    /// What it points at in a plug-in's own tests.
    #[cfg(feature = "testing")]
    owned: Vec<u8>,
}

// SAFETY: a piece may be read on any thread (R24), and the memory behind `owned` as well.
unsafe impl Send for Piece {}
// SAFETY: as above.
unsafe impl Sync for Piece {}

impl Piece {
    /// A piece of nothing.
    #[inline]
    pub fn empty() -> Piece {
        Piece {
            start: std::ptr::NonNull::dangling().as_ptr(),
            len: 0,
            #[cfg(feature = "testing")]
            owned: Vec::new(),
        }
    }

    /// The bytes.
    ///
    /// # Safety
    /// Nothing has been read on the piece's call since, and the call runs for as long as the bytes are lent.
    pub unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the caller's; `read` has seen to the pointer and the length.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Services {
    /// Hands a line to the host's logger. Newlines at its end are cut off.
    pub fn log(&self, level: Level, message: impl fmt::Display, fields: &[Field]) {
        let message = message.to_string();
        let line = message.trim_end_matches('\n');
        match self {
            Services::Frame(frame) => frame.log(level as u32, line, fields),
            Services::Background(gate) => drop(gate.with(|to| to.log(level, line, fields))),
            #[cfg(feature = "testing")]
            Services::Testing(host) => host.log(level, line, fields),
        }
    }

    /// `log`, with fields as authors write them.
    pub fn log_with(&self, level: Level, message: impl fmt::Display, fields: &[(&str, &dyn fmt::Display)]) {
        let fields: Vec<Field> = fields.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        self.log(level, message, &fields);
    }

    /// Does the host no longer want the result (rule R17), or is the instance about to stop (R27)?
    pub fn cancelled(&self) -> bool {
        match self {
            Services::Frame(frame) => frame.cancelled(),
            Services::Background(gate) => gate.is_ending() || gate.with(Services::cancelled).unwrap_or(true),
            #[cfg(feature = "testing")]
            Services::Testing(host) => host.cancelled(),
        }
    }

    /// Says how far the call is (R30).
    pub fn progress(&self, done: u64, total: u64) {
        match self {
            Services::Frame(frame) => frame.progress(done, total),
            Services::Background(_) => {}
            #[cfg(feature = "testing")]
            Services::Testing(host) => host.progress(done, total),
        }
    }

    /// Calls the host function that the import `name` stands for. An optional one need not be offered.
    pub fn import(&self, slot: &AtomicU32, name: &str, optional: bool, input: &[u8]) -> Result<Vec<u8>> {
        match self {
            // Relaxed: the host wrote the slot before any code of this library ran (rule R5).
            Services::Frame(frame) => match slot.load(Ordering::Relaxed) {
                abi::UNBOUND if optional => Err(Error::unsupported(format_args!(
                    "the host is older than optional imports such as `{name}` (rule R23)"
                ))),
                // Every host that knows wants sets the slot; what it does not offer it refuses itself.
                ordinal => frame.import(ordinal, name, optional, input),
            },
            Services::Background(gate) => gate
                .with(|to| to.import(slot, name, optional, input))
                .unwrap_or_else(|| Err(stopped(format_args!("the import `{name}`")))),
            #[cfg(feature = "testing")]
            Services::Testing(host) => host.answer(name, input).unwrap_or_else(|| match optional {
                true => Err(Error::unsupported(format_args!("the test's host does not offer `{name}`"))),
                false => {
                    Err(Error::failed(format_args!("the test's host has no import `{name}`; add it with Host::import")))
                }
            }),
        }
    }

    /// Answers a key (R26).
    pub fn info(&self, key: &str) -> Option<String> {
        match self {
            Services::Frame(frame) => frame.info(key),
            Services::Background(gate) => gate.with(|to| to.info(key)).flatten(),
            #[cfg(feature = "testing")]
            Services::Testing(host) => host.info(key),
        }
    }

    /// Does the host offer the import `name` (R26)?
    pub fn offers(&self, name: &str) -> bool {
        self.info(&format!("offers.{name}")).as_deref() == Some("yes")
    }

    /// Runs what stands behind a wrapper (R33).
    pub fn next(&self, input: &[u8]) -> Result<Vec<u8>> {
        match self {
            Services::Frame(frame) => frame.next(input),
            Services::Background(_) => Err(between("a wrapper")),
            #[cfg(feature = "testing")]
            Services::Testing(host) => host.next(input),
        }
    }

    /// Takes the next piece of the input stream, in place of the one before (R24).
    pub fn read(&self, piece: &mut Piece) -> Result<()> {
        // The one before is gone, also when there is no next one.
        (piece.start, piece.len) = (Piece::empty().start, 0);
        match self {
            Services::Frame(frame) => (piece.start, piece.len) = frame.read()?,
            Services::Background(_) => return Err(between("a stream")),
            #[cfg(feature = "testing")]
            Services::Testing(host) => {
                host.read(&mut piece.owned)?;
                (piece.start, piece.len) = (piece.owned.as_ptr(), piece.owned.len());
            }
        }
        Ok(())
    }

    /// Passes a piece on to the output stream (R24).
    pub fn write(&self, piece: &[u8]) -> Result<()> {
        match self {
            Services::Frame(frame) => frame.write(piece),
            Services::Background(_) => Err(between("a stream")),
            #[cfg(feature = "testing")]
            Services::Testing(host) => host.write(piece),
        }
    }

    /// What the plug-in has of the host between calls (R27). For those of ferrule_start only.
    pub fn background(&self) -> Result<Arc<Gate>> {
        match self {
            Services::Frame(frame) => Ok(Arc::new(Gate::new(Services::Frame(frame.background()?)))),
            Services::Background(gate) => Ok(Arc::clone(gate)),
            #[cfg(feature = "testing")]
            Services::Testing(host) => host.background(),
        }
    }
}

fn stopped(what: fmt::Arguments<'_>) -> Error {
    Error::cancelled()
        .with_message(format_args!("{what} is not to be had any more: the instance has stopped (rule R27)"))
}

fn between(what: &str) -> Error {
    Error::unsupported(format_args!("there is no {what} between calls (rule R27)"))
}

/// Stands before the services between calls: they are used by whoever has a handle, on any thread, but the frame behind
/// them ends with ferrule_stop. `close` waits until nobody uses them, and nobody gets through afterwards.
pub struct Gate {
    /// Never a gate itself.
    to: Services,
    inside: Mutex<Inside>,
    changed: Condvar,
    /// Says that `close` has begun.
    ending: AtomicBool,
    /// Those that `close` joins.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Inside {
    users: usize,
    closed: bool,
}

impl Gate {
    pub fn new(to: Services) -> Gate {
        Gate {
            to,
            inside: Mutex::new(Inside { users: 0, closed: false }),
            changed: Condvar::new(),
            ending: AtomicBool::new(false),
            threads: Mutex::new(Vec::new()),
        }
    }

    /// Runs `work` with the services; None after `close`. One thread may be inside several times.
    fn with<R>(&self, work: impl FnOnce(&Services) -> R) -> Option<R> {
        struct Leave<'a>(&'a Gate);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                lock(&self.0.inside).users -= 1;
                self.0.changed.notify_all();
            }
        }
        {
            let mut inside = lock(&self.inside);
            if inside.closed {
                return None;
            }
            inside.users += 1;
        }
        let _leave = Leave(self);
        Some(work(&self.to))
    }

    /// Has the end begun?
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// From now on the services are cancelled, whatever the host says, and nobody sleeps.
    pub fn end(&self) {
        let _inside = lock(&self.inside);
        self.ending.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// Waits until `timeout` has passed, or `end` was called.
    pub fn sleep(&self, timeout: Duration) {
        let inside = lock(&self.inside);
        // A poisoned lock is as good as any: below.
        let _ = self.changed.wait_timeout_while(inside, timeout, |_| !self.is_ending());
    }

    /// Starts a thread that `close` joins.
    pub fn spawn(&self, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let mut threads = lock(&self.threads);
        if self.is_ending() {
            return Err(stopped(format_args!("a thread")));
        }
        // One that has come to its end is joined as well: until then it may still run code of this library.
        for at in (0..threads.len()).rev() {
            if threads[at].is_finished() {
                join(threads.swap_remove(at));
            }
        }
        match std::thread::Builder::new().spawn(work) {
            Ok(thread) => threads.push(thread),
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => return Err(Error::unsupported(error)),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Joins the threads, and shuts: when it returns, the services are used no more.
    pub fn close(&self) {
        self.end();
        loop {
            // Not locked while it waits: the thread may look at the gate.
            let thread = lock(&self.threads).pop();
            match thread {
                Some(thread) => join(thread),
                None => break,
            }
        }
        let mut inside = lock(&self.inside);
        inside.closed = true;
        while inside.users > 0 {
            inside = self.changed.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn join(thread: JoinHandle<()>) {
    if let Err(payload) = thread.join() {
        // The hook has told of it; its drop is the author's, and could panic.
        std::mem::forget(payload);
    }
}

/// No code of the author's runs under one of the locks, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_the_contracts() {
        let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
        let numbers = levels.map(|level| level as u32);
        assert_eq!(numbers, [abi::LOG_ERROR, abi::LOG_WARN, abi::LOG_INFO, abi::LOG_DEBUG, abi::LOG_TRACE]);
        assert!(Level::Error < Level::Trace);
    }

    #[cfg(feature = "testing")]
    mod gates {
        use super::*;
        use std::sync::mpsc::channel;

        /// A host behind which nothing is: only the gate itself is looked at.
        struct Nothing;

        impl StandIn for Nothing {
            fn log(&self, _: Level, _: &str, _: &[Field]) {}
            fn cancelled(&self) -> bool {
                false
            }
            fn answer(&self, _: &str, _: &[u8]) -> Option<Result<Vec<u8>>> {
                None
            }
            fn info(&self, _: &str) -> Option<String> {
                None
            }
            fn progress(&self, _: u64, _: u64) {}
            fn next(&self, _: &[u8]) -> Result<Vec<u8>> {
                Err(Error::pass())
            }
            fn read(&self, _: &mut Vec<u8>) -> Result<()> {
                Ok(())
            }
            fn write(&self, _: &[u8]) -> Result<()> {
                Ok(())
            }
            fn background(&self) -> Result<Arc<Gate>> {
                Err(Error::pass())
            }
        }

        fn gate() -> Arc<Gate> {
            Arc::new(Gate::new(Services::Testing(Box::new(Nothing))))
        }

        #[test]
        fn nobody_gets_through_a_closed_one() {
            let gate = gate();
            assert_eq!(gate.with(|_| 7), Some(7));
            // Inside of it, once more.
            assert_eq!(gate.with(|_| gate.with(|_| 7)), Some(Some(7)));
            gate.close();
            assert_eq!(gate.with(|_| 7), None);
            gate.close();
        }

        #[test]
        fn closing_waits_for_those_inside() {
            let gate = gate();
            let (entered, has_entered) = channel();
            let (leave, may_leave) = channel::<()>();
            let inside = Arc::clone(&gate);
            let user = std::thread::spawn(move || {
                inside.with(|_| {
                    entered.send(()).unwrap();
                    may_leave.recv().unwrap();
                })
            });
            has_entered.recv().unwrap();
            let (closed, has_closed) = channel();
            let closing = Arc::clone(&gate);
            let closer = std::thread::spawn(move || {
                closing.close();
                closed.send(()).unwrap();
            });
            while !lock(&gate.inside).closed {
                std::thread::yield_now();
            }
            assert!(has_closed.try_recv().is_err(), "somebody is inside");
            leave.send(()).unwrap();
            has_closed.recv().unwrap();
            assert_eq!(user.join().unwrap(), Some(()));
            closer.join().unwrap();
        }

        #[test]
        fn whoever_unwinds_has_left() {
            let gate = gate();
            let work = std::panic::AssertUnwindSafe(|| gate.with::<()>(|_| std::panic::resume_unwind(Box::new("out"))));
            std::panic::catch_unwind(work).map(drop).unwrap_err();
            gate.close();
        }
    }
}
