//! The call that runs on a thread: what an import, the `log` crate's macros and the panic hook have of it.

use crate::host::Services;
use crate::{Error, Result};
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::ptr;
use std::sync::atomic::AtomicU32;

/// The call that is current on a thread. It lives on the stack of [`run`](Current::run)'s caller.
pub struct Current<'a> {
    /// Those of the call's context.
    pub services: &'a Services,
    /// The last panic on this thread within a call, for the funnel's message. None on the plug-in's own threads, whose
    /// panics no funnel sees.
    pub panic: Option<&'a Cell<Option<Panic>>>,
}

/// What the panic hook saw.
pub struct Panic {
    /// The payload, as text.
    pub message: String,
    /// ` at file:line:column`, or nothing.
    pub place: String,
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked{}: {}", self.place, self.message)
    }
}

thread_local! {
    /// Null, or the thread's innermost `Current` that runs. It has no destructor: one would keep the library mapped.
    static CURRENT: Cell<*const Current<'static>> = const { Cell::new(ptr::null()) };
}

impl<'a> Current<'a> {
    /// For the thread on which the host has made the call; `panic` is where the panic hook leaves what it saw.
    #[inline]
    pub fn of_call(services: &'a Services, panic: &'a Cell<Option<Panic>>) -> Current<'a> {
        Current { services, panic: Some(panic) }
    }

    /// For a thread of the plug-in's own.
    pub fn of_scope(services: &'a Services) -> Current<'a> {
        Current { services, panic: None }
    }

    /// Runs `work` with this as the thread's current call, and sets the one before it again, come what may.
    pub fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        struct Restore(*const Current<'static>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.with(|current| current.set(self.0));
            }
        }
        let this: *const Current<'_> = self;
        let _restore = Restore(CURRENT.with(|current| current.replace(this.cast())));
        work()
    }
}

/// Gives the thread's current call to `f`; None where there is none.
pub fn with_current<R>(f: impl FnOnce(&Current<'_>) -> R) -> Option<R> {
    // SAFETY: `run` has put the pointer there, on this thread, and takes it away before its borrow ends. `f` cannot
    // keep the reference, as its lifetime is any.
    unsafe { CURRENT.with(Cell::get).as_ref() }.map(f)
}

/// What `#[ferrule::import(optional)]` has as `offered()`.
pub fn offers(name: &str) -> bool {
    with_current(|current| current.services.offers(name)).unwrap_or(false)
}

/// What `#[ferrule::import]` expands to.
pub fn import(slot: &AtomicU32, name: &str, optional: bool, input: Result<Cow<'_, [u8]>>) -> Result<Vec<u8>> {
    let input = input?;
    with_current(|current| current.services.import(slot, name, optional, &input)).unwrap_or_else(|| {
        Err(Error::failed(format_args!(
            "the import `{name}` was called on a thread on which no call of the host is running; on a thread of the \
             plug-in's own, call it inside Context::scope (rule R14) or Background::scope (rule R27)"
        )))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_without_a_call_is_an_error() {
        static SLOT: AtomicU32 = AtomicU32::new(0);
        let answer = import(&SLOT, "loyalty_points", false, Ok(b"ada"[..].into()));
        assert!(answer.unwrap_err().message().contains("Context::scope"));
    }
    #[cfg(feature = "testing")]
    mod with_services {
        use super::*;
        use crate::{testing::Host, Level};

        /// The host whose call is current on this thread says so in its log.
        fn speak() -> bool {
            with_current(|current| current.services.log(Level::Info, "here", &[])).is_some()
        }

        fn lines(host: &Host) -> usize {
            host.lines().len()
        }

        #[test]
        fn the_innermost_call_is_current_and_the_outer_one_again() {
            let (outer, inner) = (Host::new(), Host::new());
            assert!(!speak());
            outer.run(|_| {
                inner.run(|_| assert!(speak()));
                assert_eq!((lines(&outer), lines(&inner)), (0, 1));
                assert!(speak());
                assert_eq!((lines(&outer), lines(&inner)), (1, 1));
            });
            assert!(!speak());
        }

        #[test]
        fn an_unwinding_call_is_current_no_longer() {
            let (outer, inner) = (Host::new(), Host::new());
            outer.run(|_| {
                let work = std::panic::AssertUnwindSafe(|| inner.run(|_| std::panic::resume_unwind(Box::new("out"))));
                std::panic::catch_unwind(work).unwrap_err();
                assert!(speak());
            });
            assert_eq!((lines(&outer), lines(&inner)), (1, 0));
            assert!(!speak());
        }

        #[test]
        fn a_call_is_current_on_its_own_thread_only() {
            Host::new().run(|_| assert!(!std::thread::spawn(speak).join().unwrap()));
        }

        #[test]
        fn an_import_goes_to_the_current_call_and_its_bad_input_nowhere() {
            static SLOT: AtomicU32 = AtomicU32::new(0);
            let host = Host::new().import("double", |input| Ok([input, input].concat()));
            host.run(|_| {
                assert_eq!(import(&SLOT, "double", false, Ok(b"ab"[..].into())), Ok(b"abab".to_vec()));
                let error = import(&SLOT, "double", false, Err(Error::invalid("no bytes"))).unwrap_err();
                assert_eq!(error, Error::invalid("no bytes"));
            });
        }
    }

    #[test]
    fn what_a_panic_says() {
        let panic = |place: &str| Panic { message: "no".to_string(), place: place.to_string() }.to_string();
        assert_eq!((panic(" at a.rs:1:2"), panic("")), ("panicked at a.rs:1:2: no".into(), "panicked: no".into()));
    }
}
