//! The host as a call sees it: its log, its word on cancellation, and its functions.

use crate::abi::{self, Call, Request};
use crate::{Error, Result, Status};
use std::fmt;
use std::mem::size_of;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

/// The importance of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Level {
    /// Something failed.
    Error = abi::LOG_ERROR,
    /// Something looks wrong.
    Warn = abi::LOG_WARN,
    /// What an operator may want to know.
    Info = abi::LOG_INFO,
    /// What the author may want to know.
    Debug = abi::LOG_DEBUG,
    /// Every step.
    Trace = abi::LOG_TRACE,
}

/// Where the services of a context come from.
pub enum Services {
    /// From the host that has made the call.
    Frame(Frame),
    /// From what stands in for a host in a plug-in's own tests.
    #[cfg(feature = "testing")]
    Testing(Box<dyn StandIn>),
}

/// What stands in for the host in a plug-in's own tests.
#[cfg(feature = "testing")]
pub trait StandIn: Send + Sync {
    /// Takes a log line.
    fn log(&self, level: Level, line: &str);
    /// Is the call cancelled?
    fn cancelled(&self) -> bool;
    /// Answers the import `name`.
    fn answer(&self, name: &str, input: &[u8]) -> Result<Vec<u8>>;
}

impl Services {
    /// Hands a line to the host's logger. Newlines at its end are cut off.
    pub fn log(&self, level: Level, message: impl fmt::Display) {
        let message = message.to_string();
        let line = message.trim_end_matches('\n');
        match self {
            Services::Frame(frame) => frame.log(level, line),
            #[cfg(feature = "testing")]
            Services::Testing(host) => host.log(level, line),
        }
    }

    /// Does the host no longer want the result (rule R17)?
    pub fn cancelled(&self) -> bool {
        match self {
            Services::Frame(frame) => frame.cancelled(),
            #[cfg(feature = "testing")]
            Services::Testing(host) => host.cancelled(),
        }
    }

    /// Calls the host function that the import `name` stands for.
    pub fn import(&self, slot: &AtomicU32, name: &str, input: &[u8]) -> Result<Vec<u8>> {
        match self {
            // Relaxed: the host wrote the slot before any code of this library ran (rule R5).
            Services::Frame(frame) => frame.import(slot.load(Ordering::Relaxed), name, input),
            #[cfg(feature = "testing")]
            Services::Testing(host) => host.answer(name, input),
        }
    }
}

/// The part of a running call that its context uses: the services and the cancellation word.
///
/// Invariant: the frame is valid as R6 and R21 have it, and the call runs for as long as this exists. The funnel makes
/// it, its context owns it, and the author's code gets that context by reference only.
pub struct Frame(*mut Call);

// SAFETY: `host` and `cancel` of a frame may be used on any thread while the call runs (R14, R18), nobody writes these
// two members meanwhile, and no method touches another member.
unsafe impl Send for Frame {}
// SAFETY: as above; every service may be called from several threads at a time (R18).
unsafe impl Sync for Frame {}

impl Frame {
    /// The frame of a running call.
    ///
    /// # Safety
    /// The invariant: `call` is a valid frame, and its call runs for as long as the value exists.
    #[inline]
    pub unsafe fn new(call: *mut Call) -> Frame {
        Frame(call)
    }

    /// The host's table, or None when it is smaller than the first version of it (R21).
    fn host(&self) -> Option<&'static abi::Host> {
        // SAFETY: the invariant; `host` is never null, and lives as long as the process (R18). Its first member is
        // read on its own, because there need not be more.
        unsafe {
            let host = (*self.0).host;
            (ptr::addr_of!((*host).size).read() >= size_of::<abi::Host>()).then(|| &*host)
        }
    }

    pub fn cancelled(&self) -> bool {
        // SAFETY: the invariant; `cancel` is null or points at a word that lives until the function returns (R17).
        unsafe { (*self.0).cancel.as_ref() }.map_or(false, |word| word.load(Ordering::Acquire) != 0)
    }

    fn log(&self, level: Level, line: &str) {
        if let Some(host) = self.host() {
            // SAFETY: the frame is valid by the invariant, the text for the duration of the call. A refusal is no
            // concern of the author's.
            unsafe { (host.log)(self.0, level as u32, line.as_ptr().cast(), line.len()) };
        }
    }

    /// Calls a host function, and fetches a result that is longer than the room it had at first (`kept`).
    fn import(&self, ordinal: u32, name: &str, input: &[u8]) -> Result<Vec<u8>> {
        let broken =
            |what: &str| Err(Error::failed(format_args!("the host broke the contract in the import `{name}`: {what}")));
        let host = match self.host() {
            Some(host) => host,
            None => return broken("its table is smaller than that of version 1 (rule R21)"),
        };
        let mut out: Vec<u8> = Vec::with_capacity(256);
        let mut request = Request {
            size: size_of::<Request>(),
            r#in: input.as_ptr(),
            in_len: input.len(),
            out: ptr::null_mut(),
            out_len: 0,
            out_cap: 0,
            ordinal,
            kept: 0,
        };
        let status = loop {
            request.out = out.as_mut_ptr();
            request.out_cap = out.capacity();
            request.out_len = 0;
            // SAFETY: the frame is valid by the invariant; the request is filled, its `in` is borrowed and its `out`
            // has room for out_cap bytes until the call returns.
            let status = unsafe { (host.call)(self.0, &mut request) };
            if status != abi::MORE {
                break status;
            }
            if request.kept == 0 || request.out_len <= out.capacity() {
                return broken("it asks for more room, and keeps no result that needs it");
            }
            if out.try_reserve_exact(request.out_len).is_err() {
                return Err(Error::new(
                    Status::NO_MEMORY,
                    format_args!("no memory for the {} bytes that the import `{name}` returned", request.out_len),
                ));
            }
        };
        if request.out_len > out.capacity() {
            return broken("its result is longer than the room (out_len over out_cap)");
        }
        // SAFETY: the host wrote out_len bytes at the Vec's start, as its status is not MORE; they are within it.
        unsafe { out.set_len(request.out_len) };
        if status == abi::OK {
            return Ok(out);
        }
        Err(match (out.is_empty(), status) {
            (false, _) => Error::new(Status::from_host(status), String::from_utf8_lossy(&out)),
            (true, abi::MISUSE) => Error::failed(format_args!(
                "the host refused the call of the import `{name}` (FERRULE_MISUSE): its call is over (rule R14), or \
                 its slot does not hold what the host wrote there (rule R5)"
            )),
            (true, _) => {
                let status = Status::from_host(status);
                Error::new(status, format_args!("the host function `{name}` answered without a message: {status}"))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::c_void;
    use std::os::raw::c_char;
    use std::sync::Mutex;

    /// What stands behind the frame's `state` here: the host's notes.
    #[derive(Default)]
    struct Notes {
        lines: Mutex<Vec<(u32, String)>>,
        calls: Mutex<Vec<(u32, Vec<u8>)>>,
    }

    unsafe extern "C" fn log(call: *mut Call, level: u32, text: *const c_char, len: usize) -> i32 {
        // SAFETY: `with_frame` has set `state`; the text is valid while this runs.
        let (notes, text) =
            unsafe { (&*(*call).state.cast::<Notes>(), std::slice::from_raw_parts(text.cast::<u8>(), len)) };
        notes.lines.lock().unwrap().push((level, String::from_utf8(text.to_vec()).unwrap()));
        abi::OK
    }

    /// Answers with the input, backwards; the ordinal 7 fails.
    unsafe extern "C" fn backwards(call: *mut Call, request: *mut Request) -> i32 {
        // SAFETY: as above; the request is the plug-in's, with room for `out_cap` bytes.
        unsafe {
            let (notes, request) = (&*(*call).state.cast::<Notes>(), &mut *request);
            let input = std::slice::from_raw_parts(request.r#in, request.in_len);
            notes.calls.lock().unwrap().push((request.ordinal, input.to_vec()));
            assert!(request.out_cap >= input.len());
            for (at, byte) in input.iter().rev().enumerate() {
                request.out.add(at).write(*byte);
            }
            request.out_len = input.len();
            match request.ordinal {
                7 => abi::INVALID,
                _ => abi::OK,
            }
        }
    }

    /// Runs `work` with the services of a frame, whose host's table has `size` bytes.
    fn with_frame(size: usize, cancel: *const AtomicU32, notes: &Notes, work: impl FnOnce(&Services)) {
        // A table lives as long as the process (R18).
        let host: &'static abi::Host = Box::leak(Box::new(abi::Host { size, call: backwards, log }));
        let state: *const Notes = notes;
        let mut call = Call {
            size: size_of::<Call>(),
            state: state as *mut c_void,
            r#in: b"".as_ptr(),
            in_len: 0,
            out: ptr::null_mut(),
            out_len: 0,
            out_cap: 0,
            release: None,
            host,
            cancel,
        };
        // SAFETY: a valid frame, which outlives the services.
        work(&Services::Frame(unsafe { Frame::new(&mut call) }));
    }

    #[test]
    fn levels_are_the_contracts() {
        let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
        let numbers = levels.map(|level| level as u32);
        assert_eq!(numbers, [abi::LOG_ERROR, abi::LOG_WARN, abi::LOG_INFO, abi::LOG_DEBUG, abi::LOG_TRACE]);
        assert!(Level::Error < Level::Trace);
    }

    #[test]
    fn a_line_goes_to_the_hosts_log_without_its_newlines() {
        let notes = Notes::default();
        with_frame(size_of::<abi::Host>(), ptr::null(), &notes, |services| {
            services.log(Level::Warn, "two\nlines\n\n");
            services.log(Level::Trace, format_args!("{}", 7));
        });
        let lines = notes.lines.into_inner().unwrap();
        assert_eq!(lines, [(abi::LOG_WARN, "two\nlines".to_string()), (abi::LOG_TRACE, "7".to_string())]);
    }

    #[test]
    fn an_import_calls_what_its_slot_says() {
        let notes = Notes::default();
        with_frame(size_of::<abi::Host>(), ptr::null(), &notes, |services| {
            assert_eq!(services.import(&AtomicU32::new(3), "backwards", b"abc"), Ok(b"cba".to_vec()));
            let error = services.import(&AtomicU32::new(7), "backwards", b"on").unwrap_err();
            assert_eq!((error.status(), error.message()), (Status::INVALID, "no"));
        });
        assert_eq!(notes.calls.into_inner().unwrap(), [(3, b"abc".to_vec()), (7, b"on".to_vec())]);
    }

    #[test]
    fn the_cancellation_word() {
        let (notes, word) = (Notes::default(), AtomicU32::new(0));
        with_frame(size_of::<abi::Host>(), &word, &notes, |services| {
            assert!(!services.cancelled());
            word.store(1, Ordering::Release);
            assert!(services.cancelled());
        });
        with_frame(size_of::<abi::Host>(), ptr::null(), &notes, |services| assert!(!services.cancelled()));
    }

    #[test]
    fn a_table_that_is_too_small_is_not_used() {
        let notes = Notes::default();
        with_frame(size_of::<abi::Host>() - 1, ptr::null(), &notes, |services| {
            services.log(Level::Error, "lost");
            let error = services.import(&AtomicU32::new(3), "backwards", b"abc").unwrap_err();
            assert!(error.message().contains("`backwards`: its table is smaller"), "{error}");
        });
        assert!(notes.lines.into_inner().unwrap().is_empty() && notes.calls.into_inner().unwrap().is_empty());
    }
}
