//! What the host offers while a call runs.

use crate::current::{with_current, Current};
use crate::host::Services;
use crate::{Error, Level, Result};
use std::fmt;

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

impl Context {
    #[inline]
    pub(crate) fn new(services: Services) -> Context {
        Context { services }
    }

    #[inline]
    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// Hands a line to the host's logger, which knows the plug-in's name. Newlines at its end are cut off.
    pub fn log(&self, level: Level, message: impl fmt::Display) {
        self.services.log(level, message);
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
        let line = || crate::current::with_current(|current| current.services.log(Level::Info, "line"));
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
