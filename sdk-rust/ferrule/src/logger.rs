//! The host as the logger of the `log` crate.

use crate::current::with_current;
use crate::host::Field;
use crate::Level;
use log::kv::{Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};
use std::sync::Once;

struct HostLogger;

impl Log for HostLogger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        with_current(|_| ()).is_some()
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
        with_current(|current| {
            let mut fields = Fields(Vec::new());
            // A visitor that never fails.
            let _ = record.key_values().visit(&mut fields);
            current.services.log(level, record.args(), &fields.0);
        });
    }

    fn flush(&self) {}
}

/// Takes the fields of a record, as `log::info!(width = 7; "resized")` has them.
struct Fields(Vec<Field>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
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

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::testing::Host;

    #[test]
    fn the_macros_of_log_write_to_the_current_call() {
        let host = Host::new();
        host.run(|_| {
            log::error!("{}", 1);
            log::warn!("2");
            log::info!("3");
            log::debug!("4");
            log::trace!("5\n");
            assert!(log::log_enabled!(log::Level::Trace));
        });
        let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
        let want: Vec<_> = levels.iter().zip(1..).map(|(level, number)| (*level, number.to_string())).collect();
        assert_eq!(host.lines(), want);
    }

    #[test]
    fn the_fields_of_a_record_are_those_of_the_line() {
        let host = Host::new();
        host.run(|_| log::info!(width = 7, name:? = "a"; "resized"));
        assert_eq!(host.lines(), [(Level::Info, "resized".to_string())]);
        let field = |key: &str, value: &str| (key.to_string(), value.to_string());
        assert_eq!(host.fields(), [[field("width", "7"), field("name", "\"a\"")]]);
    }

    #[test]
    fn without_a_call_nothing_is_enabled_and_a_line_is_dropped() {
        let host = Host::new();
        host.run(|_| {
            let elsewhere = std::thread::spawn(|| {
                log::error!("lost");
                log::log_enabled!(log::Level::Error)
            });
            assert!(!elsewhere.join().unwrap());
        });
        assert!(host.lines().is_empty(), "{:?}", host.lines());
    }
}
