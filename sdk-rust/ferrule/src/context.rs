//! What the host offers while a call runs.

use crate::background::Background;
use crate::current::{with_current, Current};
use crate::host::{Gate, Services};
use crate::{Error, Level, Result};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The running call, seen from inside: the host's log, cancellation and progress, what the host knows, and imports on the
/// plug-in's own threads.
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
    /// In a call of ferrule_start: what it got for the time between calls.
    between: Option<Mutex<Option<Arc<Gate>>>>,
}

impl Context {
    #[inline]
    pub(crate) fn new(services: Services) -> Context {
        Context { services, between: None }
    }

    /// The one of ferrule_start.
    pub(crate) fn of_start(services: Services) -> Context {
        Context { services, between: Some(Mutex::new(None)) }
    }

    #[inline]
    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// What `background` gave, if it was called. None from then on.
    pub(crate) fn take_gate(&self) -> Option<Arc<Gate>> {
        self.between.as_ref().and_then(|between| between.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    /// Hands a line to the host's logger, which knows the plug-in's name. Newlines at its end are cut off.
    pub fn log(&self, level: Level, message: impl fmt::Display) {
        self.services.log(level, message, &[]);
    }

    /// [`log`](Context::log) with fields (rule R31): `ctx.log_with(Level::Info, "resized", &[("width", &width)])`. A host
    /// that is older than version 1.1 gets them at the line's end, ` width=7`. A key cannot have a `=`, nor a key or value
    /// a NUL: U+FFFD stands there instead.
    pub fn log_with(&self, level: Level, message: impl fmt::Display, fields: &[(&str, &dyn fmt::Display)]) {
        self.services.log_with(level, message, fields);
    }

    /// Does the host no longer want the result (rule R17)? Poll it in whatever may run for more than some
    /// milliseconds, and return [`Error::cancelled`] soon after. Costs one load.
    pub fn cancelled(&self) -> bool {
        self.services.cancelled()
    }

    /// [`cancelled`](Context::cancelled) for use with `?`.
    pub fn check_cancelled(&self) -> Result<()> {
        match self.cancelled() {
            true => Err(Error::cancelled()),
            false => Ok(()),
        }
    }

    /// Says how far the call is (rule R30): `done` of `total`, in a unit of the function's own; a `total` of 0 while it is
    /// not known. It is for show. Costs some stores, so use it often; where nobody looks it does nothing.
    pub fn progress(&self, done: u64, total: u64) {
        self.services.progress(done, total);
    }

    /// What the host answers to a key (rule R26): `path`, `data`, `remaining`, `traceparent` and `instance` have methods of
    /// their own; a name with a dot is the application's, such as `shop.currency`. None for what the host does not know,
    /// grant or set, for what is no key (1 to 256 bytes), and in a host that is older than version 1.1.
    ///
    /// It asks the host each time: keep an answer that does not change.
    pub fn info(&self, key: &str) -> Option<String> {
        self.services.info(key)
    }

    /// The folder that the library came from.
    pub fn path(&self) -> Option<PathBuf> {
        self.info("path").map(PathBuf::from)
    }

    /// A folder of the plug-in's own, where the host grants one.
    pub fn data(&self) -> Option<PathBuf> {
        self.info("data").map(PathBuf::from)
    }

    /// The time that the call still has; None where it has no deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.info("remaining")?.parse().ok().map(Duration::from_nanos)
    }

    /// The trace that the call belongs to, as the W3C's Trace Context writes it.
    pub fn traceparent(&self) -> Option<String> {
        self.info("traceparent")
    }

    /// The number of the instance, from 0.
    pub fn instance(&self) -> Option<u64> {
        self.info("instance")?.parse().ok()
    }

    /// Does the host offer an import of this library, by its name? An optional one says so by `offered()` as well:
    /// [`import`](macro@crate::import).
    pub fn offers(&self, name: &str) -> bool {
        self.services.offers(name)
    }

    /// In a hook with `wrap`: runs the hooks behind it with an input, and gives their result (rule R33). A wrapper may do
    /// so once, several times, or not at all. The error is theirs, as an import's is the host function's; it is
    /// UNSUPPORTED when the call is not one of a wrapper, and PASS when none behind it has anything to say.
    pub fn next(&self, input: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        self.services.next(input.as_ref())
    }

    /// In [`State::start`](crate::State::start): the host as it is there between calls (rule R27), for threads that go on
    /// while no call runs. Each time the same one. It ends with the instance, and when `start` fails.
    ///
    /// UNSUPPORTED elsewhere, and in a host that is older than version 1.1; NO_MEMORY where the host has none.
    pub fn background(&self) -> Result<Background> {
        let between = self.between.as_ref().ok_or_else(|| {
            Error::unsupported("only ferrule_start gets what is there between calls: ask for it in State::start")
        })?;
        let mut between = between.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = &*between {
            return Ok(Background::new(Arc::clone(gate)));
        }
        let gate = self.services.background()?;
        *between = Some(Arc::clone(&gate));
        Ok(Background::new(gate))
    }

    /// Runs `work` with this call as the current one of this thread. Imports, and the `log` crate's macros, use the
    /// current call; on the thread on which the host called it is set already, on the plug-in's own threads this sets
    /// it.
    pub fn scope<R>(&self, work: impl FnOnce() -> R) -> R {
        match with_current(|current| std::ptr::eq(current.services, &self.services)) {
            Some(true) => work(),
            _ => Current::of_scope(&self.services).run(work),
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("cancelled", &self.cancelled()).finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use crate::testing::Host;
    use crate::{Context, Level, Status};

    #[test]
    fn scope_makes_the_call_current_on_another_thread() {
        let host = Host::new();
        host.run(|ctx| {
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    assert!(crate::current::with_current(|_| ()).is_none());
                    let result = ctx.scope(|| {
                        crate::current::with_current(|current| {
                            assert!(std::ptr::eq(current.services, ctx.services()));
                        })
                    });
                    assert!(result.is_some());
                    assert!(crate::current::with_current(|_| ()).is_none());
                });
            });
        });
    }

    #[test]
    fn the_scope_of_another_call_ends_with_it() {
        let (outer, inner) = (Host::new(), Host::new());
        let line = || crate::current::with_current(|current| current.services.log(Level::Info, "line", &[]));
        outer.run(|outer_ctx| {
            inner.run(|_| {
                outer_ctx.scope(line);
                line();
            });
        });
        assert_eq!((outer.lines().len(), inner.lines().len()), (1, 1));
    }

    #[test]
    fn cancellation_and_what_debug_shows() {
        let host = Host::new();
        host.run(|ctx| {
            assert_eq!((ctx.cancelled(), ctx.check_cancelled()), (false, Ok(())));
            assert_eq!(format!("{ctx:?}"), "Context { cancelled: false, .. }");
            host.cancel();
            assert_eq!(ctx.check_cancelled().unwrap_err().status(), Status::CANCELLED);
            assert_eq!(format!("{ctx:?}"), "Context { cancelled: true, .. }");
        });
    }

    #[test]
    fn threads_may_have_it() {
        fn shared<T: Send + Sync>() {}
        shared::<Context>();
    }
}
