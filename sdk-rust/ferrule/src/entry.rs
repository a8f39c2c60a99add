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
use crate::host::{Frame, Services};
use crate::plugin::{Plugin, State, StateRef, ThreadRule};
use crate::{panics, Context, Error, Result, Status};
use std::borrow::Cow;
use std::cell::{Cell, UnsafeCell};
use std::mem::size_of;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

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
}

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const POISONED: u8 = 2;

impl<S> Instance<S> {
    /// Lends the state to one call, until `end`.
    ///
    /// Relaxed is enough for `phase`: under `serial` and `pinned` the host orders one call before the next (R13), and
    /// under `concurrent` POISONED guards nothing but the plug-in's own expectations, as its state is shared anyway.
    fn begin(&self, concurrent: bool) -> Result<StateRef<'_, S>> {
        match self.phase.load(Ordering::Relaxed) {
            POISONED => Err(Error::new(
                Status::PANIC,
                "the instance is poisoned: an earlier call of it panicked (rule R16); make a new instance",
            )),
            // SAFETY: `concurrent` never makes a `&mut` of it; ThreadRule asks for Sync.
            _ if concurrent => Ok(StateRef::Shared(unsafe { &*self.state.get() })),
            BUSY => Err(Error::new(
                Status::MISUSE,
                "the host called an instance while a call of it was running; the plug-in allows one at a time (R13)",
            )),
            _ => {
                self.phase.store(BUSY, Ordering::Relaxed);
                // SAFETY: one call at a time (R13), and not from inside of one, as `phase` has just said; ThreadRule
                // asks for Send where the next call may run on another thread.
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
        !self.0.is_null() && unsafe { ptr::addr_of!((*self.0).size).read() } >= size_of::<Call>()
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

    /// Sets the result or the message (R8): in the host's room where it fits, handed over otherwise. Requires
    /// `is_valid`, and that nothing was handed over before.
    fn reply(&self, bytes: Cow<'_, [u8]>) {
        let len = bytes.len();
        // SAFETY: out has room for out_cap bytes (R8). The bytes may be the input's, which may overlap the room.
        unsafe {
            if len <= (*self.0).out_cap {
                if len > 0 {
                    ptr::copy(bytes.as_ptr(), (*self.0).out, len);
                }
            } else {
                (*self.0).out = Box::into_raw(bytes.into_owned().into_boxed_slice()).cast();
                (*self.0).release = Some(release);
            }
            (*self.0).out_len = len;
        }
    }

    /// Sets the message (R11), and gives the status. Requires `is_valid`.
    fn fail(&self, error: Error) -> i32 {
        self.reply(Cow::Borrowed(error.message().trim_end_matches('\n').as_bytes()));
        error.status().code()
    }

    /// The funnel: runs `body`, and makes a status of whatever comes of it. Requires `is_valid`.
    fn enter(&self, body: impl FnOnce(&Context) -> Result<()>) -> i32 {
        panics::install_hook();
        #[cfg(feature = "log")]
        crate::logger::install();
        // SAFETY: `is_valid`; the context ends with this function, and the call after it.
        let context = Context::new(Services::Frame(unsafe { Frame::new(self.0) }));
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

/// Gives back what `reply` handed over (R9).
unsafe extern "C" fn release(call: *mut Call) {
    // SAFETY: the host calls it once, with `out` and `out_len` as `reply` left them: a boxed slice.
    unsafe { drop(Box::from_raw(ptr::slice_from_raw_parts_mut((*call).out, (*call).out_len))) }
}

/// The body of a function or hook.
pub fn run<P, F>(call: RawCall, body: F) -> i32
where
    P: Plugin,
    F: for<'a> FnOnce(&'a [u8], &'a Context, StateRef<'a, P::State>) -> Result<Cow<'a, [u8]>>,
{
    if !call.is_valid() {
        return abi::MISUSE;
    }
    let enter = |state| {
        call.enter(|context| {
            let bytes = body(call.input(), context, state)?;
            call.reply(bytes);
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
    match instance.begin(P::Threads::CONCURRENT) {
        Ok(state) => {
            let status = enter(state);
            instance.end(P::Threads::CONCURRENT, status == abi::PANIC);
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
    call.enter(|context| {
        let state = P::State::start(context, call.input())?;
        let instance = Box::new(Instance { phase: AtomicU8::new(IDLE), state: UnsafeCell::new(state) });
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
    call.enter(move |context| match instance.phase.load(Ordering::Relaxed) {
        POISONED => Ok(()),
        _ => instance.state.into_inner().stop(context),
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
