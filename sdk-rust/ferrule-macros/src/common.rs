//! What the macros have in common: the checks of a signature, and the texts about a symbol.

use crate::sdk::Sdk;
use proc_macro2::{Group, Ident, Punct, Spacing, Span, TokenStream, TokenTree};

/// Checks what would make a wrong symbol or a wrong call, for exports, hooks and imports alike.
pub fn check_signature(attribute: &str, signature: &syn::Signature) -> syn::Result<()> {
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

/// Checks the bytes of a key (R3).
pub fn check_key(key: &syn::LitStr) -> syn::Result<()> {
    let name = key.value();
    let valid = |c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.');
    match !name.is_empty() && name.len() <= 64 && name.bytes().all(valid) {
        true => Ok(()),
        false => Err(syn::Error::new(key.span(), "a key is 1 to 64 bytes of `a-z`, `0-9`, `_`, `-` and `.` (rule R3)")),
    }
}

/// The name that a symbol ends in.
pub fn symbol_name(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map_or(name.clone(), String::from)
}

/// The `#[cfg]` of an item: what is added to the item has to come and go with it.
pub fn cfgs(attributes: &[syn::Attribute]) -> Vec<&syn::Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect()
}

/// The item that holds the text about a symbol. `input` and `output` are expressions: media types. `pairs` are further
/// ones, as for `text`.
pub fn meta(
    sdk: &Sdk,
    symbol: &Ident,
    attributes: &[syn::Attribute],
    input: TokenStream,
    output: TokenStream,
    pairs: TokenStream,
) -> TokenStream {
    let doc = doc(attributes);
    text(sdk, symbol, quote::quote! { ("doc", #doc), ("in", #input), ("out", #output), #pairs })
}

/// A static with `key=value` texts; `pairs` are `(key, value)` expressions.
pub fn text(sdk: &Sdk, symbol: &Ident, pairs: TokenStream) -> TokenStream {
    let sdk = sdk.at(Span::call_site());
    quote::quote! {
        const FERRULE_PAIRS: &[(&str, &str)] = &[#pairs];
        const FERRULE_LEN: usize = #sdk::__private::text_len(FERRULE_PAIRS);
        #[no_mangle]
        pub static #symbol: [u8; FERRULE_LEN] = #sdk::__private::text(FERRULE_PAIRS);
    }
}

/// The doc comment as one expression of type `&str`: a line for each `#[doc]`, without the blank that `///` leaves.
fn doc(attributes: &[syn::Attribute]) -> TokenStream {
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
pub fn elide_lifetimes(tokens: TokenStream) -> TokenStream {
    let mut tokens = tokens.into_iter();
    let mut out = TokenStream::new();
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

    #[test]
    fn a_doc_comment_is_one_text() {
        let item: syn::ItemFn = syn::parse_quote! {
            #[allow(dead_code)]
            /// One
            ///   two
            #[doc = include_str!("three")]
            fn f() {}
        };
        let want = quote!(::core::concat!("One", "\n", "  two", "\n", include_str!("three")));
        assert_eq!(doc(&item.attrs).to_string(), want.to_string());
        assert_eq!(doc(&[]).to_string(), quote!(::core::concat!()).to_string());
    }

    #[test]
    fn a_raw_name_is_a_symbol_without_its_mark() {
        let names = ["r#type", "kind", "r"].map(|name| symbol_name(&syn::parse_str(name).unwrap()));
        assert_eq!(names, ["type", "kind", "r"]);
    }

    #[test]
    fn only_conditions_are_copied() {
        let item: syn::ItemFn = syn::parse_quote! {
            #[cfg(unix)] #[inline] #[cfg(feature = "a")] #[cfg_attr(unix, inline)] fn f() {}
        };
        let cfgs: Vec<String> = cfgs(&item.attrs).iter().map(|cfg| quote!(#cfg).to_string()).collect();
        assert_eq!(cfgs, [quote!(#[cfg(unix)]).to_string(), quote!(#[cfg(feature = "a")]).to_string()]);
    }

    #[test]
    fn signatures_that_make_no_symbol() {
        let check = |text: &str| {
            let signature: syn::Signature = syn::parse_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            check_signature("export", &signature).map_err(|error| error.to_string())
        };
        let long = format!("fn {}()", "n".repeat(129));
        for (text, want) in [
            ("async fn f()", "async"),
            ("unsafe fn f()", "unsafe"),
            ("extern \"C\" fn f()", "`extern`"),
            ("fn f<T>(x: T)", "generic"),
            ("fn f<const N: usize>()", "generic"),
            ("fn f<'a>(x: &'a str) where 'a: 'static", "generic"),
            ("fn f(x: impl Sized)", "generic"),
            ("fn f() -> impl Sized", "name the type"),
            ("fn f(&self)", "method"),
            ("fn ä()", "ASCII"),
            (&long, "128 bytes"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.starts_with("#[ferrule::export]: ") && error.contains(want), "{text}: {error}");
        }
        for text in ["fn f()", "fn f<'a>(x: &'a str) -> &'a str", "const fn f(x: (u8, Vec<u8>)) -> Result<(), E>"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        assert_eq!(check(&format!("fn {}()", "n".repeat(128))), Ok(()));
    }
}
