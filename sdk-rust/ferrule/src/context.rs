//! What the host offers while a call runs.

use crate::{ffi, Error, Result};
use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

/// The importance of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Level {
    /// Something failed.
    Error = crate::abi::LOG_ERROR,
    /// Something looks wrong.
    Warn = crate::abi::LOG_WARN,
    /// What an operator may want to know.
    Info = crate::abi::LOG_INFO,
    /// What the author may want to know.
    Debug = crate::abi::LOG_DEBUG,
    /// Every step.
    Trace = crate::abi::LOG_TRACE,
}

/// The running call, seen from inside: the host's logger, cancellation, and imports on the plug-in's own threads.
///
/// A function that wants it takes a `&Context`. It lives as long as the call. Threads that the plug-in starts may use
/// it while the call runs (rule R14), which [`std::thread::scope`] or a pool's own scope ensures:
///
/// ```
/// use ferrule::{Context, Level};
///
/// fn work(ctx: &Context, parts: &[&str]) -> usize {
///     std::thread::scope(|scope| {
///         let threads: Vec<_> = parts
///             .iter()
///             .map(|part| {
///                 scope.spawn(move || {
///                     ctx.log(Level::Debug, format_args!("{} bytes", part.len()));
///                     part.len()
///                 })
///             })
///             .collect();
///         threads.into_iter().map(|thread| thread.join().unwrap()).sum()
///     })
/// }
/// ```
pub struct Context {
    services: Services,
}

enum Services {
    Frame(ffi::Frame),
    #[cfg(feature = "testing")]
    Testing(crate::testing::Host),
}

impl Context {
    pub(crate) fn of_frame(frame: ffi::Frame) -> Context {
        Context { services: Services::Frame(frame) }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn of_test(host: crate::testing::Host) -> Context {
        Context { services: Services::Testing(host) }
    }

    /// Hands a line to the host's logger, which knows the plug-in's name. Newlines at its end are cut off.
    pub fn log(&self, level: Level, message: impl fmt::Display) {
        let message = message.to_string();
        let line = message.trim_end_matches('\n');
        match &self.services {
            Services::Frame(frame) => frame.log(level, line),
            #[cfg(feature = "testing")]
            Services::Testing(host) => host.log(level, line),
        }
    }

    /// Does the host no longer want the result (rule R17)? Poll it in whatever may run for more than some
    /// milliseconds, and return [`Error::cancelled`] soon after. Costs one load.
    pub fn cancelled(&self) -> bool {
        match &self.services {
            Services::Frame(frame) => frame.cancelled(),
            #[cfg(feature = "testing")]
            Services::Testing(host) => host.cancelled(),
        }
    }

    /// [`cancelled`](Context::cancelled) for use with `?`.
    pub fn check_cancelled(&self) -> Result<()> {
        match self.cancelled() {
            true => Err(Error::cancelled()),
            false => Ok(()),
        }
    }

    /// Runs `work` with this call as the current one of this thread. Imports, and the `log` crate's macros, use the
    /// current call; on the thread on which the host called it is set already, on the plug-in's own threads this sets
    /// it.
    pub fn scope<R>(&self, work: impl FnOnce() -> R) -> R {
        match ffi::with_current(|current| std::ptr::eq(current.context, self)) {
            Some(true) => work(),
            _ => ffi::Current::of_scope(self).run(work),
        }
    }

    /// Calls the host function that the import `name` stands for.
    fn import(&self, slot: &AtomicU32, name: &str, input: &[u8]) -> Result<Vec<u8>> {
        match &self.services {
            // Relaxed: the host wrote the slot before any code of this library ran (rule R5).
            Services::Frame(frame) => frame.import(slot.load(Ordering::Relaxed), name, input),
            #[cfg(feature = "testing")]
            Services::Testing(host) => host.answer(name, input),
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("cancelled", &self.cancelled()).finish_non_exhaustive()
    }
}

/// What `#[ferrule::import]` expands to.
pub fn import(slot: &AtomicU32, name: &str, input: Result<Cow<'_, [u8]>>) -> Result<Vec<u8>> {
    let input = input?;
    ffi::with_current(|current| current.context.import(slot, name, &input)).unwrap_or_else(|| {
        Err(Error::failed(format_args!(
            "the import `{name}` was called on a thread on which no call of the host is running; on a thread of the \
             plug-in's own, call it inside Context::scope (rule R14)"
        )))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_without_a_call_is_an_error() {
        static SLOT: AtomicU32 = AtomicU32::new(0);
        let answer = import(&SLOT, "loyalty_points", Ok(b"ada"[..].into()));
        assert!(answer.unwrap_err().message().contains("Context::scope"));
    }
}
