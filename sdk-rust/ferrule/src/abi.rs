//! The contract, `include/ferrule.h`, in Rust: the layout of what crosses the boundary, and its numbers.
//!
//! Plug-ins do not need this module; the macros work on it. It is public for tools and tests that stand on the other
//! side of the boundary. The header is the authority: it says who owns what, for how long and on which thread, in the
//! rules R1 to R34 that messages cite. All structs grow at their end only.

use std::ffi::c_void;
use std::os::raw::c_char;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// `FERRULE_ABI`: the major version of the contract.
pub const ABI: u32 = 1;

/// `FERRULE_OK`: `out` is the result.
pub const OK: i32 = 0;
/// `FERRULE_FAILED`: it did not work; `out` says why.
pub const FAILED: i32 = 1;
/// `FERRULE_INVALID`: the input is not what the function takes.
pub const INVALID: i32 = 2;
/// `FERRULE_UNSUPPORTED`: understood, but not to be had here.
pub const UNSUPPORTED: i32 = 3;
/// `FERRULE_CANCELLED`: the host no longer wants the result.
pub const CANCELLED: i32 = 4;
/// `FERRULE_PANIC`: the code failed with its state unknown; the instance is poisoned (R16).
pub const PANIC: i32 = 5;
/// `FERRULE_NO_MEMORY`: memory or room was not enough.
pub const NO_MEMORY: i32 = 6;
/// `FERRULE_MISUSE`: the caller broke a rule of the contract.
pub const MISUSE: i32 = 7;
/// `FERRULE_MORE`: from a host service, the result needs more room than there was.
pub const MORE: i32 = 8;
/// `FERRULE_PASS`: nothing to say to this input (R22).
pub const PASS: i32 = 9;
/// `FERRULE_STATUS_OWN`: the first status that is a plug-in's own.
pub const STATUS_OWN: i32 = 1000;

/// `FERRULE_LOG_ERROR`.
pub const LOG_ERROR: u32 = 1;
/// `FERRULE_LOG_WARN`.
pub const LOG_WARN: u32 = 2;
/// `FERRULE_LOG_INFO`.
pub const LOG_INFO: u32 = 3;
/// `FERRULE_LOG_DEBUG`.
pub const LOG_DEBUG: u32 = 4;
/// `FERRULE_LOG_TRACE`.
pub const LOG_TRACE: u32 = 5;

/// `FERRULE_UNBOUND`: what an import slot holds until the host has set it.
pub const UNBOUND: u32 = 0xFFFF_FFFF;

/// `ferrule_function`: the one signature of functions, hooks, `ferrule_start` and `ferrule_stop`.
pub type Function = unsafe extern "C" fn(*mut Call) -> i32;

/// `struct ferrule_call`: the call frame.
#[repr(C)]
#[derive(Debug)]
pub struct Call {
    /// Bytes of this struct as the host knows it.
    pub size: usize,
    /// The instance's, set by `ferrule_start`.
    pub state: *mut c_void,
    /// The input, borrowed until the function returns; never null.
    pub r#in: *const u8,
    /// Bytes of the input.
    pub in_len: usize,
    /// The host's room, or the plug-in's memory when `release` is set.
    pub out: *mut u8,
    /// Bytes of the result or message.
    pub out_len: usize,
    /// Bytes of the host's room.
    pub out_cap: usize,
    /// How to give `out` back.
    pub release: Option<unsafe extern "C" fn(*mut Call)>,
    /// The host's services; never null.
    pub host: *const Host,
    /// The cancellation word, or null.
    pub cancel: *const AtomicU32,
    /// Two words, how much is done and of how much, or null. Since 1.1.
    pub progress: *const AtomicU64,
}

impl Call {
    /// How many bytes a frame of version 1.0 has: no host passes less (R21).
    pub const SIZE_1_0: usize = 10 * std::mem::size_of::<usize>();
}

/// `struct ferrule_request`: one call of a host function.
#[repr(C)]
#[derive(Debug)]
pub struct Request {
    /// Bytes of this struct as the plug-in knows it.
    pub size: usize,
    /// The input; may be null when `in_len` is 0.
    pub r#in: *const u8,
    /// Bytes of the input.
    pub in_len: usize,
    /// The plug-in's room for the result or message; may be null when `out_cap` is 0.
    pub out: *mut u8,
    /// Bytes of the result or message, set by the host.
    pub out_len: usize,
    /// Bytes of the room.
    pub out_cap: usize,
    /// The value of the import's slot.
    pub ordinal: u32,
    /// 0 to call, otherwise the number of the kept result to fetch.
    pub kept: u32,
}

/// `struct ferrule_host`: the table of what the host offers.
#[repr(C)]
#[derive(Debug)]
pub struct Host {
    /// Bytes of this struct as the host knows it.
    pub size: usize,
    /// Calls the host function of a request.
    pub call: unsafe extern "C" fn(*mut Call, *mut Request) -> i32,
    /// Hands a line of text to the host's logger.
    pub log: unsafe extern "C" fn(*mut Call, u32, *const c_char, usize) -> i32,
    /// Hands over a line of text with fields. Since 1.1, as what follows.
    pub log_fields: unsafe extern "C" fn(*mut Call, u32, *const c_char, usize, *const c_char, usize) -> i32,
    /// Answers a key.
    pub info: unsafe extern "C" fn(*mut Call, *mut Request) -> i32,
    /// Makes room for a longer result.
    pub room: unsafe extern "C" fn(*mut Call, usize) -> i32,
    /// Lends the next piece of the input stream.
    pub read: unsafe extern "C" fn(*mut Call, *mut *const u8, *mut usize) -> i32,
    /// Passes a piece on to the output stream.
    pub write: unsafe extern "C" fn(*mut Call, *const u8, usize) -> i32,
    /// Runs what stands behind a wrapper.
    pub next: unsafe extern "C" fn(*mut Call, *mut Request) -> i32,
    /// Gives `ferrule_start` a frame for what happens between calls.
    pub background: unsafe extern "C" fn(*mut Call) -> *mut Call,
}

impl Host {
    /// How many bytes a table of version 1.0 has: no host passes less (R21).
    pub const SIZE_1_0: usize = 3 * std::mem::size_of::<usize>();
}

/// `struct ferrule_frames`: the argument of `ferrule_batch`.
#[repr(C)]
#[derive(Debug)]
pub struct Frames {
    /// Bytes of this struct as the host knows it.
    pub size: usize,
    /// What to run.
    pub r#fn: Function,
    /// The frames; only the first one's room is set.
    pub calls: *mut Call,
    /// Bytes from one frame to the next.
    pub stride: usize,
    /// How many frames.
    pub count: usize,
    /// One status for each frame, written by the plug-in.
    pub statuses: *mut i32,
    /// How many have run, written by the plug-in.
    pub done: usize,
}
