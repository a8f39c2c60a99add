//! `#[ferrule::export]` and `#[ferrule::hook]`.

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
    crate::no_arguments(attribute, &arguments)?;
    let function: ItemFn = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), format!("#[ferrule::{attribute}] goes on a function: {error}")))?;
    let signature = &function.sig;
    crate::check_signature(attribute, signature)?;

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
        let ty = crate::elide_lifetimes(parameter.ty.to_token_stream());
        let span = parameter.ty.span();
        let (seen, what) = match role(&parameter.ty) {
            Role::Context => {
                values.push(quote_spanned!(span=> #context));
                (std::mem::replace(&mut has_context, true), "a second `&Context`")
            }
            Role::State => {
                values.push(quote_spanned!(span=>
                    <#ty as ::ferrule::__private::StateParam<'_, #plugin>>::from_state(#state)
                ));
                (
                    std::mem::replace(&mut has_state, true),
                    "a second state; only `&str` and `&[u8]` are inputs by reference",
                )
            }
            Role::Input => {
                values.push(quote_spanned!(span=> <#ty as ::ferrule::Input<'_>>::from_bytes(#bytes)?));
                let media_type = quote_spanned!(span=> <#ty as ::ferrule::Input<'_>>::MEDIA_TYPE);
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
        ReturnType::Type(_, ty) => (crate::elide_lifetimes(ty.to_token_stream()), ty.span()),
    };
    let output_type = quote_spanned!(output_span=> <#output as ::ferrule::Output>::MEDIA_TYPE);
    let output = quote_spanned!(output_span=> <#output as ::ferrule::Output>::into_bytes);
    let input = input.unwrap_or_else(|| quote!(""));

    let ident = &signature.ident;
    let name = crate::symbol_name(ident);
    let entry = format_ident!("ferrule_{}_{}", kind.prefix(), name, span = Span::call_site());
    let meta = format_ident!("ferrule_meta_{}_{}", kind.prefix(), name, span = Span::call_site());
    let meta = crate::meta(&meta, &function.attrs, input, output_type);
    let cfgs = crate::cfgs(&function.attrs);
    Ok(quote! {
        #(#cfgs)*
        const _: () = {
            #[no_mangle]
            pub extern "C" fn #entry(#call: ::ferrule::__private::RawCall) -> i32 {
                ::ferrule::__private::run::<#plugin, _>(#call, |#bytes, #context, #state| #output(#ident(#(#values),*)))
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
}
