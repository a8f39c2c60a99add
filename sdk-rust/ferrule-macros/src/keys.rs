//! The keys of an attribute, which become those of the meta text: `#[ferrule::hook(wrap, order = "first")]`.

use crate::common;
use proc_macro2::{Ident, TokenStream};
use quote::{quote, ToTokens};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, ExprUnary, Lit, LitStr, Result, Token, UnOp};

/// What a key that is written as a name may have as its value.
#[derive(Clone, Copy)]
pub enum Takes {
    /// Nothing: the key is there, or it is not.
    Nothing,
    /// A constant of type `&str`.
    Text,
    /// As well; and several as `["a", "b"]`.
    List,
    /// An integer.
    Integer,
    /// One of these.
    Word(&'static [&'static str]),
}

/// The name of a key in an attribute, the one in the text, and what it takes.
pub type Known = (&'static str, &'static str, Takes);

/// Those of functions, and so of hooks as well.
pub const FUNCTION: &[Known] = &[
    ("in", "in", Takes::Text),
    ("out", "out", Takes::Text),
    ("schema", "schema", Takes::Text),
    ("in_schema", "in-schema", Takes::Text),
    ("out_schema", "out-schema", Takes::Text),
    ("since", "since", Takes::Text),
    ("deprecated", "deprecated", Takes::Text),
    ("idempotent", "idempotent", Takes::Nothing),
    ("quick", "quick", Takes::Nothing),
];

/// Those that only hooks have.
pub const HOOK: &[Known] = &[
    ("order", "order", Takes::Word(&["first", "last"])),
    ("before", "before", Takes::List),
    ("after", "after", Takes::List),
    ("priority", "priority", Takes::Integer),
    ("wrap", "wrap", Takes::Nothing),
    ("optional", "optional", Takes::Nothing),
];

/// Those of imports; `optional` chooses the symbol, and is no key of the text.
pub const IMPORT: &[Known] = &[
    ("optional", "", Takes::Nothing),
    ("from", "from", Takes::Text),
    ("why", "why", Takes::Text),
    ("version", "version", Takes::Text),
];

/// The keys of one attribute.
#[derive(Default)]
pub struct Keys {
    /// Key and value, as expressions of type `&str`, in their order.
    pairs: Vec<(String, TokenStream)>,
    /// Is the name `optional` among them, without a key of the text?
    pub optional: bool,
}

/// One of them as it is written.
struct Entry {
    key: LitStr,
    /// Was it a name?
    name: bool,
    value: Option<Expr>,
}

impl Parse for Entry {
    fn parse(input: ParseStream<'_>) -> Result<Entry> {
        let name = !input.peek(LitStr);
        let key = match name {
            false => input.parse()?,
            true => {
                let name = input.call(Ident::parse_any)?;
                LitStr::new(&common::symbol_name(&name), name.span())
            }
        };
        let value = match input.parse::<Option<Token![=]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        Ok(Entry { key, name, value })
    }
}

impl Keys {
    /// Reads them. A name has to be one of `known`; every other key, such as one of the author's own that begins with
    /// `x-`, is written as a string.
    pub fn parse(attribute: &str, arguments: TokenStream, known: &[&[Known]]) -> Result<Keys> {
        let mut keys = Keys::default();
        let mut seen = Vec::new();
        for entry in Punctuated::<Entry, Token![,]>::parse_terminated.parse2(arguments)? {
            let refuse = |what: String| Err(Error::new(entry.key.span(), format!("#[ferrule::{attribute}]: {what}")));
            let written = entry.key.value();
            let mut names = known.iter().flat_map(|known| known.iter());
            let (key, takes) = match names.find(|(name, _, _)| entry.name && *name == written) {
                Some((_, key, takes)) => (key.to_string(), *takes),
                None if entry.name => {
                    let names: Vec<&str> = known.iter().flat_map(|known| known.iter()).map(|known| known.0).collect();
                    return refuse(match names.is_empty() {
                        true => format!("found `{written}`, expected no arguments"),
                        false => format!(
                            "found `{written}`, expected one of {}; a key of your own is a string, `\"x-{written}\" = …`",
                            names.join(", ")
                        ),
                    });
                }
                None if known.is_empty() => return refuse(format!("found `{written}`, expected no arguments")),
                None => {
                    common::check_key(&entry.key)?;
                    (written.clone(), Takes::List)
                }
            };
            if seen.contains(&key) {
                return refuse(format!("the key `{written}` stands twice (rule R3)"));
            }
            let value = match (takes, &entry.value) {
                (Takes::Nothing, None) => quote!("yes"),
                (Takes::Nothing, Some(_)) => return refuse(format!("`{written}` stands without a value")),
                (_, None) => return refuse(format!("`{written}` needs a value, `{written} = …`")),
                (Takes::Integer, Some(value)) => match integer(value) {
                    Some(number) => quote!(#number),
                    None => return refuse(format!("`{written}` is an integer, such as 10 or -10")),
                },
                (Takes::Word(words), Some(value)) => match literal(value) {
                    Some(word) if words.contains(&word.as_str()) => quote!(#word),
                    _ => return refuse(format!("`{written}` is \"{}\"", words.join("\" or \""))),
                },
                (Takes::List, Some(value)) => self::value(value)?,
                (Takes::Text, Some(value)) => value.to_token_stream(),
            };
            match key.is_empty() {
                true => keys.optional = true,
                false => keys.pairs.push((key.clone(), value)),
            }
            seen.push(key);
        }
        Ok(keys)
    }

    /// Takes the value of a key out; None when it is not there.
    pub fn take(&mut self, key: &str) -> Option<TokenStream> {
        let at = self.pairs.iter().position(|(found, _)| found == key)?;
        Some(self.pairs.remove(at).1)
    }

    /// Those that are left, as `(key, value)` expressions.
    pub fn pairs(&self) -> TokenStream {
        let pairs = self.pairs.iter().map(|(key, value)| quote!((#key, #value)));
        quote!(#(#pairs),*)
    }
}

/// A value as an expression of type `&str`: a list has one item a line, an integer is its digits.
pub fn value(value: &Expr) -> Result<TokenStream> {
    let list = match value {
        Expr::Array(list) => list,
        _ => {
            return Ok(match integer(value) {
                Some(number) => quote!(#number),
                None => value.to_token_stream(),
            })
        }
    };
    if list.elems.len() > 64 {
        return Err(Error::new(list.span(), "a list has 64 items at most (rule R32)"));
    }
    let mut pieces = Vec::new();
    for item in &list.elems {
        if let Some(text) = literal(item) {
            if text.is_empty() || text.len() > 256 || text.contains('\n') {
                return Err(Error::new(item.span(), "an item of a list is one line of 1 to 256 bytes (rule R32)"));
            }
        }
        if !pieces.is_empty() {
            pieces.push(quote!("\n"));
        }
        pieces.push(item.to_token_stream());
    }
    Ok(quote!(::core::concat!(#(#pieces),*)))
}

fn literal(value: &Expr) -> Option<String> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

fn integer(value: &Expr) -> Option<String> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => Some(number.base10_digits().to_string()),
        Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) => integer(expr).map(|number| format!("-{number}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(arguments: TokenStream) -> String {
        Keys::parse("hook", arguments, &[FUNCTION, HOOK]).unwrap().pairs().to_string()
    }

    #[test]
    fn every_form_of_a_key() {
        let found = pairs(quote!(
            wrap,
            order = "first",
            before = ["cache", "log"],
            after = "auth",
            priority = -10,
            in = "image/png",
            in_schema = include_str!("in.json"),
            "x-cost" = LOW,
            "x-tags" = ["a"],
        ));
        let want = quote!(
            ("wrap", "yes"),
            ("order", "first"),
            ("before", ::core::concat!("cache", "\n", "log")),
            ("after", "auth"),
            ("priority", "-10"),
            ("in", "image/png"),
            ("in-schema", include_str!("in.json")),
            ("x-cost", LOW),
            ("x-tags", ::core::concat!("a"))
        );
        assert_eq!(found, want.to_string());
        assert_eq!(pairs(quote!()), "");
    }

    #[test]
    fn an_optional_import_has_no_key_for_that() {
        let keys = Keys::parse("import", quote!(optional, why = "for the map"), &[IMPORT]).unwrap();
        assert!(keys.optional);
        assert_eq!(keys.pairs().to_string(), quote!(("why", "for the map")).to_string());
        assert!(!Keys::parse("import", quote!(why = "for the map"), &[IMPORT]).unwrap().optional);
    }

    #[test]
    fn a_key_is_taken_once() {
        let mut keys = Keys::parse("export", quote!(out = "image/png", since = "2"), &[FUNCTION]).unwrap();
        assert_eq!(keys.take("out").unwrap().to_string(), "\"image/png\"");
        assert!(keys.take("out").is_none());
        assert_eq!(keys.pairs().to_string(), quote!(("since", "2")).to_string());
    }

    #[test]
    fn keys_that_are_wrong() {
        let long = "x".repeat(257);
        let many = vec!["a"; 65];
        for (arguments, want) in [
            (quote!(wrapp), "found `wrapp`, expected one of in, out, schema,"),
            (quote!(doc = "x"), "found `doc`, expected one of"),
            (quote!(wrap = "yes"), "`wrap` stands without a value"),
            (quote!(order), "`order` needs a value"),
            (quote!(order = "middle"), "`order` is \"first\" or \"last\""),
            (quote!(order = FIRST), "`order` is \"first\" or \"last\""),
            (quote!(priority = "high"), "`priority` is an integer"),
            (quote!(since = "1", since = "2"), "the key `since` stands twice"),
            (quote!(in_schema = "1", "in-schema" = "2"), "the key `in-schema` stands twice"),
            (quote!("X" = "y"), "a key is 1 to 64 bytes"),
            (quote!(before = [""]), "1 to 256 bytes"),
            (quote!(before = ["a\nb"]), "1 to 256 bytes"),
            (quote!(before = [#long]), "1 to 256 bytes"),
            (quote!(before = [#(#many),*]), "64 items at most"),
        ] {
            let error = Keys::parse("hook", arguments.clone(), &[FUNCTION, HOOK]).err().unwrap().to_string();
            assert!(error.contains(want), "{arguments}: {error}");
        }
        let error = Keys::parse("save", quote!(since = "1"), &[]).err().unwrap().to_string();
        assert_eq!(error, "#[ferrule::save]: found `since`, expected no arguments");
    }
}
