//! `#[ferrule::export]` and `#[ferrule::hook]`; `#[ferrule::configure]`, `#[ferrule::save]` and `#[ferrule::resume]`.

use crate::common;
use crate::keys::{self, Keys};
use crate::sdk::Sdk;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned, ToTokens};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, Result, ReturnType, Type};

/// Which of the attributes.
#[derive(Clone, Copy)]
pub enum Kind {
    Export,
    Hook,
    Configure,
    Save,
    Resume,
}

impl Kind {
    fn attribute(self) -> &'static str {
        match self {
            Kind::Export => "export",
            Kind::Hook => "hook",
            Kind::Configure => "configure",
            Kind::Save => "save",
            Kind::Resume => "resume",
        }
    }

    /// What its symbols have behind `ferrule_` and `ferrule_meta_`, before the function's name; None where there is one
    /// symbol in a library, without a name and a text, and no other call of the instance runs meanwhile.
    fn prefix(self) -> Option<&'static str> {
        match self {
            Kind::Export => Some("fn"),
            Kind::Hook => Some("hook"),
            Kind::Configure | Kind::Save | Kind::Resume => None,
        }
    }

    fn keys(self) -> &'static [&'static [keys::Known]] {
        match self {
            Kind::Export => &[keys::FUNCTION],
            Kind::Hook => &[keys::FUNCTION, keys::HOOK],
            Kind::Configure | Kind::Save | Kind::Resume => &[],
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
    let mut keys = Keys::parse(attribute, arguments, kind.keys())?;
    let function: ItemFn = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), format!("#[ferrule::{attribute}] goes on a function: {error}")))?;
    let signature = &function.sig;
    common::check_signature(attribute, signature)?;
    let sdk = Sdk::find()?;

    let sdk_here = sdk.at(Span::call_site());
    let plugin = quote!(<ferrule_here as #sdk_here::__private::Here>::Plugin);
    // Hygienic, so that the author's function may have one of these names.
    let local = |name| Ident::new(name, Span::mixed_site());
    let (call, bytes, context) = (local("call"), local("bytes"), local("context"));
    let (state, lent) = (local("state"), local("lent"));
    let state_param = match kind.prefix() {
        Some(_) => quote!(StateParam),
        None => quote!(AloneParam),
    };
    let mut input: Option<TokenStream> = None;
    let (mut has_state, mut has_context, mut has_room) = (false, false, false);
    let (mut has_reader, mut has_writer) = (false, false);
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
                    <#ty as #sdk::__private::#state_param<'_, #plugin>>::from_state(#state)
                ));
                (
                    std::mem::replace(&mut has_state, true),
                    "a second state; only `&str` and `&[u8]` are inputs by reference",
                )
            }
            Role::Reader | Role::Writer if kind.prefix().is_none() => {
                return Err(Error::new(
                    span,
                    format!("#[ferrule::{attribute}]: only a function or a hook has streams"),
                ));
            }
            Role::Reader => {
                values.push(quote_spanned!(span=> #lent.reader));
                (std::mem::replace(&mut has_reader, true), "a second `&mut Reader`")
            }
            Role::Writer => {
                values.push(quote_spanned!(span=> #lent.writer));
                (std::mem::replace(&mut has_writer, true), "a second `&mut Writer`")
            }
            Role::Room => {
                values.push(quote_spanned!(span=> #lent.room));
                (std::mem::replace(&mut has_room, true), "a second `&mut Room`")
            }
            Role::Input => {
                let sdk = sdk.at(span);
                values.push(match kind {
                    Kind::Configure => quote_spanned!(span=> #sdk::__private::read_config::<#ty>(#bytes)?),
                    _ => quote_spanned!(span=> <#ty as #sdk::Input<'_>>::from_bytes(#bytes)?),
                });
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
    let (output_type, output) = match has_room {
        false => (
            quote_spanned!(output_span=> <#output as #sdk_there::Output>::MEDIA_TYPE),
            quote_spanned!(output_span=> <#output as #sdk_there::Output>::into_bytes),
        ),
        // What is written to the room is the result.
        true => (
            quote_spanned!(output_span=> <&[u8] as #sdk_there::Output>::MEDIA_TYPE),
            quote_spanned!(output_span=> #sdk_there::__private::nothing_into_bytes::<#output>),
        ),
    };

    let ident = &signature.ident;
    let (entry, run, beside) = match kind.prefix() {
        Some(prefix) => {
            let name = common::symbol_name(ident);
            let meta = format_ident!("ferrule_meta_{}_{}", prefix, name, span = Span::call_site());
            let input = keys.take("in").or(input).unwrap_or_else(|| quote!(""));
            let output = keys.take("out").unwrap_or(output_type);
            let stream = match (has_reader, has_writer) {
                (false, false) => "",
                (true, false) => "in",
                (false, true) => "out",
                (true, true) => "both",
            };
            let pairs = keys.pairs();
            let pairs = quote!(("stream", #stream), #pairs);
            (
                format_ident!("ferrule_{}_{}", prefix, name, span = Span::call_site()),
                quote!(run),
                common::meta(&sdk, &meta, &function.attrs, input, output, pairs),
            )
        }
        None => (format_ident!("ferrule_{}", attribute, span = Span::call_site()), quote!(run_alone), quote!()),
    };
    let cfgs = common::cfgs(&function.attrs);
    let here = here(kind, &sdk_here);
    Ok(quote! {
        #(#cfgs)*
        const _: () = {
            #here
            #[no_mangle]
            pub extern "C" fn #entry(#call: #sdk_here::__private::RawCall) -> i32 {
                #sdk_here::__private::#run::<#plugin, _>(
                    #call,
                    |#bytes, #context, #state, #lent| #output(#ident(#(#values),*)),
                )
            }
            #beside
        };
    })
}

/// Finds what the function belongs to: what `plugin!` defines in the crate's root or, where it is missing, what has the
/// same name in the SDK. The compiler looks in the inner scope first. Nothing of the author's is in there, as each name
/// of the root would come before one of the function's module.
fn here(kind: Kind, sdk: &TokenStream) -> TokenStream {
    let private = quote!(#sdk::__private);
    let hands_over = |half| {
        quote! {
            impl #private::#half for ferrule_plugin_macro {}
            const _: () = #private::has_format::<ferrule_plugin_macro>();
        }
    };
    let beside = match kind {
        Kind::Save => hands_over(quote!(Saves)),
        Kind::Resume => hands_over(quote!(Resumes)),
        Kind::Export | Kind::Hook | Kind::Configure => quote!(),
    };
    quote! {
        #[allow(non_camel_case_types)]
        enum ferrule_here {}
        const _: () = {
            #[allow(unused_imports)]
            use #private::ferrule_plugin_macro;
            const _: () = {
                #[allow(unused_imports, clippy::wildcard_imports)]
                use crate::*;
                impl #private::Here for ferrule_here {
                    type Plugin = ferrule_plugin_macro;
                }
                const _: () = ::core::assert!(
                    <ferrule_plugin_macro as #private::Plugin>::DECLARED,
                    "`ferrule::plugin!` is missing in the crate's root: write `ferrule::plugin!(name: \"…\", \
                     version: env!(\"CARGO_PKG_VERSION\"));` there, in lib.rs itself and not in a module"
                );
                #beside
            };
        };
    }
}

/// What a parameter is, by its type as it is written: a reference is the context, a stream, the room or the state, except
/// to `str` and to a slice; everything else is the input.
enum Role {
    Context,
    Reader,
    Writer,
    Room,
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
                Some(last) if last.ident == "Reader" && reference.mutability.is_some() => Role::Reader,
                Some(last) if last.ident == "Writer" && reference.mutability.is_some() => Role::Writer,
                Some(last) if last.ident == "Room" && reference.mutability.is_some() => Role::Room,
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
        assert!(matches!(role_of("&mut Reader"), Role::Reader));
        assert!(matches!(role_of("&mut ferrule::Reader<'_>"), Role::Reader));
        assert!(matches!(role_of("&'a mut Writer<'a>"), Role::Writer));
        assert!(matches!(role_of("&mut Room"), Role::Room));
        for ty in ["&Counter", "&mut Counter", "&mut Context", "&(A, B)", "&Reader", "&Room"] {
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
    fn what_a_library_has_once() {
        let item = quote!(
            fn f(counter: &mut Counter) {}
        );
        for (kind, symbol) in [(Kind::Configure, "configure"), (Kind::Save, "save"), (Kind::Resume, "resume")] {
            let text = expanded(kind, item.clone());
            assert!(text.contains(&format!("fn ferrule_{symbol} (")), "{text}");
            assert!(text.contains("AloneParam") && text.contains(":: run_alone ::"), "{text}");
            assert!(!text.contains("ferrule_meta"), "{text}");
        }
        let streams = expanded(
            Kind::Save,
            quote!(
                fn f(out: &mut Writer) {}
            ),
        );
        assert!(streams.contains("#[ferrule::save]: only a function or a hook has streams"), "{streams}");
    }

    #[test]
    fn streams_are_said_by_the_parameters() {
        for (item, want) in [
            (
                quote!(
                    fn f() {}
                ),
                "",
            ),
            (
                quote!(
                    fn f(a: &mut Reader) {}
                ),
                "in",
            ),
            (
                quote!(
                    fn f(a: &mut Writer) {}
                ),
                "out",
            ),
            (
                quote!(
                    fn f(a: &mut Writer, b: &mut Reader) {}
                ),
                "both",
            ),
        ] {
            let text = expanded(Kind::Export, item);
            assert!(text.contains(&quote!(("stream", #want)).to_string()), "{text}");
        }
    }

    #[test]
    fn each_parameter_once() {
        for (item, want) in [
            (
                quote!(
                    fn f(a: &mut Reader, b: &mut Reader) {}
                ),
                "a second `&mut Reader`",
            ),
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
        assert!(arguments.contains("#[ferrule::hook]: found `name`, expected one of"), "{arguments}");
    }
}
