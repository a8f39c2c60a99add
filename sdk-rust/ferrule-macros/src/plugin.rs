//! `ferrule::plugin!`.

use crate::common;
use crate::keys;
use crate::sdk::{self, Sdk};
use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned, ToTokens};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, Ident, Lit, LitStr, Result, Token, Type};

/// One `key: value`.
struct Entry {
    key: LitStr,
    value: Value,
}

enum Value {
    State(Type),
    Text(Expr),
}

impl Parse for Entry {
    fn parse(input: ParseStream<'_>) -> Result<Entry> {
        let key = match input.peek(LitStr) {
            true => input.parse()?,
            false => {
                let name = input.call(Ident::parse_any)?;
                LitStr::new(&common::symbol_name(&name), name.span())
            }
        };
        input.parse::<Token![:]>()?;
        let value = match key.value().as_str() {
            "state" => Value::State(input.parse()?),
            _ => Value::Text(input.parse()?),
        };
        Ok(Entry { key, value })
    }
}

pub fn expand(input: TokenStream) -> Result<TokenStream> {
    let entries = syn::parse::Parser::parse2(Punctuated::<Entry, Token![,]>::parse_terminated, input)?;
    let sdk = Sdk::find()?;
    let sdk_here = sdk.at(Span::call_site());
    let mut seen = Vec::new();
    let mut state = None;
    let mut rule = quote!(Serial);
    let mut pairs = vec![quote!(("ferrule", "1"))];
    let (mut hands_over, mut config_schema) = (None, None);
    for Entry { key, value } in &entries {
        let name = key.value();
        check_key(key, &name)?;
        if seen.contains(&name) {
            return Err(Error::new(key.span(), format!("the key `{name}` stands twice (rule R3)")));
        }
        match value {
            Value::State(ty) => state = Some(ty),
            Value::Text(value) => {
                let there = sdk.at(value.span());
                let mut key = name.as_str();
                let value = match key {
                    "config_schema" => {
                        config_schema = Some(value);
                        seen.push(name);
                        continue;
                    }
                    "state_format" => {
                        key = "state";
                        hands_over = Some(value.span());
                        value.to_token_stream()
                    }
                    "name" => quote_spanned!(value.span()=> #there::__private::plugin_name(#value)),
                    "version" => quote_spanned!(value.span()=> #there::__private::plugin_version(#value)),
                    "threads" => {
                        rule = thread_rule(value)?;
                        value.to_token_stream()
                    }
                    _ => keys::value(value)?,
                };
                pairs.push(quote!((#key, #value)));
            }
        }
        seen.push(name);
    }
    for required in ["name", "version"] {
        if !seen.iter().any(|name| name == required) {
            return Err(Error::new(
                Span::call_site(),
                format!(
                    "`{required}:` is missing: \
                     ferrule::plugin!(name: \"resize\", version: env!(\"CARGO_PKG_VERSION\"))"
                ),
            ));
        }
    }

    let stateful = state.is_some();
    let state_type = match state {
        Some(ty) => quote!(#ty),
        None => quote!(#sdk_here::__private::NoState),
    };
    // The lifecycle is bound to the state's type, so that a wrong one is reported there.
    let lifecycle = state.map(|ty| {
        let there = sdk.at(ty.span());
        let (start, stop) = (
            quote_spanned!(ty.span()=> #there::__private::start::<ferrule_plugin_macro>),
            quote!(#sdk_here::__private::stop::<ferrule_plugin_macro>),
        );
        quote! {
            impl #sdk_here::__private::StateIs<#ty> for ferrule_plugin_macro {}
            #[no_mangle]
            pub extern "C" fn ferrule_start(call: #sdk_here::__private::RawCall) -> i32 {
                #start(call)
            }
            #[no_mangle]
            pub extern "C" fn ferrule_stop(call: #sdk_here::__private::RawCall) -> i32 {
                #stop(call)
            }
        }
    });
    let hands_over = hands_over.map(|span| {
        let there = sdk.at(span);
        let check = quote_spanned!(span=> #there::__private::hands_over::<ferrule_plugin_macro>());
        quote! {
            impl #sdk_here::__private::HandsOver for ferrule_plugin_macro {}
            const _: () = #check;
        }
    });
    let config_schema = config_schema.map(|text| {
        quote! {
            const FERRULE_SCHEMA: &str = #text;
            #[no_mangle]
            pub static ferrule_meta_config: #sdk_here::__private::ConfigSchema<{ FERRULE_SCHEMA.len() }> =
                #sdk_here::__private::config_schema(FERRULE_SCHEMA);
        }
    });
    let logs = sdk::depends_on_log().then(|| {
        quote! {
            const _: () = #sdk_here::__private::the_host_logs;
        }
    });
    let manifest = common::text(&sdk, &Ident::new("ferrule_manifest", Span::call_site()), quote!(#(#pairs),*));
    Ok(quote! {
        #[allow(non_camel_case_types)]
        enum ferrule_plugin_macro {}
        const _: () = {
            impl #sdk_here::__private::Plugin for ferrule_plugin_macro {
                const STATEFUL: bool = #stateful;
                type State = #state_type;
                type Threads = #sdk_here::__private::#rule;
            }
            #[no_mangle]
            pub extern "C" fn ferrule_batch(frames: #sdk_here::__private::RawFrames) -> i32 {
                #sdk_here::__private::batch(frames)
            }
            #lifecycle
            #hands_over
            #config_schema
            #logs
            #manifest
        };
    })
}

fn check_key(key: &LitStr, name: &str) -> Result<()> {
    common::check_key(key)?;
    if name == "ferrule" {
        return Err(Error::new(key.span(), "the key `ferrule` is the version of the contract, and is there already"));
    }
    Ok(())
}

/// The type that stands for the word: it decides what the compiler asks of the state, so it must be known here.
fn thread_rule(value: &Expr) -> Result<TokenStream> {
    if let Expr::Lit(ExprLit { lit: Lit::Str(word), .. }) = value {
        match word.value().as_str() {
            "serial" => return Ok(quote!(Serial)),
            "concurrent" => return Ok(quote!(Concurrent)),
            "pinned" => return Ok(quote!(Pinned)),
            _ => {}
        }
    }
    Err(Error::new(value.span(), "expected \"serial\", \"concurrent\" or \"pinned\" (rule R13)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(input: TokenStream) -> String {
        expand(input).unwrap_or_else(|error| panic!("{error}")).to_string()
    }

    #[test]
    fn the_symbols_of_a_plug_in() {
        let stateless = text(quote!(name: "a", version: "1"));
        assert!(
            stateless.contains("static ferrule_manifest :") && stateless.contains("fn ferrule_batch ("),
            "{stateless}"
        );
        assert!(!stateless.contains("fn ferrule_start (") && !stateless.contains("fn ferrule_stop ("), "{stateless}");
        let stateful = text(quote!(name: "a", version: "1", state: Counter<u8>,));
        assert!(stateful.contains("fn ferrule_start (") && stateful.contains("fn ferrule_stop ("), "{stateful}");
        assert!(
            stateful.contains(
                &quote!(
                    type State = Counter<u8>;
                )
                .to_string()
            ),
            "{stateful}"
        );
    }

    #[test]
    fn pairs_stand_in_their_order_and_the_contract_first() {
        let text = text(quote!(version: "1", "x-color.2": BLUE, name: "a"));
        let places = ["\"ferrule\" , \"1\"", "\"version\"", "\"x-color.2\" , BLUE", "\"name\""]
            .map(|pair| text.find(pair).unwrap_or_else(|| panic!("no {pair} in {text}")));
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{text}");
    }

    #[test]
    fn thread_rules() {
        for (word, rule) in [("serial", "Serial"), ("concurrent", "Concurrent"), ("pinned", "Pinned")] {
            let text = text(quote!(name: "a", version: "1", threads: #word));
            assert!(text.contains(&format!(":: {rule} ;")), "{text}");
        }
        assert!(text(quote!(name: "a", version: "1")).contains(":: Serial ;"));
        let error = expand(quote!(name: "a", version: "1", threads: WORD)).unwrap_err();
        assert!(error.to_string().contains("rule R13"), "{error}");
    }

    #[test]
    fn keys_that_are_wrong() {
        let long = "k".repeat(65);
        for (input, want) in [
            (quote!(name: "a"), "`version:` is missing"),
            (quote!(version: "1"), "`name:` is missing"),
            (quote!(name: "a", version: "1", name: "b"), "the key `name` stands twice"),
            (quote!(name: "a", version: "1", Big: "b"), "a key is 1 to 64 bytes"),
            (quote!(name: "a", version: "1", "": "b"), "a key is 1 to 64 bytes"),
            (quote!(name: "a", version: "1", #long: "b"), "a key is 1 to 64 bytes"),
            (quote!(name: "a", version: "1", ferrule: "2"), "is there already"),
        ] {
            let error = expand(input.clone()).unwrap_err().to_string();
            assert!(error.contains(want), "{input}: {error}");
        }
    }
}
