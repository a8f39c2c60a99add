//! `#[ferrule::import]`.

use crate::common;
use crate::sdk::Sdk;
use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{format_ident, quote, quote_spanned, ToTokens};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ForeignItemFn, Result, ReturnType};

const ATTRIBUTE: &str = "import";

pub fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    common::no_arguments(ATTRIBUTE, &arguments)?;
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

    let name = common::symbol_name(&signature.ident);
    let slot = format_ident!("ferrule_import_{}", name, span = Span::call_site());
    let meta = format_ident!("ferrule_meta_import_{}", name, span = Span::call_site());
    let meta = common::meta(&sdk, &meta, &function.attrs, input, quote!(#output::MEDIA_TYPE));
    let (attributes, visibility) = (&function.attrs, &function.vis);
    let cfgs = common::cfgs(attributes);
    Ok(quote! {
        #(#attributes)*
        #visibility #signature {
            #[no_mangle]
            pub static #slot: #sdk_here::__private::AtomicU32 =
                #sdk_here::__private::AtomicU32::new(#sdk_here::abi::UNBOUND);
            #output::from_answer(#sdk_here::__private::import(&#slot, #name, #value))
        }
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
