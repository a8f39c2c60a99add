//! The macros of the crate `ferrule`, of the package ferrule-plugin, which re-exports them. This crate is of no use on its own.
//!
//! What they expand to is safe code that calls `ferrule::__private`; its `#[no_mangle]` attributes are written with
//! this crate's edition, 2021, so that authors on edition 2024 need no `#[unsafe(no_mangle)]` either.

mod common;
mod function;
mod import;
mod plugin;
mod sdk;
mod toml;

use proc_macro::TokenStream;

/// Says what the library is: once in each plug-in, in the crate's root.
///
/// ```
/// # struct Counter;
/// # impl ferrule::State for Counter {
/// #     fn start(_: &ferrule::Context, _: &[u8]) -> ferrule::Result<Counter> {
/// #         Ok(Counter)
/// #     }
/// # }
/// ferrule::plugin!(
///     name: "counter",                        // letters, digits, _, - and .
///     version: env!("CARGO_PKG_VERSION"),
///     threads: "serial",                      // or "concurrent" or "pinned"; "serial" when left out
///     state: Counter,                         // implements ferrule::State; may be left out
///     description: "Counts what it is given",
///     "homepage": "https://example.org",      // any further key: a name or a string, of a-z, 0-9, _, - and .
/// );
/// # fn main() {}
/// ```
///
/// `name:` and `version:` must be there. Values are constants of type `&str`; that of `threads:` is a literal. A key
/// with an empty value is left out of the manifest.
///
/// It defines the symbols `ferrule_manifest` and `ferrule_batch`, with `state:` also `ferrule_start` and
/// `ferrule_stop`.
#[proc_macro]
pub fn plugin(input: TokenStream) -> TokenStream {
    plugin::expand(input.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Exports a function to the host, under its own name.
///
/// ```
/// # ferrule::plugin!(name: "vowels", version: "1.0.0");
/// /// Counts the vowels of a text.
/// #[ferrule::export]
/// fn count_vowels(text: &str) -> String {
///     text.chars().filter(|c| "aeiouAEIOU".contains(*c)).count().to_string()
/// }
/// # fn main() {}
/// ```
///
/// The doc comment becomes the function's documentation in the library.
///
/// Its parameters, each at most once and in any order: the input (`&[u8]`, `&str`, `String`, `Vec<u8>`, `Json<T>` or a
/// type that implements `ferrule::Input`), the state (`&T` or `&mut T` with the `T` of `plugin!`'s `state:`), and
/// `&Context`. It returns `()`, `&[u8]`, `&str`, `String`, `Vec<u8>`, `Json<T>`, a type that implements
/// `ferrule::Output`, or a `Result` of one of them.
///
/// The function stays an ordinary one: call it from tests and from other functions.
#[proc_macro_attribute]
pub fn export(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(function::Kind::Export, arguments.into(), item.into()).into()
}

/// Attaches a function to the extension point of the host's that has the function's name. Everything else is as with
/// `export`.
#[proc_macro_attribute]
pub fn hook(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(function::Kind::Hook, arguments.into(), item.into()).into()
}

/// Declares a host function that the plug-in needs: a host that does not offer it refuses the library when it opens it.
///
/// ```
/// # use ferrule::Json;
/// # ferrule::plugin!(name: "points", version: "1.0.0");
/// /// How many points a customer has collected.
/// #[ferrule::import]
/// fn loyalty_points(customer: &str) -> ferrule::Result<Json<u64>>;
/// # fn main() {}
/// ```
///
/// It has no parameter or one, of what a function may return, and returns a `Result` of an owned input: `()`,
/// `String`, `Vec<u8>`, `Json<T>` or a type that implements `ferrule::Input`. It works on the thread on which the host
/// called the plug-in, and on others within `Context::scope`; elsewhere it returns an error.
#[proc_macro_attribute]
pub fn import(arguments: TokenStream, item: TokenStream) -> TokenStream {
    import::expand(arguments.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
