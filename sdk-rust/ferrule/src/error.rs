//! What a function returns when it did not work.

use crate::abi;
use std::{fmt, io};

/// What a plug-in function returns; `Err` goes to the host as a status and a message.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The number that goes to the host with an [`Error`]'s message (rule R10).
///
/// The set is open. A plug-in has numbers of its own from 1000 on ([`Status::own`]), and a host function may answer
/// with any.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(i32);

impl Status {
    /// It did not work; the message says why. What `?` makes of any error.
    pub const FAILED: Status = Status(abi::FAILED);
    /// The input is not what the function takes.
    pub const INVALID: Status = Status(abi::INVALID);
    /// Understood, but not to be had here.
    pub const UNSUPPORTED: Status = Status(abi::UNSUPPORTED);
    /// The host no longer wants the result (rule R17).
    pub const CANCELLED: Status = Status(abi::CANCELLED);
    /// Memory or room was not enough.
    pub const NO_MEMORY: Status = Status(abi::NO_MEMORY);
    /// Nothing to say to this input, which is no failure (rule R22). A function says so by `None`.
    pub const PASS: Status = Status(abi::PASS);

    /// A status of the plug-in's own, 1000 or more.
    ///
    /// # Panics
    /// With a number below 1000; in a constant that is a compile error.
    ///
    /// ```
    /// const SOLD_OUT: ferrule::Status = ferrule::Status::own(1001);
    /// ```
    pub const fn own(code: i32) -> Status {
        assert!(code >= abi::STATUS_OWN, "a plug-in's own status is 1000 or more (rule R10)");
        Status(code)
    }

    /// The number as the host sees it.
    pub const fn code(self) -> i32 {
        self.0
    }

    pub(crate) const PANIC: Status = Status(abi::PANIC);
    pub(crate) const MISUSE: Status = Status(abi::MISUSE);

    /// The status of an error that a host function answered with. What stands for this plug-in's own calls alone is
    /// FAILED here: passed on with `?`, a host function's PANIC would poison an instance that is whole, and its
    /// MISUSE would blame the host for it.
    pub(crate) fn from_host(code: i32) -> Status {
        match code {
            abi::PANIC | abi::MISUSE | abi::MORE => Status::FAILED,
            code if code <= abi::OK => Status::FAILED,
            code => Status(code),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            abi::FAILED => f.write_str("failed"),
            abi::INVALID => f.write_str("invalid input"),
            abi::UNSUPPORTED => f.write_str("unsupported"),
            abi::CANCELLED => f.write_str("cancelled"),
            abi::PANIC => f.write_str("panic"),
            abi::NO_MEMORY => f.write_str("out of memory"),
            abi::MISUSE => f.write_str("misuse"),
            abi::PASS => f.write_str("pass"),
            code => write!(f, "status {code}"),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({}: {self})", self.0)
    }
}

/// A status and a message for people.
///
/// `?` makes one, with the status FAILED, of every [`Failure`]: an [`std::error::Error`], whose sources are appended to
/// the message, a `Box<dyn Error>`, a `String`, an `anyhow::Error`. For this to work, `Error` does not implement
/// `std::error::Error`. Where one is asked for, as in an implementation of [`std::io::Read`], `?` makes it an
/// [`std::io::Error`], of which `?` makes the same `Error` again, status and all. In a function that returns
/// `anyhow::Result` or `Box<dyn Error>`, `.map_err(std::io::Error::from)?` does the same.
///
/// ```
/// use ferrule::{Error, Status};
///
/// fn level(text: &str) -> ferrule::Result<u8> {
///     let level: u8 = text.trim().parse()?;
///     if level > 22 {
///         return Err(Error::invalid(format!("found level {level}, expected 1 to 22")));
///     }
///     Ok(level)
/// }
/// assert_eq!(level("23").unwrap_err().status(), Status::INVALID);
/// assert_eq!(level("x").unwrap_err().to_string(), "invalid digit found in string");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    status: Status,
    message: String,
}

impl Error {
    /// An error with a status.
    pub fn new(status: Status, message: impl fmt::Display) -> Error {
        Error { status, message: message.to_string() }
    }

    /// It did not work.
    pub fn failed(message: impl fmt::Display) -> Error {
        Error::new(Status::FAILED, message)
    }

    /// The input is not what the function takes: say what was found and what was expected.
    pub fn invalid(message: impl fmt::Display) -> Error {
        Error::new(Status::INVALID, message)
    }

    /// Understood, but not to be had here.
    pub fn unsupported(message: impl fmt::Display) -> Error {
        Error::new(Status::UNSUPPORTED, message)
    }

    /// The host no longer wants the result; see [`Context::cancelled`](crate::Context::cancelled).
    pub fn cancelled() -> Error {
        Error::new(Status::CANCELLED, "cancelled")
    }

    /// The function has nothing to say to this input (rule R22): the host goes on as if it had not called, and a host that
    /// is older than version 1.1 reads FAILED. A function that returns an `Option` says the same by `None`; this is for
    /// the places from which only `?` leads out. Costs no allocation.
    pub fn pass() -> Error {
        Error { status: Status::PASS, message: String::new() }
    }

    /// The same status with another message.
    pub(crate) fn with_message(self, message: impl fmt::Display) -> Error {
        Error { message: message.to_string(), ..self }
    }

    /// The same message with another status.
    pub fn with_status(self, status: Status) -> Error {
        Error { status, ..self }
    }

    /// The status.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.status)
    }
}

/// What `?` makes an [`Error`] of: everything that it makes a `Box<dyn std::error::Error>` of. That is each
/// [`std::error::Error`], such a box itself, `String` and `&str`, and what other crates have for errors of any kind,
/// such as `anyhow::Error`. There is nothing to implement: for a type of your own that is no `std::error::Error`, write
/// an `impl From<…> for ferrule::Error`.
///
/// A `Box<dyn Error + Send + Sync>` is none, as it does not become a `Box<dyn Error>` by `?` either:
///
/// ```
/// # fn load() -> Result<String, Box<dyn std::error::Error + Send + Sync>> { Ok("text".to_string()) }
/// # fn f() -> ferrule::Result<String> {
/// let text = load().map_err(ferrule::Error::failed)?;
/// # Ok(text)
/// # }
/// # assert_eq!(f().unwrap(), "text");
/// ```
// A trait between From and Into has the place for what the compiler says. The conversion is that of the standard
// library, because no crate may say that `String` is no std::error::Error, and so none may implement From for both.
#[cfg_attr(
    ferrule_diagnostic,
    diagnostic::on_unimplemented(
        message = "`{Self}` is not an error that the host can be told",
        label = "not an error: `.map_err(ferrule::Error::failed)` makes one of whatever implements `Display`",
        note = "an error implements `std::error::Error`, or is `ferrule::Error`, `Box<dyn std::error::Error>`, \
                `String`, `&str` or `anyhow::Error`",
        note = "for a type of your own write `impl From<{Self}> for ferrule::Error`"
    )
)]
pub trait Failure {
    /// Makes it: the status is FAILED, unless an [`Error`] is what it all began with.
    fn into_error(self) -> Error;
}

#[cfg_attr(ferrule_do_not_recommend, diagnostic::do_not_recommend)]
impl<'a, E: Into<Box<dyn std::error::Error + 'a>>> Failure for E {
    fn into_error(self) -> Error {
        let error = self.into();
        let mut message = error.to_string();
        let mut status = Status::FAILED;
        let mut source = error.source();
        while let Some(error) = source {
            if let Some(Carried(carried)) = error.downcast_ref() {
                status = *carried;
                break;
            }
            message.push_str(": ");
            message.push_str(&error.to_string());
            source = error.source();
        }
        Error { status, message }
    }
}

impl<E: Failure> From<E> for Error {
    fn from(error: E) -> Error {
        error.into_error()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match error.status {
            Status::INVALID => io::ErrorKind::InvalidData,
            Status::UNSUPPORTED => io::ErrorKind::Unsupported,
            Status::NO_MEMORY => io::ErrorKind::OutOfMemory,
            // Not Interrupted for CANCELLED: it would be tried again.
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, Envelope { message: error.message, status: Carried(error.status) })
    }
}

/// What an `io::Error` holds of an `Error`. It passes over what it holds when it is asked for its source, so the status is
/// one further down. There it is found behind other errors, too.
#[derive(Debug)]
struct Envelope {
    message: String,
    status: Carried,
}

impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Envelope {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.status)
    }
}

/// The status of an `Error` on its way through other errors.
#[derive(Debug)]
struct Carried(Status);

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Carried {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot read the level")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn sources_are_part_of_the_message() {
        let error = Error::from(Outer("x".parse::<u8>().unwrap_err()));
        assert_eq!(error.message(), "cannot read the level: invalid digit found in string");
        assert_eq!(error.status(), Status::FAILED);
    }

    /// What `?` makes of the error that is failed with.
    fn asked<E: Failure>(error: E) -> Error {
        fn fails<E: Failure>(error: E) -> Result<()> {
            Err(error)?;
            Ok(())
        }
        fails(error).unwrap_err()
    }

    #[test]
    fn whatever_a_box_takes_is_an_error() {
        assert_eq!(asked("a text"), Error::failed("a text"));
        assert_eq!(asked("a string".to_string()), Error::failed("a string"));
        let outer = || Outer("x".parse::<u8>().unwrap_err());
        let message = "cannot read the level: invalid digit found in string";
        let boxed: Box<dyn std::error::Error> = outer().into();
        assert_eq!(asked(boxed), Error::failed(message));
        let shared: Box<dyn std::error::Error + Send + Sync> = outer().into();
        assert_eq!(asked(anyhow::anyhow!(shared)), Error::failed(message));
        assert_eq!(
            asked(anyhow::Error::from(outer()).context("at the start")),
            asked(format!("at the start: {message}"))
        );
        // What borrows is one as well, and so is what stays on its thread.
        let (text, mutex) = (String::from("borrowed"), std::sync::Mutex::new(std::rc::Rc::new(0)));
        assert_eq!(asked(&*text), Error::failed("borrowed"));
        assert!(asked(std::sync::PoisonError::new(mutex.lock().unwrap())).message().contains("poisoned"));
    }

    #[test]
    fn a_status_goes_through_errors_of_any_kind() {
        let sold_out = Error::new(Status::own(1001), "sold out");
        let carried = |error: &Error| io::Error::from(error.clone());
        let boxed: Box<dyn std::error::Error> = carried(&sold_out).into();
        assert_eq!(asked(boxed), sold_out);
        assert_eq!(asked(anyhow::Error::from(carried(&sold_out))), sold_out);
        let around = anyhow::Error::from(carried(&sold_out)).context("no coffee");
        assert_eq!(asked(around), Error::new(Status::own(1001), "no coffee: sold out"));
    }

    #[test]
    fn a_status_goes_through_io_errors_and_what_is_around_them() {
        for error in [Error::cancelled(), Error::new(Status::own(1001), "sold out"), Error::pass(), Error::failed("no")]
        {
            assert_eq!(Error::from(io::Error::from(error.clone())), error);
            // As a source of another error, and as the inner error of another io::Error.
            #[derive(Debug)]
            struct Around(io::Error);
            impl fmt::Display for Around {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("around")
                }
            }
            impl std::error::Error for Around {
                fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                    Some(&self.0)
                }
            }
            let around = Error::from(Around(io::Error::from(error.clone())));
            assert_eq!(around, Error::new(error.status(), format!("around: {error}")));
            let inner = io::Error::from(error.clone());
            assert_eq!(Error::from(io::Error::new(io::ErrorKind::Other, inner)), error);
        }
        let kind = |error: Error| io::Error::from(error).kind();
        assert_eq!(kind(Error::unsupported("no")), io::ErrorKind::Unsupported);
        assert_eq!(kind(Error::invalid("no")), io::ErrorKind::InvalidData);
        assert_eq!(kind(Error::new(Status::NO_MEMORY, "no")), io::ErrorKind::OutOfMemory);
        assert_eq!(kind(Error::cancelled()), io::ErrorKind::Other, "Interrupted would be tried again");
        // Another io::Error is FAILED.
        assert_eq!(Error::from(io::Error::new(io::ErrorKind::Other, "no")), Error::failed("no"));
    }

    #[test]
    fn statuses() {
        assert_eq!(Error::cancelled().with_status(Status::own(1000)).status().code(), 1000);
        assert_eq!(format!("{:?}", Error::new(Status::own(1007), "no")), "no (status 1007)");
        for (code, want) in [(0, 1), (-4, 1), (5, 1), (7, 1), (8, 1), (9, 9), (2, 2), (4, 4), (500, 500), (1234, 1234)]
        {
            assert_eq!(Status::from_host(code).code(), want, "{code}");
        }
    }

    #[test]
    #[should_panic(expected = "1000 or more")]
    fn own_statuses_start_at_1000() {
        Status::own(999);
    }

    #[test]
    fn what_statuses_are_called() {
        let known = [Status::FAILED, Status::INVALID, Status::UNSUPPORTED, Status::CANCELLED, Status::NO_MEMORY];
        let names = known.map(|status| status.to_string());
        assert_eq!(names, ["failed", "invalid input", "unsupported", "cancelled", "out of memory"]);
        let others = [Status::PANIC, Status::MISUSE, Status::PASS].map(|status| status.to_string());
        assert_eq!(others, ["panic", "misuse", "pass"]);
        assert_eq!(format!("{} {:?}", Status::own(1001), Status::INVALID), "status 1001 Status(2: invalid input)");
    }

    #[test]
    fn each_way_to_make_one_has_its_status() {
        let errors = [Error::failed(1), Error::invalid(2), Error::unsupported(3), Error::cancelled()];
        let numbers = errors.clone().map(|error| error.status().code());
        assert_eq!(numbers, [abi::FAILED, abi::INVALID, abi::UNSUPPORTED, abi::CANCELLED]);
        assert_eq!(errors.map(|error| error.to_string()), ["1", "2", "3", "cancelled"]);
        // The message stays when the status changes.
        assert_eq!(Error::failed("why").with_status(Status::INVALID), Error::invalid("why"));
    }
}
