//! The frame of a running call, and the host's services with it.
//!
//! A host of version 1.0 passes a frame and a table that end before what came with 1.1. So neither is ever borrowed as a
//! whole: [`member!`] reads one member, after a look at the size.

use crate::abi::{self, Call, Request};
use crate::{Error, Result, Status};
use std::fmt;
use std::mem::size_of;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// `FERRULE_HAS`, and the member: reads `member` of the struct at a pointer; None when the side that made the struct does
/// not know it.
///
/// Sound when the pointer is to a struct that begins with its `size`, and has as many bytes (R21).
macro_rules! member {
    ($pointer:expr, $type:ty, $member:ident) => {{
        let pointer: *const $type = $pointer;
        let layout = std::mem::MaybeUninit::<$type>::uninit();
        let layout = layout.as_ptr();
        // Addresses in a value of the whole type; its memory is not read.
        let end = ptr::addr_of!((*layout).$member).add(1) as usize - layout as usize;
        match ptr::addr_of!((*pointer).size).read() >= end {
            true => Some(ptr::addr_of!((*pointer).$member).read()),
            false => None,
        }
    }};
}

/// A service that takes a request.
type Service = unsafe extern "C" fn(*mut Call, *mut Request) -> i32;

/// The part of a running call that its context uses: the services, the cancellation word and the progress.
///
/// Invariant: the frame is valid as R6 and R21 have it, and the call runs for as long as a method of this does. That of
/// a call belongs to its context, which the author's code gets by reference only; that between calls (R27) is behind a
/// [`Gate`](crate::host::Gate).
pub struct Frame(*mut Call);

// SAFETY: `host`, `cancel` and `progress` of a frame may be used on any thread while the call runs (R14, R18, R30),
// nobody writes these members meanwhile, and no method touches another member.
unsafe impl Send for Frame {}
// SAFETY: as above; every service may be called from several threads at a time (R18).
unsafe impl Sync for Frame {}

impl Frame {
    /// The frame of a running call.
    ///
    /// # Safety
    /// The invariant: `call` is a valid frame, and its call runs for as long as a method of the value does.
    #[inline]
    pub unsafe fn new(call: *mut Call) -> Frame {
        Frame(call)
    }

    fn host(&self) -> *const abi::Host {
        // SAFETY: the invariant; a frame of version 1.0 has this member.
        unsafe { ptr::addr_of!((*self.0).host).read() }
    }

    pub fn cancelled(&self) -> bool {
        // SAFETY: the invariant; `cancel` is null or points at a word that lives until the function returns (R17).
        let word: Option<&AtomicU32> = unsafe { ptr::addr_of!((*self.0).cancel).read().as_ref() };
        word.map_or(false, |word| word.load(Ordering::Acquire) != 0)
    }

    /// Says how far the call is (R30). Nothing happens where the host does not look.
    pub fn progress(&self, done: u64, total: u64) {
        // SAFETY: the invariant.
        let words: *const AtomicU64 = match unsafe { member!(self.0, Call, progress) } {
            // A uint64_t of 32-bit x86 may lie at an address where an AtomicU64 must not.
            Some(words) if !words.is_null() && words as usize % std::mem::align_of::<AtomicU64>() == 0 => words,
            _ => return,
        };
        // SAFETY: R30: two words, which live until the function returns, and are read by the host only.
        unsafe {
            (*words.add(1)).store(total, Ordering::Relaxed);
            (*words).store(done, Ordering::Relaxed);
        }
    }

    /// Hands a line to the host's logger. A host that does not know fields gets them at the line's end.
    pub fn log(&self, level: u32, line: &str, fields: &[(String, String)]) {
        if !fields.is_empty() {
            // SAFETY: the table is the host's (R18).
            if let Some(log_fields) = unsafe { member!(self.host(), abi::Host, log_fields) } {
                let mut bytes = Vec::new();
                for (key, value) in fields {
                    // The first `=` ends the key, and a NUL the field.
                    bytes.extend_from_slice(key.replace(&['=', '\0'][..], "\u{fffd}").as_bytes());
                    bytes.push(b'=');
                    bytes.extend_from_slice(value.replace('\0', "\u{fffd}").as_bytes());
                    bytes.push(0);
                }
                let (text, fields) = (line.as_ptr().cast(), bytes.as_ptr().cast());
                // SAFETY: the frame is valid by the invariant, the texts for the duration of the call. A refusal is no
                // concern of the author's.
                unsafe { log_fields(self.0, level, text, line.len(), fields, bytes.len()) };
                return;
            }
        }
        let mut longer = String::new();
        let line = match fields {
            [] => line,
            fields => {
                longer.push_str(line);
                for (key, value) in fields {
                    longer.push_str(&format!(" {key}={value}"));
                }
                longer.trim_end_matches('\n')
            }
        };
        // SAFETY: as above.
        unsafe {
            if let Some(log) = member!(self.host(), abi::Host, log) {
                log(self.0, level, line.as_ptr().cast(), line.len());
            }
        }
    }

    /// Calls the host function of an ordinal. `name` is for messages; what is `optional` need not be offered (R23).
    pub fn import(&self, ordinal: u32, name: &str, optional: bool, input: &[u8]) -> Result<Vec<u8>> {
        let what = &Named("the import", name);
        // SAFETY: the table is the host's (R18).
        let call = match unsafe { member!(self.host(), abi::Host, call) } {
            Some(call) => call,
            None => return Err(broken(what, "its table is smaller than that of version 1 (rule R21)")),
        };
        let (status, out) = self.request(call, ordinal, input, what)?;
        match (status, out.is_empty()) {
            (abi::UNSUPPORTED, true) if optional => {
                Err(Error::unsupported(format_args!("the host does not offer `{name}`, or does not say why it fails")))
            }
            _ => answer(status, out, what),
        }
    }

    /// Runs what stands behind a wrapper (R33).
    pub fn next(&self, input: &[u8]) -> Result<Vec<u8>> {
        let what = &"what stands behind the wrapper";
        // SAFETY: as above.
        let next = match unsafe { member!(self.host(), abi::Host, next) } {
            Some(next) => next,
            None => return Err(older("wrappers (rule R33)")),
        };
        let (status, out) = self.request(next, 0, input, what)?;
        match (status, out.is_empty()) {
            (abi::UNSUPPORTED, true) => {
                Err(Error::unsupported("nothing stands behind: the call is not one of a hook that wraps (rule R33)"))
            }
            _ => answer(status, out, what),
        }
    }

    /// Answers a key (R26); None for what the host does not know, grant or set, and for what is no key.
    pub fn info(&self, key: &str) -> Option<String> {
        // SAFETY: as above.
        let info = unsafe { member!(self.host(), abi::Host, info) }?;
        match self.request(info, 0, key.as_bytes(), &Named("the answer to the key", key)) {
            Ok((abi::OK, text)) => Some(match String::from_utf8(text) {
                Ok(text) => text,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            }),
            _ => None,
        }
    }

    /// Takes the next piece of the input stream (R24), which is empty at the end. It lives until the next read on this
    /// call, of whatever thread, and at most as long as the call.
    pub fn read(&self) -> Result<(*const u8, usize)> {
        // SAFETY: as above.
        let read = match unsafe { member!(self.host(), abi::Host, read) } {
            Some(read) => read,
            None => return Err(older("streams (rule R24)")),
        };
        let (mut piece, mut len) = (ptr::null(), 0);
        // SAFETY: the frame is valid by the invariant; both words are written before the service returns.
        match unsafe { read(self.0, &mut piece, &mut len) } {
            abi::OK if len == 0 => Ok((ptr::NonNull::dangling().as_ptr(), 0)),
            abi::OK if !piece.is_null() && len <= isize::MAX as usize => Ok((piece, len)),
            abi::OK => Err(broken(&"the input stream", "its piece is nowhere, or too long")),
            status => Err(stream_error(status, "input", "the input stream broke off")),
        }
    }

    /// Passes a piece on to the output stream (R24).
    pub fn write(&self, piece: &[u8]) -> Result<()> {
        // SAFETY: as above.
        let write = match unsafe { member!(self.host(), abi::Host, write) } {
            Some(write) => write,
            None => return Err(older("streams (rule R24)")),
        };
        // SAFETY: the frame is valid by the invariant; the host has copied the piece when the service returns.
        match unsafe { write(self.0, piece.as_ptr(), piece.len()) } {
            abi::OK => Ok(()),
            status => Err(stream_error(status, "output", "nobody takes more of the output stream")),
        }
    }

    /// The frame for what happens between calls (R27). For the one of `ferrule_start` only.
    ///
    /// The result is a frame as well, but its invariant is another: it ends with `ferrule_stop`, or with a
    /// `ferrule_start` that fails.
    pub fn background(&self) -> Result<Frame> {
        // SAFETY: as above.
        let background = match unsafe { member!(self.host(), abi::Host, background) } {
            Some(background) => background,
            None => return Err(older("what a plug-in does between calls (rule R27)")),
        };
        // SAFETY: the frame is valid by the invariant.
        let frame = unsafe { background(self.0) };
        match frame.is_null() {
            true => Err(Error::new(Status::NO_MEMORY, "no memory for the frame between calls (rule R27)")),
            false => Ok(Frame(frame)),
        }
    }

    /// Passes a request to a service, and fetches a result that is longer than the room it had at first (`kept`).
    fn request(&self, service: Service, ordinal: u32, input: &[u8], what: &dyn fmt::Display) -> Result<(i32, Vec<u8>)> {
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
            let status = unsafe { service(self.0, &mut request) };
            if status != abi::MORE {
                break status;
            }
            if request.kept == 0 || request.out_len <= out.capacity() {
                return Err(broken(what, "it asks for more room, and keeps no result that needs it"));
            }
            if out.try_reserve_exact(request.out_len).is_err() {
                return Err(Error::new(
                    Status::NO_MEMORY,
                    format_args!("no memory for the {} bytes that {what} returned", request.out_len),
                ));
            }
        };
        if request.out_len > out.capacity() {
            return Err(broken(what, "its result is longer than the room (out_len over out_cap)"));
        }
        // SAFETY: the host wrote out_len bytes at the Vec's start, as its status is not MORE; they are within it.
        unsafe { out.set_len(request.out_len) };
        Ok((status, out))
    }
}

/// Asks the host for room of `n` bytes at least (R25); true when `out` and `out_cap` are that room now. The first out_len
/// bytes are kept.
///
/// # Safety
/// `call` is a valid frame of a running call, nobody else uses `out` meanwhile, and nothing was handed over.
pub unsafe fn room(call: *mut Call, n: usize) -> bool {
    // SAFETY: the caller's, and the table is the host's (R18).
    unsafe {
        match member!(ptr::addr_of!((*call).host).read(), abi::Host, room) {
            Some(room) => room(call, n) == abi::OK && (*call).out_cap >= n && !(*call).out.is_null(),
            None => false,
        }
    }
}

/// What is called, with its name; written when a message needs it only.
struct Named<'a>(&'static str, &'a str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.0, self.1)
    }
}

fn broken(what: &dyn fmt::Display, how: &str) -> Error {
    Error::failed(format_args!("the host broke the contract in {what}: {how}"))
}

fn older(than: &str) -> Error {
    Error::unsupported(format_args!("the host is older than {than}, which came with version 1.1 of the contract"))
}

/// The result of a host function, or its error.
fn answer(status: i32, out: Vec<u8>, what: &dyn fmt::Display) -> Result<Vec<u8>> {
    if status == abi::OK {
        return Ok(out);
    }
    Err(match (out.is_empty(), status) {
        (true, abi::PASS) => Error::pass(),
        (true, abi::MISUSE) => Error::failed(format_args!(
            "the host refused {what} (FERRULE_MISUSE): its call is over (rule R14), or its slot does not hold what the \
             host wrote there (rule R5)"
        )),
        (true, _) => {
            let status = Status::from_host(status);
            Error::new(status, format_args!("{what} answered without a message: {status}"))
        }
        (false, _) => Error::new(Status::from_host(status), String::from_utf8_lossy(&out)),
    })
}

fn stream_error(status: i32, which: &str, failed: &str) -> Error {
    match status {
        abi::FAILED => Error::failed(failed),
        abi::CANCELLED => Error::cancelled(),
        abi::UNSUPPORTED => Error::unsupported(format_args!("the call has no {which} stream (rule R24)")),
        abi::MISUSE => Error::failed(format_args!(
            "the host refused the {which} stream (FERRULE_MISUSE): its call is over (rule R14)"
        )),
        status => broken(&format!("the {which} stream"), &format!("it answered with the status {status}")),
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

    /// # Safety
    /// `with_frame` has set `state`.
    unsafe fn notes<'a>(call: *mut Call) -> &'a Notes {
        // SAFETY: the caller's.
        unsafe { &*(*call).state.cast::<Notes>() }
    }

    /// # Safety
    /// `len` bytes at `start`, for as long as the result lives.
    unsafe fn text(start: *const c_char, len: usize) -> String {
        // SAFETY: the caller's.
        String::from_utf8(unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) }.to_vec()).unwrap()
    }

    unsafe extern "C" fn log(call: *mut Call, level: u32, line: *const c_char, len: usize) -> i32 {
        // SAFETY: R18.
        unsafe { notes(call).lines.lock().unwrap().push((level, text(line, len))) };
        abi::OK
    }

    unsafe extern "C" fn log_fields(
        call: *mut Call,
        level: u32,
        line: *const c_char,
        len: usize,
        fields: *const c_char,
        fields_len: usize,
    ) -> i32 {
        // SAFETY: R31.
        unsafe {
            let line = format!("{}|{}", text(line, len), text(fields, fields_len));
            notes(call).lines.lock().unwrap().push((level, line));
        }
        abi::OK
    }

    /// Answers with the input, backwards; the ordinal 7 fails, 9 passes.
    unsafe extern "C" fn backwards(call: *mut Call, request: *mut Request) -> i32 {
        // SAFETY: as above; the request is the plug-in's, with room for `out_cap` bytes.
        unsafe {
            let request = &mut *request;
            let input = std::slice::from_raw_parts(request.r#in, request.in_len);
            notes(call).calls.lock().unwrap().push((request.ordinal, input.to_vec()));
            if request.ordinal == 9 {
                return abi::PASS;
            }
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

    unsafe extern "C" fn room(call: *mut Call, n: usize) -> i32 {
        // SAFETY: R25. What is given is leaked.
        unsafe {
            let larger = Box::leak(vec![0_u8; n].into_boxed_slice());
            larger[..(*call).out_len].copy_from_slice(std::slice::from_raw_parts((*call).out, (*call).out_len));
            (*call).out = larger.as_mut_ptr();
            (*call).out_cap = n;
        }
        abi::OK
    }

    /// Answers with the status that stands in the frame's `in_len`, and nowhere.
    unsafe extern "C" fn read(call: *mut Call, piece: *mut *const u8, len: *mut usize) -> i32 {
        // SAFETY: R24.
        unsafe {
            *piece = ptr::null();
            *len = (*call).out_len;
            (*call).in_len as i32
        }
    }

    unsafe extern "C" fn write(call: *mut Call, _: *const u8, _: usize) -> i32 {
        // SAFETY: R24.
        unsafe { (*call).in_len as i32 }
    }

    unsafe extern "C" fn background(_: *mut Call) -> *mut Call {
        ptr::null_mut()
    }

    /// A copy of the first `size` bytes, with nothing behind them; leaked, as a table lives as long as the process (R18).
    fn cut<T>(whole: T, size: usize) -> *mut T {
        assert!(size <= size_of::<T>() && size % size_of::<usize>() == 0);
        let words: Box<[usize]> = vec![0; size / size_of::<usize>()].into_boxed_slice();
        let start: *mut T = Box::leak(words).as_mut_ptr().cast();
        // SAFETY: `size` bytes there and here.
        unsafe { ptr::copy_nonoverlapping(ptr::addr_of!(whole).cast::<u8>(), start.cast(), size) };
        start
    }

    /// A frame of `size` bytes, with a table of `table` bytes.
    fn frame(size: usize, table: usize, cancel: *const AtomicU32, notes: &Notes) -> *mut Call {
        let (call, info, next) = (backwards, backwards, backwards);
        let whole = abi::Host { size: table, call, log, log_fields, info, room, read, write, next, background };
        let state: *const Notes = notes;
        let whole = Call {
            size,
            state: state as *mut c_void,
            r#in: b"".as_ptr(),
            in_len: 0,
            out: ptr::NonNull::dangling().as_ptr(),
            out_len: 0,
            out_cap: 0,
            release: None,
            host: cut(whole, table),
            cancel,
            progress: ptr::null(),
        };
        cut(whole, size)
    }

    const CALL: usize = size_of::<Call>();
    const HOST: usize = size_of::<abi::Host>();

    fn with_frame(table: usize, cancel: *const AtomicU32, notes: &Notes, work: impl FnOnce(&Frame)) {
        // SAFETY: a valid frame, which is never freed.
        work(&unsafe { Frame::new(frame(CALL, table, cancel, notes)) });
    }

    fn field(key: &str, value: &str) -> (String, String) {
        (key.to_string(), value.to_string())
    }

    #[test]
    fn lines_and_fields() {
        let notes = Notes::default();
        let fields = [field("a", "1"), field("b=c", "x\0=y"), field("", "")];
        with_frame(HOST, ptr::null(), &notes, |frame| {
            frame.log(abi::LOG_WARN, "line", &[]);
            frame.log(abi::LOG_INFO, "line", &fields);
        });
        // A host of version 1.0 has the fields in its line.
        with_frame(abi::Host::SIZE_1_0, ptr::null(), &notes, |frame| {
            frame.log(abi::LOG_INFO, "line", &fields[..1]);
            frame.log(abi::LOG_INFO, "line", &[field("text", "two\nlines\n")]);
        });
        let lines = notes.lines.into_inner().unwrap();
        let want = [
            (abi::LOG_WARN, "line"),
            (abi::LOG_INFO, "line|a=1\0b\u{fffd}c=x\u{fffd}=y\0=\0"),
            (abi::LOG_INFO, "line a=1"),
            (abi::LOG_INFO, "line text=two\nlines"),
        ];
        assert_eq!(lines, want.map(|(level, line)| (level, line.to_string())));
    }

    #[test]
    fn an_import_calls_what_its_ordinal_says() {
        let notes = Notes::default();
        with_frame(HOST, ptr::null(), &notes, |frame| {
            assert_eq!(frame.import(3, "backwards", false, b"abc"), Ok(b"cba".to_vec()));
            let error = frame.import(7, "backwards", false, b"on").unwrap_err();
            assert_eq!((error.status(), error.message()), (Status::INVALID, "no"));
            let error = frame.import(7, "backwards", false, b"").unwrap_err();
            assert!(error.message().contains("the import `backwards` answered without a message: invalid"), "{error}");
            assert_eq!(frame.import(9, "backwards", false, b""), Err(Error::pass()));
            assert_eq!(frame.next(b"abc"), Ok(b"cba".to_vec()));
            assert_eq!(frame.info("path"), Some("htap".to_string()));
        });
        assert_eq!(notes.calls.into_inner().unwrap()[0], (3, b"abc".to_vec()));
    }

    #[test]
    fn the_cancellation_word() {
        let (notes, word) = (Notes::default(), AtomicU32::new(0));
        with_frame(HOST, &word, &notes, |frame| {
            assert!(!frame.cancelled());
            word.store(1, Ordering::Release);
            assert!(frame.cancelled());
        });
        with_frame(HOST, ptr::null(), &notes, |frame| assert!(!frame.cancelled()));
    }

    #[test]
    fn a_host_of_version_1_0_has_nothing_that_came_later() {
        let notes = Notes::default();
        let call = frame(Call::SIZE_1_0, abi::Host::SIZE_1_0, ptr::null(), &notes);
        // SAFETY: a valid frame of version 1.0, which is never freed.
        let (frame, more) = unsafe { (Frame::new(call), super::room(call, 10)) };
        assert!(!more);
        frame.progress(1, 2);
        assert_eq!(frame.info("path"), None);
        for error in [
            frame.next(b"").unwrap_err(),
            frame.read().unwrap_err(),
            frame.write(b"x").unwrap_err(),
            frame.background().map(drop).unwrap_err(),
        ] {
            assert_eq!(error.status(), Status::UNSUPPORTED);
            assert!(error.message().starts_with("the host is older than "), "{error}");
        }
        assert_eq!(frame.import(3, "backwards", false, b"abc"), Ok(b"cba".to_vec()), "1.0 has imports");
    }

    #[test]
    fn a_table_that_is_too_small_is_not_used() {
        let notes = Notes::default();
        with_frame(size_of::<usize>(), ptr::null(), &notes, |frame| {
            frame.log(abi::LOG_ERROR, "lost", &[]);
            let error = frame.import(3, "backwards", false, b"abc").unwrap_err();
            assert!(error.message().contains("`backwards`: its table is smaller"), "{error}");
        });
        assert!(notes.lines.into_inner().unwrap().is_empty() && notes.calls.into_inner().unwrap().is_empty());
    }

    #[test]
    fn a_member_counts_when_all_of_it_is_there() {
        let notes = Notes::default();
        // Up to and with each member of the table.
        for words in 1..=HOST / size_of::<usize>() {
            with_frame(words * size_of::<usize>(), ptr::null(), &notes, |frame| {
                assert_eq!(frame.info("path").is_some(), words >= 5, "{words} words");
                assert_eq!(frame.next(b"").is_ok(), words >= 9, "{words} words");
                let status = frame.background().map(drop).unwrap_err().status();
                assert_eq!(status == Status::NO_MEMORY, words == 10, "{words} words");
            });
        }
    }

    #[test]
    fn what_a_stream_answers() {
        let notes = Notes::default();
        let call = frame(CALL, HOST, ptr::null(), &notes);
        // SAFETY: a valid frame, which is never freed.
        let frame = unsafe { Frame::new(call) };
        let answer = |status: i32, len: usize| {
            // SAFETY: as above; nobody else uses it.
            unsafe { ((*call).in_len, (*call).out_len) = (status as usize, len) };
            (frame.read().map(|(_, len)| len), frame.write(b"x"))
        };
        assert_eq!(answer(abi::OK, 0), (Ok(0), Ok(())));
        for (status, want) in [
            (abi::FAILED, Status::FAILED),
            (abi::CANCELLED, Status::CANCELLED),
            (abi::UNSUPPORTED, Status::UNSUPPORTED),
            (abi::MISUSE, Status::FAILED),
            (abi::PANIC, Status::FAILED),
            (-1, Status::FAILED),
        ] {
            let (read, written) = answer(status, 0);
            assert_eq!((read.unwrap_err().status(), written.unwrap_err().status()), (want, want), "{status}");
        }
        let error = answer(abi::OK, 1).0.unwrap_err();
        assert!(error.message().contains("broke the contract in the input stream"), "{error}");
    }

    #[test]
    fn progress_is_two_words() {
        let notes = Notes::default();
        let words = [AtomicU64::new(0), AtomicU64::new(0)];
        let call = frame(CALL, HOST, ptr::null(), &notes);
        // SAFETY: a valid frame, which is never freed; nobody else uses it.
        let frame = unsafe {
            (*call).progress = words.as_ptr();
            Frame::new(call)
        };
        frame.progress(3, 4);
        assert_eq!([&words[0], &words[1]].map(|word| word.load(Ordering::Relaxed)), [3, 4]);
        // Where an AtomicU64 must not lie, nothing is written.
        // SAFETY: as above.
        unsafe { (*call).progress = words.as_ptr().cast::<u8>().wrapping_add(4).cast() };
        frame.progress(5, 6);
        assert_eq!([&words[0], &words[1]].map(|word| word.load(Ordering::Relaxed)), [3, 4]);
    }
}
