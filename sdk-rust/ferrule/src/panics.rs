//! Panics on their way to the host.
//!
//! A cdylib has a standard library of its own, and so a panic hook of its own: setting it touches nobody else's. The
//! usual one prints to standard error, which is the host's (rule R20); this one keeps the words for the host.

use crate::current::{with_current, Panic};
use crate::Level;
use std::any::Any;
use std::panic::{set_hook, take_hook, Location};
use std::sync::Once;

/// A panic within a call is kept for the funnel. One on a thread of the plug-in's own, inside
/// [`Context::scope`](crate::Context::scope), becomes an error line in the host's log. One on a thread that no call
/// runs on has nowhere to go but to the hook that was there before.
pub fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            let panic = || Panic { message: text(info.payload()).to_string(), place: place(info.location()) };
            let seen = with_current(|current| match current.panic {
                // Where nothing unwinds, as in WebAssembly, no funnel will tell the host.
                #[cfg(target_family = "wasm")]
                Some(_) if cfg!(panic = "abort") => crate::wasm::leave(panic().to_string()),
                Some(slot) => slot.set(Some(panic())),
                None => {
                    current.services.log(Level::Error, format_args!("on a thread of the plug-in: {}", panic()), &[])
                }
            });
            if seen.is_none() {
                previous(info);
            }
        }));
    });
}

/// The message for the host. `seen` is the last panic that the hook saw; it is another one when the author's code
/// caught that, and then went on with a payload that no hook sees (`resume_unwind`).
pub fn describe(payload: Box<dyn Any + Send>, seen: Option<Panic>) -> String {
    let message = text(&*payload).to_string();
    if !payload.is::<&'static str>() && !payload.is::<String>() {
        // Its drop is the author's, and could panic outside of the funnel.
        std::mem::forget(payload);
    }
    match seen {
        Some(panic) if panic.message == message => panic.to_string(),
        _ => Panic { message, place: String::new() }.to_string(),
    }
}

fn place(location: Option<&Location<'_>>) -> String {
    location.map_or(String::new(), |location| format!(" at {location}"))
}

fn text(payload: &(dyn Any + Send)) -> &str {
    match payload.downcast_ref::<&'static str>() {
        Some(text) => text,
        None => payload.downcast_ref::<String>().map_or("a payload that is not text", |text| text),
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::current::Current;
    use crate::host::Services;
    use crate::testing::Host;
    use std::cell::Cell;
    use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

    fn seen(message: &str) -> Option<Panic> {
        Some(Panic { message: message.to_string(), place: " at lib.rs:1:2".to_string() })
    }

    #[test]
    fn a_payload_is_described_with_the_place_of_its_own_panic() {
        assert_eq!(describe(Box::new("no"), seen("no")), "panicked at lib.rs:1:2: no");
        assert_eq!(describe(Box::new("no".to_string()), seen("no")), "panicked at lib.rs:1:2: no");
        // The hook saw another one, which the author's code has caught, or none.
        assert_eq!(describe(Box::new("no"), seen("yes")), "panicked: no");
        assert_eq!(describe(Box::new("no"), None), "panicked: no");
    }

    #[test]
    fn a_payload_that_is_not_text_is_not_dropped() {
        struct Loud;
        impl Drop for Loud {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        assert_eq!(describe(Box::new(Loud), None), "panicked: a payload that is not text");
    }

    /// Runs `work` as the funnel does, on a call of `host`; gives what the hook left for it.
    fn in_call(host: &Host, work: impl FnOnce()) -> Option<Panic> {
        install_hook();
        let services = Services::Testing(Box::new(host.clone()));
        let slot = Cell::new(None);
        let current = Current::of_call(&services, &slot);
        let _ = catch_unwind(AssertUnwindSafe(|| current.run(work)));
        slot.take()
    }

    #[test]
    fn a_panic_in_a_call_is_kept_for_the_funnel() {
        let host = Host::new();
        let (line, panic) = (line!(), in_call(&host, || panic!("number {}", 7)));
        let panic = panic.expect("the hook has seen it");
        assert_eq!(panic.message, "number 7");
        assert!(panic.place.contains(&format!("panics.rs:{line}:")), "{}", panic.place);
        assert!(host.lines().is_empty(), "{:?}", host.lines());
    }

    #[test]
    fn what_unwinds_without_a_panic_is_not_seen() {
        assert!(in_call(&Host::new(), || resume_unwind(Box::new("quiet"))).is_none());
    }

    #[test]
    fn a_panic_on_a_thread_of_the_plug_in_is_a_line_in_the_log() {
        install_hook();
        let host = Host::new();
        host.run(|ctx| {
            std::thread::scope(|threads| {
                threads.spawn(|| ctx.scope(|| panic!("far away"))).join().unwrap_err();
            });
        });
        let lines = host.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0].0, Level::Error);
        assert!(lines[0].1.starts_with("on a thread of the plug-in: panicked at "), "{lines:?}");
        assert!(lines[0].1.ends_with(": far away"), "{lines:?}");
    }
}
