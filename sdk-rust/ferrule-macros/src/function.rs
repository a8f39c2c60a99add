//! `#[ferrule::export]` and `#[ferrule::hook]`.

use crate::common;
use crate::sdk::Sdk;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned, ToTokens};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, Result, ReturnType, Type};

/// Which of the two attributes.
#[derive(Clone, Copy)]
pub enum Kind {
    Export,
    Hook,
}

impl Kind {
    fn attribute(self) -> &'static str {
        match self {
            Kind::Export => "export",
            Kind::Hook => "hook",
        }
    }

    /// What its symbols have behind `ferrule_` and `ferrule_meta_`.
    fn prefix(self) -> &'static str {
        match self {
            Kind::Export => "fn",
            Kind::Hook => "hook",
        }
    }
}

/// The item as it was, and beside it the symbols or the error.
pub fn expand(kind: Kind, arguments: TokenStream, item: TokenStream) -> TokenStream {
    let added = symbols(kind, arguments, item.clone()).unwrap_or_else(Error::into_compile_error);
    quote! { #item #added }
}

fn symbols(kind: Kind, arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let attribute = kind.attribute();
    common::no_arguments(attribute, &arguments)?;
    let function: ItemFn = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), format!("#[ferrule::{attribute}] goes on a function: {error}")))?;
    let signature = &function.sig;
    common::check_signature(attribute, signature)?;
    let sdk = Sdk::find()?;

    // `crate::…` finds what `plugin!` defines; its name is what the author reads when the macro is missing.
    let plugin = quote!(crate::ferrule_plugin_macro);
    // Hygienic, so that the author's function may have one of these names.
    let local = |name| Ident::new(name, Span::mixed_site());
    let (call, bytes, context, state) = (local("call"), local("bytes"), local("context"), local("state"));
    let mut input: Option<TokenStream> = None;
    let mut has_state = false;
    let mut has_context = false;
    let mut values = Vec::new();
    for parameter in &signature.inputs {
        let parameter = match parameter {
            FnArg::Typed(parameter) => parameter,
            FnArg::Receiver(_) => unreachable!("check_signature refuses it"),
        };
        let ty = common::elide_lifetimes(parameter.ty.to_token_stream());
        let span = parameter.ty.span();
        let (seen, what) = match role(&parameter.ty) {
            Role::Context => {
                values.push(quote_spanned!(span=> #context));
                (std::mem::replace(&mut has_context, true), "a second `&Context`")
            }
            Role::State => {
                let sdk = sdk.at(span);
                values.push(quote_spanned!(span=>
                    <#ty as #sdk::__private::StateParam<'_, #plugin>>::from_state(#state)
                ));
                (
                    std::mem::replace(&mut has_state, true),
                    "a second state; only `&str` and `&[u8]` are inputs by reference",
                )
            }
            Role::Input => {
                let sdk = sdk.at(span);
                values.push(quote_spanned!(span=> <#ty as #sdk::Input<'_>>::from_bytes(#bytes)?));
                let media_type = quote_spanned!(span=> <#ty as #sdk::Input<'_>>::MEDIA_TYPE);
                (
                    input.replace(media_type).is_some(),
                    "a second input; put several values into one type, and take `Json<T>` of it",
                )
            }
        };
        if seen {
            return Err(Error::new(span, format!("#[ferrule::{attribute}]: {what}")));
        }
    }

    let (output, output_span) = match &signature.output {
        ReturnType::Default => (quote!(()), signature.ident.span()),
        ReturnType::Type(_, ty) => (common::elide_lifetimes(ty.to_token_stream()), ty.span()),
    };
    let sdk_there = sdk.at(output_span);
    let output_type = quote_spanned!(output_span=> <#output as #sdk_there::Output>::MEDIA_TYPE);
    let output = quote_spanned!(output_span=> <#output as #sdk_there::Output>::into_bytes);
    let input = input.unwrap_or_else(|| quote!(""));

    let ident = &signature.ident;
    let name = common::symbol_name(ident);
    let entry = format_ident!("ferrule_{}_{}", kind.prefix(), name, span = Span::call_site());
    let meta = format_ident!("ferrule_meta_{}_{}", kind.prefix(), name, span = Span::call_site());
    let meta = common::meta(&sdk, &meta, &function.attrs, input, output_type);
    let cfgs = common::cfgs(&function.attrs);
    let sdk = sdk.at(Span::call_site());
    Ok(quote! {
        #(#cfgs)*
        const _: () = {
            #[no_mangle]
            pub extern "C" fn #entry(#call: #sdk::__private::RawCall) -> i32 {
                #sdk::__private::run::<#plugin, _>(#call, |#bytes, #context, #state| #output(#ident(#(#values),*)))
            }
            #meta
        };
    })
}

/// What a parameter is, by its type as it is written: a reference is the context or the state, except to `str` and to
/// a slice; everything else is the input.
enum Role {
    Context,
    State,
    Input,
}

fn role(ty: &Type) -> Role {
    match ty {
        Type::Paren(inner) => role(&inner.elem),
        Type::Group(inner) => role(&inner.elem),
        Type::Reference(reference) => match &*reference.elem {
            Type::Slice(_) => Role::Input,
            Type::Path(path) => match path.path.segments.last() {
                Some(last) if last.ident == "str" => Role::Input,
                Some(last) if last.ident == "Context" && reference.mutability.is_none() => Role::Context,
                _ => Role::State,
            },
            _ => Role::State,
        },
        _ => Role::Input,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles() {
        let role_of = |ty: &str| role(&syn::parse_str(ty).unwrap());
        for ty in ["&str", "&[u8]", "&'a str", "(&str)", "Json<Cart<'a>>", "()"] {
            assert!(matches!(role_of(ty), Role::Input), "{ty}");
        }
        for ty in ["&Context", "&ferrule::Context"] {
            assert!(matches!(role_of(ty), Role::Context), "{ty}");
        }
        for ty in ["&Counter", "&mut Counter", "&mut Context", "&(A, B)"] {
            assert!(matches!(role_of(ty), Role::State), "{ty}");
        }
    }

    fn expanded(kind: Kind, item: TokenStream) -> String {
        expand(kind, TokenStream::new(), item).to_string()
    }

    #[test]
    fn symbols_have_the_name_of_the_function() {
        let item = quote!(
            fn r#type(text: &str) {}
        );
        let export = expanded(Kind::Export, item.clone());
        assert!(export.starts_with(&item.to_string()), "{export}");
        assert!(
            export.contains("fn ferrule_fn_type (") && export.contains("static ferrule_meta_fn_type :"),
            "{export}"
        );
        let hook = expanded(Kind::Hook, item);
        assert!(hook.contains("fn ferrule_hook_type (") && hook.contains("static ferrule_meta_hook_type :"), "{hook}");
    }

    #[test]
    fn each_parameter_once() {
        for (item, want) in [
            (
                quote!(
                    fn f(a: &str, b: u8) {}
                ),
                "a second input",
            ),
            (
                quote!(
                    fn f(a: &Counter, b: &mut Counter) {}
                ),
                "a second state",
            ),
            (
                quote!(
                    fn f(a: &Context, b: &ferrule::Context) {}
                ),
                "a second `&Context`",
            ),
        ] {
            let text = expanded(Kind::Export, item);
            assert!(text.contains("compile_error") && text.contains(want), "{text}");
        }
        let all = expanded(
            Kind::Export,
            quote!(
                fn f(a: &Context, b: &mut Counter, c: Vec<u8>) {}
            ),
        );
        assert!(!all.contains("compile_error"), "{all}");
    }

    #[test]
    fn what_is_no_function_stays_beside_its_error() {
        let item = quote!(
            struct S;
        );
        let text = expanded(Kind::Hook, item.clone());
        assert!(text.starts_with(&item.to_string()) && text.contains("#[ferrule::hook] goes on a function"), "{text}");
        let arguments = expand(
            Kind::Hook,
            quote!(name = "x"),
            quote!(
                fn f() {}
            ),
        )
        .to_string();
        assert!(arguments.contains("#[ferrule::hook] takes no arguments"), "{arguments}");
    }
}
