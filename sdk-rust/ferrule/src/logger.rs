//! The host as the logger of the `log` crate.

use crate::{ffi, Level};
use log::{LevelFilter, Log, Metadata, Record};
use std::sync::Once;

struct HostLogger;

impl Log for HostLogger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        ffi::with_current(|_| ()).is_some()
    }

    /// A line on a thread without a current call is dropped: there is no frame to hand to the host (rule R14).
    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            log::Level::Error => Level::Error,
            log::Level::Warn => Level::Warn,
            log::Level::Info => Level::Info,
            log::Level::Debug => Level::Debug,
            log::Level::Trace => Level::Trace,
        };
        ffi::with_current(|current| current.context.log(level, record.args()));
    }

    fn flush(&self) {}
}

/// Makes the host the logger, unless the author has set another one. The host decides which levels it keeps.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if log::set_logger(&HostLogger).is_ok() {
            log::set_max_level(LevelFilter::Trace);
        }
    });
}
