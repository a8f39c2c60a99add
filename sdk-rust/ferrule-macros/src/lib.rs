//! The macros of the crate `ferrule`, which re-exports them. This crate is of no use on its own.
//!
//! What they expand to is safe code that calls `ferrule::__private`; its `#[no_mangle]` attributes are written with
//! this crate's edition, 2021, so that authors on edition 2024 need no `#[unsafe(no_mangle)]` either.

mod function;
mod import;
mod plugin;

use proc_macro::TokenStream;
use proc_macro2::{Group, Ident, Punct, Spacing, TokenStream as TokenStream2, TokenTree};

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

/// Checks what would make a wrong symbol or a wrong call, for exports, hooks and imports alike.
fn check_signature(attribute: &str, signature: &syn::Signature) -> syn::Result<()> {
    let refuse = |tokens: &dyn quote::ToTokens, what: &str| {
        Err(syn::Error::new_spanned(tokens, format!("#[ferrule::{attribute}]: {what}")))
    };
    if let Some(asyncness) = &signature.asyncness {
        return refuse(asyncness, "the function is async; the host waits for it on its own thread, so remove `async`");
    }
    if let Some(unsafety) = &signature.unsafety {
        return refuse(unsafety, "the function is unsafe; the host calls it with any bytes, so it must be safe");
    }
    if let Some(abi) = &signature.abi {
        return refuse(abi, "the function is an ordinary one; remove `extern`, the macro adds what the host calls");
    }
    let is_type = |parameter: &&syn::GenericParam| !matches!(parameter, syn::GenericParam::Lifetime(_));
    if let Some(parameter) = signature.generics.params.iter().find(is_type) {
        return refuse(parameter, "the function is generic; a symbol is one function, so name the type");
    }
    if let Some(clause) = &signature.generics.where_clause {
        return refuse(clause, "the function is generic; a symbol is one function, so remove the `where`");
    }
    let name = symbol_name(&signature.ident);
    if !name.is_ascii() {
        return refuse(&signature.ident, "the name becomes a symbol; use ASCII letters, digits and `_` (rule R2)");
    }
    if name.len() > 128 {
        return refuse(&signature.ident, "the name becomes a symbol; use 128 bytes at most (rule R2)");
    }
    for input in &signature.inputs {
        match input {
            syn::FnArg::Receiver(receiver) => {
                return refuse(receiver, "a method cannot be exported; take the state as a parameter: `state: &State`");
            }
            syn::FnArg::Typed(parameter) => {
                if let syn::Type::ImplTrait(implement) = &*parameter.ty {
                    return refuse(implement, "the function is generic; a symbol is one function, so name the type");
                }
            }
        }
    }
    if let syn::ReturnType::Type(_, ty) = &signature.output {
        if let syn::Type::ImplTrait(implement) = &**ty {
            return refuse(implement, "name the type that the function returns");
        }
    }
    Ok(())
}

/// Refuses arguments of an attribute, which has none.
fn no_arguments(attribute: &str, arguments: &TokenStream2) -> syn::Result<()> {
    match arguments.is_empty() {
        true => Ok(()),
        false => Err(syn::Error::new_spanned(arguments, format!("#[ferrule::{attribute}] takes no arguments"))),
    }
}

/// The name that a symbol ends in.
fn symbol_name(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map_or(name.clone(), String::from)
}

/// The `#[cfg]` of an item: what is added to the item has to come and go with it.
fn cfgs(attributes: &[syn::Attribute]) -> Vec<&syn::Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect()
}

/// The item that holds the text about a symbol. `input` and `output` are expressions: media types.
fn meta(symbol: &Ident, attributes: &[syn::Attribute], input: TokenStream2, output: TokenStream2) -> TokenStream2 {
    let doc = doc(attributes);
    text(symbol, quote::quote! { ("doc", #doc), ("in", #input), ("out", #output) })
}

/// A static with `key=value` texts; `pairs` are `(key, value)` expressions.
fn text(symbol: &Ident, pairs: TokenStream2) -> TokenStream2 {
    quote::quote! {
        const FERRULE_PAIRS: &[(&str, &str)] = &[#pairs];
        const FERRULE_LEN: usize = ::ferrule::__private::text_len(FERRULE_PAIRS);
        #[no_mangle]
        pub static #symbol: [u8; FERRULE_LEN] = ::ferrule::__private::text(FERRULE_PAIRS);
    }
}

/// The doc comment as one expression of type `&str`: a line for each `#[doc]`, without the blank that `///` leaves.
fn doc(attributes: &[syn::Attribute]) -> TokenStream2 {
    let mut pieces = Vec::new();
    for attribute in attributes {
        let value = match &attribute.meta {
            syn::Meta::NameValue(doc) if doc.path.is_ident("doc") => &doc.value,
            _ => continue,
        };
        if !pieces.is_empty() {
            pieces.push(quote::quote!("\n"));
        }
        pieces.push(match value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(line), .. }) => {
                let line = line.value();
                let line = line.strip_prefix(' ').unwrap_or(&line);
                quote::quote!(#line)
            }
            other => quote::quote!(#other),
        });
    }
    quote::quote!(::core::concat!(#(#pieces),*))
}

/// Replaces the function's own lifetimes, which have no name outside of it, by `'_`.
fn elide_lifetimes(tokens: TokenStream2) -> TokenStream2 {
    let mut tokens = tokens.into_iter();
    let mut out = TokenStream2::new();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => {
                let mut elided = Group::new(group.delimiter(), elide_lifetimes(group.stream()));
                elided.set_span(group.span());
                out.extend([TokenTree::Group(elided)]);
            }
            TokenTree::Punct(tick) if tick.as_char() == '\'' => {
                let name = match tokens.next() {
                    Some(TokenTree::Ident(name)) if name != "static" => Ident::new("_", name.span()),
                    Some(TokenTree::Ident(name)) => name,
                    other => unreachable!("a lifetime without a name: {other:?}"),
                };
                let mut joint = Punct::new('\'', Spacing::Joint);
                joint.set_span(tick.span());
                out.extend([TokenTree::Punct(joint), TokenTree::Ident(name)]);
            }
            other => out.extend([other]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    #[test]
    fn lifetimes() {
        let elided = elide_lifetimes(quote!(Result<&'a [Json<Cart<'a>>], &'static str>));
        assert_eq!(elided.to_string(), quote!(Result<&'_ [Json<Cart<'_>>], &'static str>).to_string());
    }
}
