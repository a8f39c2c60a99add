//! Write native plug-ins for [Ferrule] hosts in ordinary Rust.
//!
//! A plug-in is a `cdylib` crate with one [`plugin!`] in its root and an attribute on each function:
//!
//! ```
//! ferrule::plugin!(name: "vowels", version: env!("CARGO_PKG_VERSION"));
//!
//! /// Counts the vowels of a text.
//! #[ferrule::export]
//! fn count_vowels(text: &str) -> String {
//!     text.chars().filter(|c| "aeiouAEIOU".contains(*c)).count().to_string()
//! }
//! # fn main() { assert_eq!(count_vowels("Ferrule"), "3") }
//! ```
//!
//! | item | what it is for |
//! |---|---|
//! | [`plugin!`] | the plug-in's name, version, thread rule and state |
//! | [`export`](macro@export) | a function that the host may call |
//! | [`hook`](macro@hook) | attaches a function to an extension point of the host's |
//! | [`import`](macro@import) | a host function that the plug-in needs |
//! | [`Input`], [`Output`], [`Json`] | how bytes become parameters and results |
//! | [`Error`], [`Status`], [`Result`], [`Failure`] | failing, with `?` on errors of any kind |
//! | [`State`] | what an instance keeps between its calls |
//! | [`Context`] | the log, cancellation, and the plug-in's own threads |
//!
//! Panics are caught and reported to the host as such. The README is the manual.
//!
//! # Features
//! - `json` (default): [`Json`], with serde and serde_json
//! - `log`: the `log` crate's macros write to the host's log
//! - `testing`: `ferrule::testing`, a host for the plug-in's own tests
//!
//! [Ferrule]: https://github.com/ferrule-dev/ferrule

#![deny(unsafe_code, unsafe_op_in_unsafe_fn, missing_docs)]

// WebAssembly has no other; there the host outlives the plug-in's trap.
#[cfg(all(panic = "abort", not(target_family = "wasm")))]
compile_error!(
    "a Ferrule plug-in needs panic = \"unwind\": with panic = \"abort\" a panic in the plug-in would end the host's \
     process instead of becoming an error. Remove `panic = \"abort\"` from the profile in the workspace's Cargo.toml."
);

// So that the macros' `::ferrule` is this crate in its own tests, too.
#[cfg(test)]
extern crate self as ferrule;

// From bottom to top: abi, text, error; data, frame; host; current; stream, room, background; context, logger, panics;
// plugin, testing; entry. A module uses those below it, never one above: ferrule-macros/tests/modules.rs.
pub mod abi;
mod background;
mod context;
#[allow(unsafe_code)]
mod current;
mod data;
#[allow(unsafe_code)]
mod entry;
mod error;
#[allow(unsafe_code)]
mod frame;
#[allow(unsafe_code)]
mod host;
#[cfg(feature = "log")]
mod logger;
mod panics;
mod plugin;
#[allow(unsafe_code)]
mod room;
#[allow(unsafe_code)]
mod stream;
#[cfg(feature = "testing")]
pub mod testing;
#[allow(unsafe_code)]
mod text;
#[cfg(target_family = "wasm")]
#[allow(unsafe_code)]
mod wasm;

pub use background::Background;
pub use context::Context;
#[cfg(feature = "json")]
pub use data::Json;
pub use data::{Input, Output};
pub use error::{Error, Failure, Result, Status};
pub use ferrule_plugin_macros::{configure, export, hook, import, plugin, resume, save};
pub use host::Level;
pub use plugin::State;
pub use room::Room;
/// serde, for the types that [`Json`] holds. A plug-in that takes it from here needs no line for it in its Cargo.toml;
/// the attribute says so to serde's macros:
///
/// ```
/// #[derive(ferrule::serde::Deserialize)]
/// #[serde(crate = "ferrule::serde")]
/// struct Cart {
///     cents: u64,
/// }
/// # let ferrule::Json(cart): ferrule::Json<Cart> = ferrule::Input::from_bytes(br#"{"cents": 7}"#).unwrap();
/// # assert_eq!(cart.cents, 7);
/// ```
#[cfg(feature = "json")]
pub use serde;
pub use stream::{Reader, Writer};

/// What the macros expand to; no part of the public interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::current::{import, offers};
    pub use crate::data::{nothing_into_bytes, read_config, Imported, Nothing};
    pub use crate::entry::{batch, run, run_alone, start, stop, RawCall, RawFrames};
    pub use crate::plugin::{
        ferrule_plugin_macro, hands_over, has_format, AloneParam, Concurrent, HandsOver, Here, NoState, Pinned, Plugin,
        Resumes, Saves, Serial, StateIs, StateParam,
    };
    pub use crate::text::{config_schema, plugin_name, plugin_version, text, text_len, ConfigSchema};
    pub use std::sync::atomic::AtomicU32;

    /// Used where the author's package depends on the crate log: the compiler warns when its lines go nowhere.
    #[cfg_attr(
        not(feature = "log"),
        deprecated(
            note = "the package depends on the crate `log`, whose lines are dropped: add `features = [\"log\"]` to \
                    ferrule-plugin in Cargo.toml, and the host logs them"
        )
    )]
    #[allow(non_upper_case_globals)]
    pub const the_host_logs: () = ();
}
