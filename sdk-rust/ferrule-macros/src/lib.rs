//! The macros of the crate `ferrule`, of the package ferrule-plugin, which re-exports them. This crate is of no use on its own.
//!
//! What they expand to is safe code that calls `ferrule::__private`; its `#[no_mangle]` attributes are written with
//! this crate's edition, 2021, so that authors on edition 2024 need no `#[unsafe(no_mangle)]` either.

mod common;
mod function;
mod import;
mod keys;
mod plugin;
mod sdk;
mod toml;

use proc_macro::TokenStream;

/// Says what the library is: once in each plug-in, in the crate's root.
///
/// ```
/// # struct Counter;
/// # impl ferrule::State for Counter {
/// #     type Config = ();
/// #
/// #     fn start(_: &ferrule::Context, _: ()) -> ferrule::Result<Counter> {
/// #         Ok(Counter)
/// #     }
/// # }
/// ferrule::plugin!(
///     name: "counter",                        // letters, digits, _, - and .
///     version: env!("CARGO_PKG_VERSION"),
///     threads: "serial",                      // or "concurrent" or "pinned"; "serial" when left out
///     state: Counter,                         // implements ferrule::State; may be left out
///     description: "Counts what it is given",
///     config_schema: "{\"type\": \"object\"}",  // the schema of the configuration: include_str!("config.json")
///     requires: ["auth", "cache"],            // a list; an integer may stand as it is, too
///     "homepage": "https://example.org",      // any further key: a name or a string, of a-z, 0-9, _, - and .
/// );
/// # fn main() {}
/// ```
///
/// `name:` and `version:` must be there. Values are constants of type `&str`; that of `threads:` is a literal. A key
/// with an empty value is left out of the manifest. `state_format:` is the manifest's `state=`: the format in which
/// [`save`](macro@save) and [`resume`](macro@resume) hand the state over.
///
/// It defines the symbols `ferrule_manifest` and `ferrule_batch`, with `state:` also `ferrule_start` and
/// `ferrule_stop`, with `config_schema:` also `ferrule_meta_config`.
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
/// `&Context`; `&mut Reader` and `&mut Writer`, the call's streams, and `&mut Room`, into which the result is written. It
/// returns `()`, `&[u8]`, `&str`, `String`, `Vec<u8>`, `Json<T>`, a type that implements `ferrule::Output`, or a `Result`
/// or an `Option` of one of them; `None` says that it has nothing to say to this input (rule R22).
///
/// The attribute takes keys of the function's meta text (rule R32): `in` and `out`, which are otherwise the media types
/// of the parameter and the result, `schema`, `in_schema`, `out_schema`, `since`, `deprecated`, `idempotent`, and `quick`
/// (rule R34). A key of your own is a string:
///
/// ```
/// # ferrule::plugin!(name: "thumbs", version: "1.0.0");
/// #[ferrule::export(in = "image/png", out = "image/png", since = "1.2", idempotent, "x-cost" = "high")]
/// fn thumbnail(picture: &[u8]) -> Vec<u8> {
///     picture[..picture.len() / 2].to_vec()
/// }
/// # fn main() {}
/// ```
///
/// What the function streams is said by its parameters: `stream=in`, `out` or `both`.
///
/// The function stays an ordinary one: call it from tests and from other functions.
#[proc_macro_attribute]
pub fn export(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(function::Kind::Export, arguments.into(), item.into()).into()
}

/// Attaches a function to the extension point of the host's that has the function's name. Everything else is as with
/// `export`.
///
/// Its keys are those of `export`, and where it stands among the hooks of its point: `order` (`"first"` or `"last"`),
/// `before` and `after` (names, one or a list), `priority` (an integer), `optional`, and `wrap`, with which it stands
/// around the hooks behind it and runs them with `Context::next`:
///
/// ```
/// # ferrule::plugin!(name: "cached", version: "1.0.0");
/// #[ferrule::hook(wrap, order = "first", before = ["log", "auth"], priority = 10)]
/// fn page(ctx: &ferrule::Context, path: &str) -> ferrule::Result<Vec<u8>> {
///     match path {
///         "/health" => Ok(b"fine".to_vec()),
///         path => ctx.next(path),
///     }
/// }
/// # fn main() {}
/// ```
#[proc_macro_attribute]
pub fn hook(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(function::Kind::Hook, arguments.into(), item.into()).into()
}

/// Takes new settings while the instance runs (rule R28): the configuration's new bytes are the input. Once in a plug-in;
/// without it the host makes new instances.
///
/// ```
/// # use ferrule::{Context, Result, State};
/// ferrule::plugin!(name: "limit", version: "1.0.0", threads: "concurrent", state: Limit);
///
/// struct Limit(u64);
///
/// impl State for Limit {
///     type Config = String;
///
///     fn start(_ctx: &Context, config: String) -> Result<Limit> {
///         Ok(Limit(config.parse()?))
///     }
/// }
///
/// #[ferrule::configure]
/// fn configure(limit: &mut Limit, config: &str) -> Result<()> {
///     limit.0 = config.parse()?; // fails before anything changes
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// Parameters and results are as with `export`, without streams. No other call of the instance runs meanwhile, so the
/// state may be `&mut T` in a concurrent plug-in, too. When it fails, leave the state as it was: the host goes on with it.
#[proc_macro_attribute]
pub fn configure(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(function::Kind::Configure, arguments.into(), item.into()).into()
}

/// Gives an instance's state as bytes, which [`resume`](macro@resume) of its successor takes over (rule R29): when a new
/// version of the library takes the place of an old one, for instance. Once in a plug-in, with `resume`, and with
/// `state_format:` in `plugin!`.
///
/// ```
/// # use ferrule::{Context, Json, Result, State};
/// ferrule::plugin!(name: "counter", version: "1.0.0", state: Counter, state_format: "count-1");
///
/// struct Counter(u64);
///
/// impl State for Counter {
///     type Config = ();
///
///     fn start(_ctx: &Context, _config: ()) -> Result<Counter> {
///         Ok(Counter(0))
///     }
/// }
///
/// #[ferrule::save]
/// fn save(counter: &Counter) -> String {
///     counter.0.to_string()
/// }
///
/// #[ferrule::resume]
/// fn resume(counter: &mut Counter, saved: &str) -> Result<()> {
///     counter.0 = saved.parse()?;
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// Parameters and results are as with `configure`. The instance may go on afterwards, so leave it as it is.
#[proc_macro_attribute]
pub fn save(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(function::Kind::Save, arguments.into(), item.into()).into()
}

/// Takes over what [`save`](macro@save) of the predecessor gave, which is the input, right after `State::start` (rule R29).
/// When it fails, the host drops this instance, and the predecessor goes on. Parameters and results are as with
/// `configure`.
#[proc_macro_attribute]
pub fn resume(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(function::Kind::Resume, arguments.into(), item.into()).into()
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
/// called the plug-in, and on others within `Context::scope` or `Background::scope`; elsewhere it returns an error.
///
/// With `optional` the host need not offer it (rule R23). `offered()`, in a module of the function's name, asks
/// beforehand; where it is not offered, or the host is older than version 1.1, a call is UNSUPPORTED:
///
/// ```
/// # ferrule::plugin!(name: "map", version: "1.0.0");
/// /// Where an address is.
/// #[ferrule::import(optional, why = "to show the city", from = "geo", version = ">=2")]
/// fn city(address: &str) -> ferrule::Result<String>;
///
/// #[ferrule::export]
/// fn greet(address: &str) -> ferrule::Result<String> {
///     match city::offered() {
///         true => Ok(format!("Hello, {}!", city(address)?)),
///         false => Ok("Hello!".to_string()),
///     }
/// }
/// # fn main() {}
/// ```
///
/// The other keys are words for people and tools: `from`, `why` and `version`.
#[proc_macro_attribute]
pub fn import(arguments: TokenStream, item: TokenStream) -> TokenStream {
    import::expand(arguments.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
