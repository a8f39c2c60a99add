//! `#[ferrule::import]`.

use crate::common;
use crate::keys::{self, Keys};
use crate::sdk::Sdk;
use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{format_ident, quote, quote_spanned, ToTokens};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ForeignItemFn, Result, ReturnType};

const ATTRIBUTE: &str = "import";

pub fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let keys = Keys::parse(ATTRIBUTE, arguments, &[keys::IMPORT])?;
    let function: ForeignItemFn = syn::parse2(item).map_err(|error| {
        Error::new(
            error.span(),
            format!(
                "#[ferrule::import] goes on a function without a body, \
                 `fn name(input: &str) -> ferrule::Result<String>;`: {error}"
            ),
        )
    })?;
    let signature = &function.sig;
    common::check_signature(ATTRIBUTE, signature)?;
    let sdk = Sdk::find()?;
    let sdk_here = sdk.at(Span::call_site());

    let mut arguments = signature.inputs.iter();
    let (value, input) = match arguments.next() {
        Some(FnArg::Typed(parameter)) => {
            let ty = &parameter.ty;
            let name = match &*parameter.pat {
                syn::Pat::Ident(name) => &name.ident,
                other => return Err(Error::new_spanned(other, "#[ferrule::import]: give the parameter a name")),
            };
            let elided = common::elide_lifetimes(ty.to_token_stream());
            let sdk = sdk.at(ty.span());
            let output = quote_spanned!(ty.span()=> <#elided as #sdk::Output>);
            (quote!(#output::into_bytes(#name)), quote!(#output::MEDIA_TYPE))
        }
        _ => (quote!(#sdk_here::Output::into_bytes(())), quote!("")),
    };
    if let Some(second) = arguments.next() {
        return Err(Error::new_spanned(
            second,
            "#[ferrule::import]: a second parameter; put several values into one type, and pass `Json<T>` of it",
        ));
    }
    let output = match &signature.output {
        ReturnType::Type(_, ty) => ty,
        ReturnType::Default => {
            return Err(Error::new_spanned(
                signature,
                "#[ferrule::import]: a host function can fail: return `ferrule::Result<()>`",
            ));
        }
    };
    let borrows = |token: TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == '&');
    if output.to_token_stream().into_iter().any(borrows) {
        return Err(Error::new_spanned(
            output,
            "#[ferrule::import]: the answer is the plug-in's to keep; return an owned type, `String` or `Vec<u8>`",
        ));
    }
    let sdk_there = sdk.at(output.span());
    let output = quote_spanned!(output.span()=> <#output as #sdk_there::__private::Imported>);

    let ident = &signature.ident;
    let name = common::symbol_name(ident);
    let optional = keys.optional;
    let kind = if optional { "want" } else { "import" };
    let slot = format_ident!("ferrule_{}_{}", kind, name, span = Span::call_site());
    let meta = format_ident!("ferrule_meta_{}_{}", kind, name, span = Span::call_site());
    let meta = common::meta(&sdk, &meta, &function.attrs, input, quote!(#output::MEDIA_TYPE), keys.pairs());
    let (attributes, visibility) = (&function.attrs, &function.vis);
    let cfgs = common::cfgs(attributes);
    // A module has the name of a function beside it: `points::offered()` and `points("ada")`.
    let module = optional.then(|| {
        let doc = format!("About the optional import [`{name}`]({name}()).");
        quote! {
            #(#cfgs)*
            #[doc = #doc]
            #visibility mod #ident {
                /// Does the host offer it (rule R26)? False as well in a host that is older than optional imports, and on a
                /// thread without a current call.
                #[allow(dead_code)]
                pub fn offered() -> bool {
                    #sdk_here::__private::offers(#name)
                }
            }
        }
    });
    Ok(quote! {
        #(#attributes)*
        #visibility #signature {
            #[no_mangle]
            pub static #slot: #sdk_here::__private::AtomicU32 =
                #sdk_here::__private::AtomicU32::new(#sdk_here::abi::UNBOUND);
            #output::from_answer(#name, #sdk_here::__private::import(&#slot, #name, #optional, #value))
        }
        #module
        #(#cfgs)*
        const _: () = { #meta };
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_is_a_function_with_a_slot() {
        let item = quote!(
            #[cfg(unix)]
            pub(crate) fn points(customer: &str) -> ferrule::Result<String>;
        );
        let text = expand(TokenStream::new(), item).unwrap().to_string();
        let head = quote!(#[cfg(unix)] pub(crate) fn points(customer: &str) -> ferrule::Result<String>);
        assert!(text.starts_with(&format!("{head} {{")), "{text}");
        assert!(text.contains("static ferrule_import_points :"), "{text}");
        assert!(text.contains("static ferrule_meta_import_points :"), "{text}");
        // The condition is on the function and on its meta text.
        assert_eq!(text.matches(&quote!(#[cfg(unix)]).to_string()).count(), 2, "{text}");
    }

    #[test]
    fn an_optional_import_has_another_slot_and_a_module() {
        let item = quote!(
            #[cfg(unix)]
            pub(crate) fn points(customer: &str) -> ferrule::Result<String>;
        );
        let text = expand(quote!(optional, why = "for the map"), item).unwrap().to_string();
        assert!(text.contains("static ferrule_want_points :"), "{text}");
        assert!(text.contains("static ferrule_meta_want_points :"), "{text}");
        assert!(text.contains(&quote!(("why", "for the map")).to_string()), "{text}");
        assert!(text.contains("pub (crate) mod points {"), "{text}");
        assert_eq!(text.matches(&quote!(#[cfg(unix)]).to_string()).count(), 3, "{text}");
    }

    #[test]
    fn what_an_import_cannot_be() {
        for (item, want) in [
            (
                quote!(
                    fn f() -> Result<()> {}
                ),
                "without a body",
            ),
            (
                quote!(
                    fn f(a: u8, b: u8) -> Result<()>;
                ),
                "a second parameter",
            ),
            (
                quote!(
                    fn f((a, b): (u8, u8)) -> Result<()>;
                ),
                "give the parameter a name",
            ),
            (
                quote!(
                    fn f(a: u8);
                ),
                "return `ferrule::Result<()>`",
            ),
            (
                quote!(
                    fn f() -> Result<&'static str>;
                ),
                "return an owned type",
            ),
            (
                quote!(
                    fn f<T>(a: T) -> Result<()>;
                ),
                "generic",
            ),
        ] {
            let error = expand(TokenStream::new(), item).unwrap_err().to_string();
            assert!(error.contains("#[ferrule::import]") && error.contains(want), "{error}");
        }
    }
}
