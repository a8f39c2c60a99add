//! The entries from the host, and the funnel that each of them goes through. Nothing in the crate uses this module: it
//! uses the others.
//!
//! What makes it sound, besides the comments below:
//! - The host keeps to ferrule.h. A frame that the rules do not allow is refused where that can be seen (R21).
//! - [`RawCall`] and [`RawFrames`] have no constructor: only a host that calls an exported function makes one. So
//!   the functions that take them are safe to call, and what the macros expand to contains no unsafe code.
//! - [`RawCall`] is neither `Copy` nor `Clone`, and what is lent out of a frame lives no longer than the funnel's run.
//! - `start`, `run` and `stop` of one library are all used with the one [`Plugin`] type that `plugin!` defines, so
//!   that the state behind the frame is of that type's.

use crate::abi::{self, Call, Frames};
use crate::current::Current;
use crate::data::read_config;
use crate::frame::Frame;
use crate::host::{Gate, Services};
use crate::plugin::{Plugin, State, StateRef, ThreadRule};
use crate::{panics, room, Context, Error, Reader, Result, Room, Status, Writer};
use std::borrow::Cow;
use std::cell::{Cell, UnsafeCell};
use std::mem::size_of;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::Arc;

/// The frame as an exported function gets it.
#[repr(transparent)]
pub struct RawCall(*mut Call);

/// The argument of `ferrule_batch`.
#[repr(transparent)]
pub struct RawFrames(*mut Frames);

/// One instance: what `state` of the frame points at. Made by `start`, dropped by `stop`.
struct Instance<S> {
    /// IDLE, BUSY (one call at a time only) or POISONED.
    phase: AtomicU8,
    state: UnsafeCell<S>,
    /// Behind the state: it is to be dropped after it.
    background: Close,
}

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const POISONED: u8 = 2;

impl<S> Instance<S> {
    /// Lends the state to one call, until `end`: to several at a time when they are `concurrent`.
    ///
    /// Relaxed is enough for `phase`: under `serial` and `pinned` the host orders one call before the next (R13), and
    /// under `concurrent` POISONED guards nothing but the plug-in's own expectations, as its state is shared anyway.
    fn begin(&self, concurrent: bool) -> Result<StateRef<'_, S>> {
        match self.phase.load(Ordering::Relaxed) {
            POISONED => Err(Error::new(
                Status::PANIC,
                "the instance is poisoned: an earlier call of it panicked (rule R16); make a new instance",
            )),
            BUSY => Err(Error::new(
                Status::MISUSE,
                "the host called an instance while a call of it was running; the plug-in allows one at a time (R13)",
            )),
            // SAFETY: a `&mut` of it is there only while no other call runs (R28, R29), and then the phase is BUSY;
            // ThreadRule asks for Sync.
            _ if concurrent => Ok(StateRef::Shared(unsafe { &*self.state.get() })),
            _ => {
                self.phase.store(BUSY, Ordering::Relaxed);
                // SAFETY: one call at a time (R13; under `concurrent` R28, R29), and not from inside of one, as `phase`
                // has just said; ThreadRule asks for Send where the next call may run on another thread.
                Ok(StateRef::Exclusive(unsafe { &mut *self.state.get() }))
            }
        }
    }

    fn end(&self, concurrent: bool, panicked: bool) {
        if panicked {
            self.phase.store(POISONED, Ordering::Relaxed);
        } else if !concurrent {
            self.phase.store(IDLE, Ordering::Relaxed);
        }
    }
}

impl RawCall {
    /// Is there a frame, with all members of the first version (R21)?
    fn is_valid(&self) -> bool {
        // SAFETY: the pointer is the host's: null, or a frame whose first member is its size.
        !self.0.is_null() && unsafe { ptr::addr_of!((*self.0).size).read() } >= Call::SIZE_1_0
    }

    /// The input, for as long as the frame is borrowed. Requires `is_valid`.
    fn input(&self) -> &[u8] {
        // SAFETY: R7. A null `in` would break it, and is read as empty.
        unsafe {
            match (*self.0).r#in.is_null() {
                true => &[],
                false => std::slice::from_raw_parts((*self.0).r#in, (*self.0).in_len),
            }
        }
    }

    /// The instance that `start` made; None before it. Requires `is_valid`, and S to be the type of `start`.
    fn instance<S>(&self) -> Option<&Instance<S>> {
        // SAFETY: only `start` sets `state` (R6, R15), and `stop` runs when no other call does (R15).
        unsafe { (*self.0).state.cast::<Instance<S>>().as_ref() }
    }

    /// Sets the result or the message (R8). Requires `is_valid`, and that nothing was handed over before.
    fn reply(&self, bytes: Cow<'_, [u8]>) {
        // SAFETY: `is_valid`; what is lent out of the frame uses `out` only while it lives, and that is over.
        unsafe { room::reply(self.0, bytes) }
    }

    /// Sets the message (R11), and gives the status. Requires `is_valid`.
    fn fail(&self, error: Error) -> i32 {
        self.reply(Cow::Borrowed(error.message().trim_end_matches('\n').as_bytes()));
        error.status().code()
    }

    /// The funnel: runs `body`, and makes a status of whatever comes of it. Requires `is_valid`.
    fn enter(&self, context: impl FnOnce(Services) -> Context, body: impl FnOnce(&Context) -> Result<()>) -> i32 {
        panics::install_hook();
        #[cfg(feature = "log")]
        crate::logger::install();
        // SAFETY: `is_valid`; the context ends with this function, and the call after it.
        let context = context(Services::Frame(unsafe { Frame::new(self.0) }));
        let panic = Cell::new(None);
        let current = Current::of_call(context.services(), &panic);
        // What a panic leaves behind is the instance's state alone, and that is poisoned then.
        match catch_unwind(AssertUnwindSafe(|| current.run(|| body(&context)))) {
            Ok(Ok(())) => abi::OK,
            Ok(Err(error)) => self.fail(error),
            Err(payload) => self.fail(Error::new(Status::PANIC, panics::describe(payload, panic.take()))),
        }
    }
}

/// What a function may have of its call besides the input, the state and the context: a parameter of its own each.
pub struct Lent<'a, 'call> {
    /// `&mut Reader`.
    pub reader: &'a mut Reader<'call>,
    /// `&mut Writer`.
    pub writer: &'a mut Writer<'call>,
    /// `&mut Room`.
    pub room: &'a mut Room<'call>,
}

/// Ends what ferrule_start got for the time between calls, when it is dropped: after the state, come what may.
struct Close(Option<Arc<Gate>>);

impl Drop for Close {
    fn drop(&mut self) {
        if let Some(gate) = &self.0 {
            gate.close();
        }
    }
}

/// The body of a function or hook.
pub fn run<P, F>(call: RawCall, body: F) -> i32
where
    P: Plugin,
    F: for<'a, 'call> FnOnce(&'a [u8], &'a Context, StateRef<'a, P::State>, Lent<'a, 'call>) -> Result<Cow<'a, [u8]>>,
{
    run_as::<P, F>(call, P::Threads::CONCURRENT, body)
}

/// The body of `ferrule_configure`, `ferrule_save` and `ferrule_resume`: no other call of the instance runs meanwhile
/// (R28, R29), so that a concurrent plug-in, too, may have its state for itself.
pub fn run_alone<P, F>(call: RawCall, body: F) -> i32
where
    P: Plugin,
    F: for<'a, 'call> FnOnce(&'a [u8], &'a Context, StateRef<'a, P::State>, Lent<'a, 'call>) -> Result<Cow<'a, [u8]>>,
{
    run_as::<P, F>(call, false, body)
}

fn run_as<P, F>(call: RawCall, concurrent: bool, body: F) -> i32
where
    P: Plugin,
    F: for<'a, 'call> FnOnce(&'a [u8], &'a Context, StateRef<'a, P::State>, Lent<'a, 'call>) -> Result<Cow<'a, [u8]>>,
{
    if !call.is_valid() {
        return abi::MISUSE;
    }
    let enter = |state| {
        call.enter(Context::new, |context| {
            // SAFETY: `is_valid`; the one room and the one reader of this call, which ends after them.
            let (mut room, mut reader) = unsafe { (Room::new(call.0), Reader::new(context.services())) };
            let mut writer = Writer::new(context.services());
            let lent = Lent { reader: &mut reader, writer: &mut writer, room: &mut room };
            call.reply(body(call.input(), context, state, lent)?);
            // Not empty with functions only that return nothing besides.
            room.commit();
            Ok(())
        })
    };
    if !P::STATEFUL {
        return enter(StateRef::None);
    }
    let instance = match call.instance::<P::State>() {
        Some(instance) => instance,
        None => return call.fail(Error::new(Status::MISUSE, "called without a ferrule_start before it (rule R15)")),
    };
    match instance.begin(concurrent) {
        Ok(state) => {
            let status = enter(state);
            instance.end(concurrent, status == abi::PANIC);
            status
        }
        Err(error) => call.fail(error),
    }
}

/// The body of `ferrule_start`.
pub fn start<P: Plugin>(call: RawCall) -> i32
where
    P::State: State,
{
    if !call.is_valid() {
        return abi::MISUSE;
    }
    call.enter(Context::of_start, |context| {
        /// Ends what a start that fails has begun.
        struct Failed<'a>(&'a Context);
        impl Drop for Failed<'_> {
            fn drop(&mut self) {
                drop(Close(self.0.take_gate()));
            }
        }
        let failed = Failed(context);
        let state = P::State::start(context, read_config(call.input())?)?;
        let background = Close(context.take_gate());
        drop(failed);
        let instance = Box::new(Instance { phase: AtomicU8::new(IDLE), state: UnsafeCell::new(state), background });
        // SAFETY: `is_valid`; R6 lets ferrule_start set it.
        unsafe { (*call.0).state = Box::into_raw(instance).cast() };
        Ok(())
    })
}

/// The body of `ferrule_stop`.
pub fn stop<P: Plugin>(call: RawCall) -> i32
where
    P::State: State,
{
    if !call.is_valid() {
        return abi::MISUSE;
    }
    if call.instance::<P::State>().is_none() {
        return call.fail(Error::new(Status::MISUSE, "stopped without a ferrule_start before it (rule R15)"));
    }
    // SAFETY: `start` made it by Box::into_raw, and it is stopped once, when no other call of it runs (R15).
    let instance = unsafe { Box::from_raw((*call.0).state.cast::<Instance<P::State>>()) };
    call.enter(Context::new, move |context| {
        let Instance { phase, state, background } = *instance;
        // Dropped last, also when the state panics: threads may wait for what it holds.
        let _close = background;
        if let Some(gate) = &_close.0 {
            gate.end();
        }
        match phase.load(Ordering::Relaxed) {
            POISONED => {
                drop(state);
                Ok(())
            }
            _ => state.into_inner().stop(context),
        }
    })
}

/// The body of `ferrule_batch`: what ferrule_run_frames is in ferrule.h.
pub fn batch(frames: RawFrames) -> i32 {
    let frames = frames.0;
    // SAFETY: the argument is the host's, as the header has it: `count` frames, `stride` bytes apart, as many statuses,
    // and a function of this library's. Its size is read first, because there need not be more (R21).
    unsafe {
        if frames.is_null() || ptr::addr_of!((*frames).size).read() < size_of::<Frames>() {
            return abi::MISUSE;
        }
        (*frames).done = 0;
        if (*frames).count == 0 {
            return abi::OK;
        }
        let mut at = (*frames).calls;
        let mut rest = None; // the room that the records share: the first one's
        while (*frames).done < (*frames).count {
            // A frame of less than version 1's size is for the function to refuse: neither its word nor its room is here
            // for sure.
            let whole = RawCall(at).is_valid();
            if whole {
                if Frame::new(at).cancelled() {
                    return abi::CANCELLED;
                }
                let (room, left) = *rest.get_or_insert(((*at).out, (*at).out_cap));
                (*at).out = room;
                (*at).out_cap = left;
            }
            let status = ((*frames).r#fn)(at);
            *(*frames).statuses.add((*frames).done) = status;
            (*frames).done += 1;
            if status == abi::PANIC {
                return abi::PANIC;
            }
            if let (true, Some((room, left))) = (whole, &mut rest) {
                if (*at).release.is_none() && (*at).out == *room && (*at).out_len <= *left {
                    *room = room.add((*at).out_len);
                    *left -= (*at).out_len;
                }
            }
            at = at.cast::<u8>().wrapping_add((*frames).stride).cast();
        }
    }
    abi::OK
}

/// The funnel without a library around it, so that Miri sees it: frames and tables in memory of just their size.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Host, Request};
    use crate::plugin::{Serial, StateIs, StateParam};
    use crate::{Background, Output};
    use std::io::{BufRead, Read, Write};
    use std::os::raw::c_char;
    use std::sync::atomic::AtomicU64;

    unsafe extern "C" fn call(_: *mut Call, _: *mut Request) -> i32 {
        abi::MISUSE
    }

    unsafe extern "C" fn log(_: *mut Call, _: u32, _: *const c_char, _: usize) -> i32 {
        abi::OK
    }

    unsafe extern "C" fn log_fields(
        _: *mut Call,
        _: u32,
        _: *const c_char,
        _: usize,
        _: *const c_char,
        _: usize,
    ) -> i32 {
        abi::OK
    }

    /// Room beside the one before, which is freed.
    unsafe extern "C" fn room(call: *mut Call, n: usize) -> i32 {
        // SAFETY: R25, and the frames here have a room of `make`.
        unsafe {
            let mut larger = vec![0_u8; n];
            larger[..(*call).out_len].copy_from_slice(std::slice::from_raw_parts((*call).out, (*call).out_len));
            drop(Vec::from_raw_parts((*call).out, 0, (*call).out_cap));
            let mut larger = std::mem::ManuallyDrop::new(larger);
            (*call).out = larger.as_mut_ptr();
            (*call).out_cap = larger.capacity();
        }
        abi::OK
    }

    /// Three pieces of a stream: the frame's progress says how many are gone. Each frees the one before.
    unsafe extern "C" fn read(call: *mut Call, piece: *mut *const u8, len: *mut usize) -> i32 {
        static LENT: std::sync::Mutex<Vec<u8>> = std::sync::Mutex::new(Vec::new());
        // SAFETY: R24, and the frames here have progress.
        unsafe {
            let gone = &*(*call).progress;
            let mut lent = LENT.lock().unwrap();
            *lent = match gone.fetch_add(1, Ordering::Relaxed) {
                0 => b"one\nt".to_vec(),
                1 => b"wo\nth".to_vec(),
                2 => b"ree".to_vec(),
                _ => Vec::new(),
            };
            *piece = if lent.is_empty() { ptr::null() } else { lent.as_ptr() };
            *len = lent.len();
        }
        abi::OK
    }

    unsafe extern "C" fn write(_: *mut Call, _: *const u8, _: usize) -> i32 {
        abi::FAILED
    }

    /// The frame itself: whoever uses it after ferrule_stop uses what is freed.
    unsafe extern "C" fn background(call: *mut Call) -> *mut Call {
        call
    }

    /// A frame, with its room, and the table behind it. Vecs, as a box that moves is not to be pointed into.
    struct Made {
        frame: Vec<usize>,
        _table: Vec<usize>,
        _progress: Vec<AtomicU64>,
    }

    fn cut<T>(whole: &T, size: usize) -> Vec<usize> {
        let mut words = vec![0_usize; size / size_of::<usize>()];
        let from: *const T = whole;
        // SAFETY: `size` bytes there and here.
        unsafe { ptr::copy_nonoverlapping(from.cast::<u8>(), words.as_mut_ptr().cast(), size) };
        words
    }

    fn make(old: bool, state: *mut std::ffi::c_void, input: &'static [u8], out_cap: usize) -> Made {
        let size = if old { Host::SIZE_1_0 } else { size_of::<Host>() };
        let (info, next) = (call, call);
        let mut table = cut(&Host { size, call, log, log_fields, info, room, read, write, next, background }, size);
        let progress = vec![AtomicU64::new(0), AtomicU64::new(0)];
        let mut out = std::mem::ManuallyDrop::new(Vec::with_capacity(out_cap));
        let size = if old { Call::SIZE_1_0 } else { size_of::<Call>() };
        let whole = Call {
            size,
            state,
            r#in: input.as_ptr(),
            in_len: input.len(),
            out: out.as_mut_ptr(),
            out_len: 0,
            out_cap: out.capacity(),
            release: None,
            host: table.as_mut_ptr().cast(),
            cancel: ptr::null(),
            progress: progress.as_ptr(),
        };
        Made { frame: cut(&whole, size), _table: table, _progress: progress }
    }

    impl Made {
        fn call(&mut self) -> *mut Call {
            self.frame.as_mut_ptr().cast()
        }

        /// Runs an entry; gives its status, what came of it, and the state.
        fn enter(mut self, entry: impl FnOnce(RawCall) -> i32) -> (i32, String, *mut std::ffi::c_void) {
            let call = self.call();
            let status = entry(RawCall(call));
            // SAFETY: R8 and R9; the room is of `make` or of `room`.
            unsafe {
                let result = match (*call).out_len {
                    0 => String::new(),
                    len => String::from_utf8(std::slice::from_raw_parts((*call).out, len).to_vec()).unwrap(),
                };
                match (*call).release {
                    Some(release) => release(call),
                    None => drop(Vec::from_raw_parts((*call).out, 0, (*call).out_cap)),
                }
                (status, result, (*call).state)
            }
        }
    }

    struct Threads(Background);

    impl State for Threads {
        type Config = ();

        fn start(ctx: &Context, _: ()) -> Result<Threads> {
            let background = ctx.background()?;
            for _ in 0..2 {
                background.spawn(|host| while !host.sleep(std::time::Duration::from_millis(1)) {})?;
            }
            Ok(Threads(background))
        }
    }

    enum Stateful {}
    impl Plugin for Stateful {
        const STATEFUL: bool = true;
        type State = Threads;
        type Threads = Serial;
    }
    impl StateIs<Threads> for Stateful {}

    enum Stateless {}
    impl Plugin for Stateless {
        const STATEFUL: bool = false;
        type State = crate::plugin::NoState;
        type Threads = Serial;
    }

    #[test]
    fn results_of_every_kind() {
        for old in [false, true] {
            for cap in [0, 3, 100] {
                let made = || make(old, ptr::null_mut(), b"input", cap);
                let borrowed = |call| run::<Stateless, _>(call, |bytes, _, _, _| bytes.into_bytes());
                assert_eq!(made().enter(borrowed), (abi::OK, "input".to_string(), ptr::null_mut()));
                let owned = |call| run::<Stateless, _>(call, |bytes, _, _, _| bytes.repeat(3).into_bytes());
                assert_eq!(made().enter(owned).1, "input".repeat(3));
                let failed = |call| run::<Stateless, _>(call, |_, _, _, _| Err(Error::invalid("not this")));
                assert_eq!(made().enter(failed), (abi::INVALID, "not this".to_string(), ptr::null_mut()));
                let written = |call| {
                    run::<Stateless, _>(call, |bytes, _, _, lent| {
                        for _ in 0..50 {
                            lent.room.write_all(bytes)?;
                        }
                        lent.room.grow(2)?.copy_from_slice(b"!?");
                        ().into_bytes()
                    })
                };
                assert_eq!(made().enter(written).1, "input".repeat(50) + "!?");
                let dropped = |call| {
                    run::<Stateless, _>(call, |bytes, _, _, lent| {
                        lent.room.write_all(&bytes.repeat(50))?;
                        Err(Error::pass())
                    })
                };
                assert_eq!(made().enter(dropped), (abi::PASS, String::new(), ptr::null_mut()));
            }
        }
    }

    #[test]
    fn pieces_end_with_the_next_read() {
        let lines = |call| {
            run::<Stateless, _>(call, |_, _, _, lent| {
                let mut first = [0; 2];
                lent.reader.read_exact(&mut first)?;
                let lines: std::io::Result<Vec<String>> = lent.reader.by_ref().lines().collect();
                assert!(lent.reader.fill_buf()?.is_empty());
                Output::into_bytes(lines?.join("|"))
            })
        };
        assert_eq!(make(false, ptr::null_mut(), b"", 100).enter(lines).1, "e|two|three");
        assert_eq!(make(true, ptr::null_mut(), b"", 100).enter(lines).0, abi::UNSUPPORTED);
    }

    #[test]
    fn nothing_reaches_the_frame_after_stop() {
        let mut started = make(false, ptr::null_mut(), b"", 100);
        let call = started.call();
        assert_eq!(start::<Stateful>(RawCall(call)), abi::OK);
        // SAFETY: ours again; `enter` is not used, as the frame goes on between the calls.
        let state = unsafe { (*call).state };
        let kept = std::cell::RefCell::new(None);
        let status = make(false, state, b"", 100).enter(|call| {
            run::<Stateful, _>(call, |_, _, state, _| {
                let threads: &Threads = StateParam::<Stateful>::from_state(state);
                *kept.borrow_mut() = Some(threads.0.clone());
                ().into_bytes()
            })
        });
        assert_eq!(status.0, abi::OK);
        assert_eq!(make(false, state, b"", 100).enter(stop::<Stateful>).0, abi::OK);
        // SAFETY: the room is of `make`.
        unsafe { drop(Vec::from_raw_parts((*call).out, 0, (*call).out_cap)) };
        drop(started);
        let kept = kept.into_inner().unwrap();
        kept.log(crate::Level::Info, "lost");
        assert!(kept.cancelled() && kept.info("path").is_none());
        assert_eq!(make(true, ptr::null_mut(), b"", 100).enter(start::<Stateful>).0, abi::UNSUPPORTED);
    }
}
