//! Panics on their way to the host.
//!
//! A cdylib has a standard library of its own, and so a panic hook of its own: setting it touches nobody else's. The
//! usual one prints to standard error, which is the host's (rule R20); this one keeps the words for the host.

use crate::{ffi, Level};
use std::any::Any;
use std::panic::{set_hook, take_hook, Location};
use std::sync::Once;

/// What the hook saw.
pub struct Panic {
    message: String,
    place: String,
}

/// A panic within a call is kept for the funnel. One on a thread of the plug-in's own, inside
/// [`Context::scope`](crate::Context::scope), becomes an error line in the host's log. One on a thread that no call
/// runs on has nowhere to go but to the hook that was there before.
pub fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            let panic = || Panic { message: text(info.payload()).to_string(), place: place(info.location()) };
            let seen = ffi::with_current(|current| match current.panic {
                Some(slot) => slot.set(Some(panic())),
                None => current.context.log(Level::Error, format_args!("on a thread of the plug-in: {}", panic())),
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

impl std::fmt::Display for Panic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "panicked{}: {}", self.place, self.message)
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
