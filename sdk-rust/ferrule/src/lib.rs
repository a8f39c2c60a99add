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
//! | [`Error`], [`Status`], [`Result`] | failing, with `?` on any error |
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

#[cfg(panic = "abort")]
compile_error!(
    "a Ferrule plug-in needs panic = \"unwind\": with panic = \"abort\" a panic in the plug-in would end the host's \
     process instead of becoming an error. Remove `panic = \"abort\"` from the profile in the workspace's Cargo.toml."
);

// So that the macros' `::ferrule` is this crate in its own tests, too.
#[cfg(test)]
extern crate self as ferrule;

// From bottom to top: abi, text, error; data, host; current; context, logger, panics; plugin, testing; entry. A module
// uses those below it, never one above: ferrule-macros/tests/modules.rs.
pub mod abi;
mod context;
#[allow(unsafe_code)]
mod current;
mod data;
#[allow(unsafe_code)]
mod entry;
mod error;
#[allow(unsafe_code)]
mod host;
#[cfg(feature = "log")]
mod logger;
mod panics;
mod plugin;
#[cfg(feature = "testing")]
pub mod testing;
mod text;

pub use context::Context;
#[cfg(feature = "json")]
pub use data::Json;
pub use data::{Input, Output};
pub use error::{Error, Result, Status};
pub use ferrule_plugin_macros::{export, hook, import, plugin};
pub use host::Level;
pub use plugin::State;

/// What the macros expand to; no part of the public interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::current::import;
    pub use crate::data::Imported;
    pub use crate::entry::{batch, run, start, stop, RawCall, RawFrames};
    pub use crate::plugin::{Concurrent, NoState, Pinned, Plugin, Serial, StateIs, StateParam};
    pub use crate::text::{plugin_name, plugin_version, text, text_len};
    pub use std::sync::atomic::AtomicU32;
}
