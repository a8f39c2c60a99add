//! What a plug-in has of the host between calls.

use crate::current::{with_current, Current};
use crate::host::{Gate, Services};
use crate::{Level, Result};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The host between calls (rule R27): its log, its functions and its answers, for threads that go on while no call runs.
/// [`Context::background`](crate::Context::background) gives it in `State::start`.
///
/// It may be cloned, kept in the state, and used on any thread. It never dangles: when the instance has stopped, the
/// host is out of reach for every clone. Imports are CANCELLED then, log lines are dropped, keys have no answer, and
/// [`cancelled`](Background::cancelled) is true.
///
/// **How stop joins.** `ferrule_stop` first cancels this: the threads are to look at `cancelled` now and then, and to come
/// to their end. It then runs [`State::stop`](crate::State::stop) and drops the state, with which the senders and handles
/// that the threads wait for end as well. At last it joins every thread of [`spawn`](Background::spawn), and waits for
/// uses of this that have not returned. A thread that does not come to its end keeps the host waiting. When
/// `State::start` fails or panics, what it has made is dropped first; then this is cancelled, and the threads are joined.
///
/// ```
/// use ferrule::{Background, Context, Level, State};
/// use std::time::Duration;
///
/// struct Clock;
///
/// impl State for Clock {
///     type Config = ();
///
///     fn start(ctx: &Context, _config: ()) -> ferrule::Result<Clock> {
///         ctx.background()?.spawn(|host: &Background| {
///             while !host.sleep(Duration::from_secs(1)) {
///                 host.log(Level::Debug, "tick");
///             }
///         })?;
///         Ok(Clock)
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Background {
    gate: Arc<Gate>,
    services: Arc<Services>,
}

impl Background {
    pub(crate) fn new(gate: Arc<Gate>) -> Background {
        Background { services: Arc::new(Services::Background(Arc::clone(&gate))), gate }
    }

    /// Starts a thread that runs `work`, and is joined when the instance stops. This is the current call of the thread:
    /// imports and the `log` crate's macros work there. A panic ends the thread, and is an error line in the host's log.
    ///
    /// Fails when the system gives no thread, and with CANCELLED when the instance stops.
    pub fn spawn(&self, work: impl FnOnce(&Background) + Send + 'static) -> Result<()> {
        let this = self.clone();
        self.gate.spawn(move || this.scope(|| work(&this)))
    }

    /// Is the instance about to stop? Every thread that uses this looks at it now and then. Costs a lock.
    pub fn cancelled(&self) -> bool {
        self.services.cancelled()
    }

    /// As [`Context::log`](crate::Context::log).
    pub fn log(&self, level: Level, message: impl fmt::Display) {
        self.services.log(level, message, &[]);
    }

    /// As [`Context::log_with`](crate::Context::log_with).
    pub fn log_with(&self, level: Level, message: impl fmt::Display, fields: &[(&str, &dyn fmt::Display)]) {
        self.services.log_with(level, message, fields);
    }

    /// As [`Context::info`](crate::Context::info).
    pub fn info(&self, key: &str) -> Option<String> {
        self.services.info(key)
    }

    /// As [`Context::scope`](crate::Context::scope), for threads that were not started by
    /// [`spawn`](Background::spawn).
    pub fn scope<R>(&self, work: impl FnOnce() -> R) -> R {
        match with_current(|current| std::ptr::eq(current.services, &*self.services)) {
            Some(true) => work(),
            _ => Current::of_scope(&self.services).run(work),
        }
    }

    /// Waits until `timeout` has passed, or until the instance stops; true when it is about to. For threads that do
    /// something from time to time.
    pub fn sleep(&self, timeout: Duration) -> bool {
        self.gate.sleep(timeout);
        self.cancelled()
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background").field("cancelled", &self.cancelled()).finish_non_exhaustive()
    }
}
