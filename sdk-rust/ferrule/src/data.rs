//! How bytes become an author's types, and back.

use crate::{Error, Result};
use std::borrow::Cow;

/// A type that a function takes as its input, and that an import gives as its result: `&[u8]`, `&str`, `String`,
/// `Vec<u8>`, `()` and `Json<T>`.
///
/// Implement it, and [`Output`], for a wrapper of your own to speak another format than JSON.
#[cfg_attr(
    ferrule_diagnostic,
    diagnostic::on_unimplemented(
        message = "`{Self}` cannot be made of the bytes of an input",
        label = "not an input",
        note = "an input is one of `&[u8]`, `&str`, `String`, `Vec<u8>`, `Json<T>`, or implements `ferrule::Input`",
        note = "for a type that implements `Deserialize` write `Json<{Self}>`"
    )
)]
pub trait Input<'a>: Sized {
    /// What the bytes are, for the library's meta text (`in=`); empty to say nothing.
    const MEDIA_TYPE: &'static str;

    /// Reads the bytes. They may be of any origin: an error, never a panic, is the answer to bad ones, and its status
    /// should be [`Status::INVALID`](crate::Status::INVALID).
    fn from_bytes(bytes: &'a [u8]) -> Result<Self>;
}

/// A type that a function returns, and that an import takes: `&[u8]`, `&str`, `String`, `Vec<u8>`, `()`, `Json<T>`,
/// an `Option` of them, whose `None` is the status [`PASS`](crate::Status::PASS), and a `Result` of them with any error
/// that is a [`Failure`](crate::Failure) or [`ferrule::Error`](Error).
#[cfg_attr(
    ferrule_diagnostic,
    diagnostic::on_unimplemented(
        message = "`{Self}` cannot be made the bytes of a result",
        label = "not a result",
        note = "a result is one of `()`, `&[u8]`, `&str`, `String`, `Vec<u8>`, `Json<T>`, an `Option` or a `Result` of \
                one of them, or implements `ferrule::Output`",
        note = "for a type that implements `Serialize` write `Json<{Self}>`"
    )
)]
pub trait Output {
    /// What the bytes are, for the library's meta text (`out=`); empty to say nothing.
    const MEDIA_TYPE: &'static str;

    /// Gives the bytes. Owned ones that do not fit the host's room are handed over without a copy.
    fn into_bytes<'a>(self) -> Result<Cow<'a, [u8]>>
    where
        Self: 'a;
}

pub(crate) const BYTES: &str = "application/octet-stream";
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Reads the configuration. Where the host has none, its bytes are none, and as JSON that is an object without members:
/// the defaults of its fields hold.
pub fn read_config<'a, T: Input<'a>>(bytes: &'a [u8]) -> Result<T> {
    let bytes = match bytes.is_empty() && T::MEDIA_TYPE == JSON {
        true => b"{}",
        false => bytes,
    };
    T::from_bytes(bytes).map_err(|error| {
        let message = format!("in the configuration: {error}");
        error.with_message(message)
    })
}

impl<'a> Input<'a> for () {
    const MEDIA_TYPE: &'static str = "";

    fn from_bytes(_: &'a [u8]) -> Result<()> {
        Ok(())
    }
}

impl<'a> Input<'a> for &'a [u8] {
    const MEDIA_TYPE: &'static str = BYTES;

    fn from_bytes(bytes: &'a [u8]) -> Result<Self> {
        Ok(bytes)
    }
}

impl<'a> Input<'a> for Vec<u8> {
    const MEDIA_TYPE: &'static str = BYTES;

    fn from_bytes(bytes: &'a [u8]) -> Result<Self> {
        Ok(bytes.to_vec())
    }
}

impl<'a> Input<'a> for &'a str {
    const MEDIA_TYPE: &'static str = TEXT;

    fn from_bytes(bytes: &'a [u8]) -> Result<Self> {
        std::str::from_utf8(bytes)
            .map_err(|error| Error::invalid(format_args!("found bytes that are not text, expected UTF-8: {error}")))
    }
}

impl<'a> Input<'a> for String {
    const MEDIA_TYPE: &'static str = TEXT;

    fn from_bytes(bytes: &'a [u8]) -> Result<Self> {
        <&str>::from_bytes(bytes).map(String::from)
    }
}

impl Output for () {
    const MEDIA_TYPE: &'static str = "";

    fn into_bytes<'a>(self) -> Result<Cow<'a, [u8]>> {
        Ok(Cow::Borrowed(&[]))
    }
}

impl Output for &[u8] {
    const MEDIA_TYPE: &'static str = BYTES;

    fn into_bytes<'a>(self) -> Result<Cow<'a, [u8]>>
    where
        Self: 'a,
    {
        Ok(Cow::Borrowed(self))
    }
}

impl Output for Vec<u8> {
    const MEDIA_TYPE: &'static str = BYTES;

    fn into_bytes<'a>(self) -> Result<Cow<'a, [u8]>> {
        Ok(Cow::Owned(self))
    }
}

impl Output for &str {
    const MEDIA_TYPE: &'static str = TEXT;

    fn into_bytes<'a>(self) -> Result<Cow<'a, [u8]>>
    where
        Self: 'a,
    {
        Ok(Cow::Borrowed(self.as_bytes()))
    }
}

impl Output for String {
    const MEDIA_TYPE: &'static str = TEXT;

    fn into_bytes<'a>(self) -> Result<Cow<'a, [u8]>> {
        Ok(Cow::Owned(self.into_bytes()))
    }
}

impl<T: Output, E: Into<Error>> Output for Result<T, E> {
    const MEDIA_TYPE: &'static str = T::MEDIA_TYPE;

    fn into_bytes<'a>(self) -> Result<Cow<'a, [u8]>>
    where
        Self: 'a,
    {
        self.map_err(Into::into)?.into_bytes()
    }
}

/// `None` is the status PASS: the function has nothing to say to this input (rule R22).
impl<T: Output> Output for Option<T> {
    const MEDIA_TYPE: &'static str = T::MEDIA_TYPE;

    fn into_bytes<'a>(self) -> Result<Cow<'a, [u8]>>
    where
        Self: 'a,
    {
        self.ok_or_else(Error::pass)?.into_bytes()
    }
}

/// What a function returns that writes its result to a [`Room`](crate::Room): `()`, or a `Result` or `Option` of it.
#[cfg_attr(
    ferrule_diagnostic,
    diagnostic::on_unimplemented(
        message = "a function with a `&mut Room` returns nothing besides, not `{Self}`",
        label = "not `()`",
        note = "what is written to the `Room` is the result: return `()`, `ferrule::Result<()>`, `Option<()>` or \
                `ferrule::Result<Option<()>>`"
    )
)]
pub trait Nothing: Output {}

impl Nothing for () {}
impl<T: Nothing, E: Into<Error>> Nothing for Result<T, E> {}
impl<T: Nothing> Nothing for Option<T> {}

/// [`Output::into_bytes`] of a function that writes to a `Room`.
pub fn nothing_into_bytes<'a, T: Nothing + 'a>(result: T) -> Result<Cow<'a, [u8]>> {
    result.into_bytes()
}

/// What an import returns: a [`Result`] of an owned [`Input`].
#[cfg_attr(
    ferrule_diagnostic,
    diagnostic::on_unimplemented(
        message = "an import cannot return `{Self}`",
        label = "not the result of an import",
        note = "a host function can fail: an import returns `ferrule::Result<T>`",
        note = "T is one of `()`, `String`, `Vec<u8>`, `Json<T>`, or implements `ferrule::Input`"
    )
)]
pub trait Imported {
    /// That of the input.
    const MEDIA_TYPE: &'static str;

    /// Makes it of the bytes of the host function `name`, or of its error.
    fn from_answer(name: &str, answer: Result<Vec<u8>>) -> Self;
}

impl<T: for<'a> Input<'a>, E: ImportError> Imported for Result<T, E> {
    const MEDIA_TYPE: &'static str = <T as Input<'static>>::MEDIA_TYPE;

    fn from_answer(name: &str, answer: Result<Vec<u8>>) -> Self {
        // It is not the input of the plug-in's caller that is invalid then, so the status is another one.
        let wrong = |error: Error| Error::failed(format_args!("the result of the host function {name}: {error}"));
        answer.and_then(|bytes| T::from_bytes(&bytes).map_err(wrong)).map_err(E::from_error)
    }
}

/// The error of what an import returns: made of the one that the host function failed with.
#[cfg_attr(
    ferrule_diagnostic,
    diagnostic::on_unimplemented(
        message = "an import cannot fail with `{Self}`",
        label = "not made of a `ferrule::Error`",
        note = "return `ferrule::Result<T>`; where it is called for `anyhow::Result` or `Box<dyn Error>`, write \
                `.map_err(std::io::Error::from)?`"
    )
)]
pub trait ImportError {
    /// Makes it.
    fn from_error(error: Error) -> Self;
}

#[cfg_attr(ferrule_do_not_recommend, diagnostic::do_not_recommend)]
impl<E: From<Error>> ImportError for E {
    fn from_error(error: Error) -> E {
        error.into()
    }
}

#[cfg(feature = "json")]
mod json {
    use super::*;
    use serde::{Deserialize, Serialize};
    use std::ops::{Deref, DerefMut};

    /// A value that crosses the boundary as JSON: as a parameter (`Json(cart): Json<Cart>`), a result and in imports.
    ///
    /// ```
    /// use ferrule::{Input, Json, Output};
    ///
    /// let Json((name, points)): Json<(&str, u64)> = Json::from_bytes(br#"["ada", 7]"#)?;
    /// assert_eq!(*Json((name, points + 1)).into_bytes()?, br#"["ada",8]"#[..]);
    /// # Ok::<(), ferrule::Error>(())
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct Json<T>(
        /// The value.
        pub T,
    );

    impl<T> Deref for Json<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> DerefMut for Json<T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.0
        }
    }

    impl<'a, T: Deserialize<'a>> Input<'a> for Json<T> {
        const MEDIA_TYPE: &'static str = JSON;

        fn from_bytes(bytes: &'a [u8]) -> Result<Self> {
            match serde_json::from_slice(bytes) {
                Ok(value) => Ok(Json(value)),
                Err(error) => {
                    Err(Error::invalid(format_args!("not JSON for the type {}: {error}", std::any::type_name::<T>())))
                }
            }
        }
    }

    impl<T: Serialize> Output for Json<T> {
        const MEDIA_TYPE: &'static str = JSON;

        fn into_bytes<'a>(self) -> Result<Cow<'a, [u8]>>
        where
            Self: 'a,
        {
            Ok(Cow::Owned(serde_json::to_vec(&self.0)?))
        }
    }
}

#[cfg(feature = "json")]
pub use json::Json;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    #[test]
    fn inputs_are_the_bytes() {
        assert_eq!(<&[u8]>::from_bytes(b"a\xff"), Ok(&b"a\xff"[..]));
        assert_eq!(<Vec<u8>>::from_bytes(b"a\xff"), Ok(b"a\xff".to_vec()));
        assert_eq!(String::from_bytes(b"a"), Ok("a".to_string()));
        assert_eq!(<()>::from_bytes(b"ignored"), Ok(()));
    }

    #[test]
    fn owned_results_are_handed_over_and_borrowed_ones_lent() {
        assert!(matches!(b"a".to_vec().into_bytes(), Ok(Cow::Owned(bytes)) if bytes == b"a"));
        assert!(matches!(Output::into_bytes("a".to_string()), Ok(Cow::Owned(bytes)) if bytes == b"a"));
        assert!(matches!(b"a"[..].into_bytes(), Ok(Cow::Borrowed(b"a"))));
        assert!(matches!("a".into_bytes(), Ok(Cow::Borrowed(b"a"))));
        assert!(matches!(().into_bytes(), Ok(Cow::Borrowed(b""))));
    }

    #[test]
    fn media_types_follow_the_type() {
        fn both<T: for<'a> Input<'a> + Output>() -> (&'static str, &'static str) {
            (<T as Input<'static>>::MEDIA_TYPE, <T as Output>::MEDIA_TYPE)
        }
        assert_eq!(both::<Vec<u8>>(), ("application/octet-stream", "application/octet-stream"));
        assert_eq!(both::<String>(), ("text/plain; charset=utf-8", "text/plain; charset=utf-8"));
        assert_eq!(both::<()>(), ("", ""));
        assert_eq!((<&str as Input<'_>>::MEDIA_TYPE, <&[u8] as Output>::MEDIA_TYPE), (TEXT, BYTES));
        // That of a Result is its value's.
        assert_eq!(<Result<String> as Output>::MEDIA_TYPE, TEXT);
        assert_eq!(<Result<Vec<u8>> as Imported>::MEDIA_TYPE, BYTES);
        #[cfg(feature = "json")]
        assert_eq!(both::<Json<u8>>(), ("application/json", "application/json"));
    }

    #[test]
    fn the_error_of_a_result_is_passed_on() {
        let failed: Result<&str> = Err(Error::invalid("no"));
        assert_eq!(failed.into_bytes(), Err(Error::invalid("no")));
        let other: std::result::Result<&str, std::num::ParseIntError> = "x".parse::<u8>().map(|_| "");
        assert_eq!(other.into_bytes().unwrap_err().status(), Status::FAILED);
        let answer: Result<String> = Imported::from_answer("country", Err(Error::unsupported("no")));
        assert_eq!(answer, Err(Error::unsupported("no")));
    }

    #[test]
    fn none_passes() {
        assert_eq!(None::<&str>.into_bytes(), Err(Error::pass()));
        assert!(matches!(Some("a").into_bytes(), Ok(Cow::Borrowed(b"a"))));
        assert_eq!(Ok::<_, Error>(None::<Vec<u8>>).into_bytes(), Err(Error::pass()));
        assert_eq!(<Result<Option<&str>> as Output>::MEDIA_TYPE, TEXT);
    }

    #[test]
    fn text_must_be_utf8() {
        assert_eq!(<&str>::from_bytes("ö".as_bytes()).unwrap(), "ö");
        let error = String::from_bytes(b"a\xff").unwrap_err();
        assert_eq!(error.status(), Status::INVALID);
        assert!(error.message().contains("index 1"), "{error}");
    }

    #[test]
    fn an_import_of_wrong_bytes_is_an_error() {
        let answer: Result<String> = Imported::from_answer("country", Ok(vec![0xff]));
        let error = answer.unwrap_err();
        assert_eq!(error.status(), Status::FAILED);
        assert!(error.message().starts_with("the result of the host function country: found bytes"), "{error}");
    }

    #[test]
    fn a_configuration_is_an_input_that_may_be_missing() {
        assert_eq!(read_config::<()>(b"ignored"), Ok(()));
        assert_eq!(read_config(b""), Ok(String::new()));
        assert_eq!(read_config(b"\xff"), Ok(vec![0xff]));
        let error = read_config::<String>(b"\xff").unwrap_err();
        assert_eq!(error.status(), Status::INVALID);
        assert!(error.message().starts_with("in the configuration: found bytes that are not text"), "{error}");
    }

    #[cfg(feature = "json")]
    #[test]
    fn no_configuration_is_an_object_without_members() {
        #[derive(serde::Deserialize, Debug, PartialEq)]
        struct Settings {
            #[serde(default)]
            depth: u8,
        }
        #[derive(serde::Deserialize, Debug)]
        struct Strict {
            #[allow(dead_code)]
            depth: u8,
        }
        assert_eq!(read_config(b""), Ok(Json(Settings { depth: 0 })));
        assert_eq!(read_config(br#"{"depth": 7}"#), Ok(Json(Settings { depth: 7 })));
        for missing in [&b""[..], b"{}"] {
            let error = read_config::<Json<Strict>>(missing).unwrap_err();
            let strict = std::any::type_name::<Strict>();
            let want = format!(
                "in the configuration: not JSON for the type {strict}: missing field `depth` at line 1 column 2"
            );
            assert_eq!(error, Error::invalid(want));
        }
        // An input that is missing is no JSON.
        assert!(Json::<Settings>::from_bytes(b"").is_err());
    }

    #[cfg(feature = "json")]
    #[test]
    fn json() {
        let error = Json::<Vec<u8>>::from_bytes(b"[1, 300]").unwrap_err();
        assert_eq!(error.status(), Status::INVALID);
        assert!(error.message().contains("line 1 column 7"), "{error}");
        let unwritable = std::collections::HashMap::from([((1, 2), 3)]);
        assert_eq!(Json(unwritable).into_bytes().unwrap_err().status(), Status::FAILED);
    }
}
