//! A host for the plug-in's own tests, which run its functions as the ordinary Rust functions that they are.

use crate::host::{Services, StandIn};
use crate::{Context, Error, Level, Result};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

type Answer = Arc<dyn Fn(&[u8]) -> Result<Vec<u8>> + Send + Sync>;

/// A host that answers imports, keeps the log, and cancels when it is told to. Clones are the same host.
///
/// ```
/// use ferrule::testing::Host;
/// # mod plugin {
/// #     #[ferrule::import]
/// #     fn loyalty_points(customer: &str) -> ferrule::Result<String>;
/// #     pub fn greeting(customer: &str) -> ferrule::Result<String> {
/// #         Ok(format!("{customer} has {} points", loyalty_points(customer)?))
/// #     }
/// # }
/// # use plugin::greeting;
///
/// let host = Host::new().import("loyalty_points", |customer| match customer {
///     b"ada" => Ok(b"7".to_vec()),
///     _ => Err(ferrule::Error::invalid("no such customer")),
/// });
/// assert_eq!(host.run(|_ctx| greeting("ada")).unwrap(), "ada has 7 points");
/// assert_eq!(host.run(|_ctx| greeting("bob")).unwrap_err().message(), "no such customer");
/// ```
#[derive(Clone, Default)]
pub struct Host {
    imports: HashMap<String, Answer>,
    log: Arc<Mutex<Vec<(Level, String)>>>,
    cancelled: Arc<AtomicBool>,
}

impl Host {
    /// A host without imports.
    pub fn new() -> Host {
        Host::default()
    }

    /// Adds a host function.
    pub fn import(mut self, name: &str, answer: impl Fn(&[u8]) -> Result<Vec<u8>> + Send + Sync + 'static) -> Host {
        self.imports.insert(name.to_string(), Arc::new(answer));
        self
    }

    /// From now on the calls of this host are cancelled.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Runs `call` as the host's call: its imports and its log lines come here. Panics pass through.
    pub fn run<R>(&self, call: impl FnOnce(&Context) -> R) -> R {
        #[cfg(feature = "log")]
        crate::logger::install();
        let context = Context::new(Services::Testing(Box::new(self.clone())));
        context.scope(|| call(&context))
    }

    /// The log lines so far.
    pub fn lines(&self) -> Vec<(Level, String)> {
        self.log.lock().unwrap().clone()
    }
}

impl StandIn for Host {
    fn log(&self, level: Level, line: &str) {
        self.log.lock().unwrap().push((level, line.to_string()));
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    fn answer(&self, name: &str, input: &[u8]) -> Result<Vec<u8>> {
        match self.imports.get(name) {
            Some(answer) => answer(input),
            None => {
                Err(Error::failed(format_args!("the test's host has no import `{name}`; add it with Host::import")))
            }
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("imports", &self.imports.keys())
            .field("lines", &self.lines())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    #[test]
    fn log_and_cancellation() {
        let host = Host::new();
        host.run(|ctx| {
            assert!(ctx.check_cancelled().is_ok());
            ctx.log(Level::Warn, "line\n");
            host.cancel();
            assert_eq!(ctx.check_cancelled().unwrap_err().status(), Status::CANCELLED);
        });
        assert_eq!(host.lines(), [(Level::Warn, "line".to_string())]);
    }

    #[test]
    fn imports_are_answered_by_name() {
        let host = Host::new().import("double", |input| Ok([input, input].concat()));
        assert_eq!(host.answer("double", b"ab"), Ok(b"abab".to_vec()));
        let error = host.answer("triple", b"ab").unwrap_err();
        assert_eq!(error.status(), Status::FAILED);
        assert!(error.message().contains("no import `triple`; add it with Host::import"), "{error}");
        // A second one of the name takes the first one's place.
        assert_eq!(host.import("double", |_| Ok(Vec::new())).answer("double", b"ab"), Ok(Vec::new()));
    }

    #[test]
    fn a_clone_is_the_same_host() {
        let host = Host::new();
        let clone = host.clone();
        clone.run(|ctx| ctx.log(Level::Info, "line"));
        clone.cancel();
        assert!(host.run(|ctx| ctx.cancelled()));
        assert_eq!(format!("{host:?}"), "Host { imports: [], lines: [(Info, \"line\")], .. }");
    }

    #[test]
    fn a_panic_passes_through() {
        let run = || Host::new().run(|_| -> u8 { std::panic::resume_unwind(Box::new("out")) });
        let payload = std::panic::catch_unwind(run).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"out"));
    }
}
