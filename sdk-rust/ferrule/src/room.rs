//! How a call's bytes go out (R8, R9, R25).
//!
//! A borrowed result goes into the host's room, which is made larger where it has to be: that saves memory of the
//! plug-in's and its release. An owned one that does not fit is handed over: that saves a copy.

use crate::abi::Call;
use crate::frame;
use crate::{Error, Result, Status};
use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::ptr;

/// Sets the result or the message.
///
/// # Safety
/// `call` is a valid frame of a running call, nobody else uses `out` meanwhile, and nothing was handed over before.
pub unsafe fn reply(call: *mut Call, bytes: Cow<'_, [u8]>) {
    let len = bytes.len();
    // SAFETY: out has room for out_cap bytes (R8). The copy allows for bytes that lie in the room itself.
    unsafe {
        let owned = matches!(bytes, Cow::Owned(_));
        if len <= (*call).out_cap || !owned && frame::room(call, len) {
            if len > 0 {
                ptr::copy(bytes.as_ptr(), (*call).out, len);
            }
            (*call).out_len = len;
        } else {
            hand_over(call, bytes.into_owned());
        }
    }
}

/// Hands memory of the plug-in's over (R8): the Vec's capacity is in out_cap, which is the plug-in's own word then (R6).
///
/// # Safety
/// As `reply`'s.
unsafe fn hand_over(call: *mut Call, bytes: Vec<u8>) {
    let mut bytes = std::mem::ManuallyDrop::new(bytes);
    // SAFETY: the caller's.
    unsafe {
        (*call).out = bytes.as_mut_ptr();
        (*call).out_len = bytes.len();
        (*call).out_cap = bytes.capacity();
        (*call).release = Some(release);
    }
}

/// Gives back what `hand_over` handed over (R9).
unsafe extern "C" fn release(call: *mut Call) {
    // SAFETY: the host calls it once, with these members as `hand_over` left them.
    unsafe { drop(Vec::from_raw_parts((*call).out, (*call).out_len, (*call).out_cap)) }
}

/// The result of a call, written piece by piece into the host's memory: a parameter of type `&mut Room`. The function
/// returns `()` then, or a `Result` or `Option` of it; when it fails or passes, what was written is dropped.
///
/// The room grows as it is written to. A host that has no more room to give, or is older than version 1.1, gets the result
/// in memory of the plug-in's, by one more copy.
///
/// It lives as long as the call, and may go to another thread meanwhile. Writing fails with NO_MEMORY only.
///
/// ```
/// use ferrule::Room;
/// use std::io::Write;
///
/// fn table(out: &mut Room, rows: &str) -> ferrule::Result<()> {
///     for n in 0..rows.parse::<u32>()? {
///         writeln!(out, "{n}\t{}", n * n)?;
///     }
///     Ok(())
/// }
/// ```
pub struct Room<'a> {
    /// Null in a plug-in's own tests.
    call: *mut Call,
    /// How many bytes were written into the room that `call` has.
    len: usize,
    /// Holds all bytes as soon as the host has no room for them.
    own: Option<Vec<u8>>,
    lent: PhantomData<&'a mut Call>,
}

// SAFETY: `out` may be used on any thread, one at a time (R8, R25), and so it is: every method that uses the frame takes
// `&mut self`.
unsafe impl Send for Room<'_> {}
// SAFETY: as above.
unsafe impl Sync for Room<'_> {}

impl Room<'_> {
    /// The room of a call, for as long as that runs.
    ///
    /// # Safety
    /// `call` is a valid frame of a call that runs for as long as the value exists. Nobody else uses `out` meanwhile, and
    /// nothing was handed over.
    #[inline]
    pub(crate) unsafe fn new(call: *mut Call) -> Room<'static> {
        Room { call, len: 0, own: None, lent: PhantomData }
    }

    /// A room of its own, for a plug-in's own tests.
    #[cfg(feature = "testing")]
    pub(crate) fn for_test() -> Room<'static> {
        Room { call: ptr::null_mut(), len: 0, own: Some(Vec::new()), lent: PhantomData }
    }

    /// What was written to one for a test.
    #[cfg(feature = "testing")]
    pub(crate) fn into_vec(self) -> Vec<u8> {
        self.own.unwrap_or_default()
    }

    /// Makes what was written the result.
    #[inline]
    pub(crate) fn commit(self) {
        // SAFETY: `new`. The host's room holds len bytes.
        unsafe {
            match self.own {
                Some(own) => hand_over(self.call, own),
                None if self.len > 0 => (*self.call).out_len = self.len,
                None => {}
            }
        }
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.own.as_ref().map_or(self.len, Vec::len)
    }

    /// Was nothing written?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sees to it that the next `additional` bytes fit without the room being made larger meanwhile. Use it where the
    /// length is known beforehand.
    pub fn reserve(&mut self, additional: usize) -> Result<()> {
        self.at_least(additional, true)
    }

    /// Adds `additional` bytes, all 0, and lends them: for what wants to write to a slice.
    pub fn grow(&mut self, additional: usize) -> Result<&mut [u8]> {
        self.at_least(additional, false)?;
        match &mut self.own {
            Some(own) => {
                let at = own.len();
                own.resize(at + additional, 0);
                Ok(&mut own[at..])
            }
            // SAFETY: `new`. `at_least` has seen to it that the room has so many bytes behind the first len ones.
            None => unsafe {
                let start = (*self.call).out.add(self.len);
                ptr::write_bytes(start, 0, additional);
                self.len += additional;
                Ok(std::slice::from_raw_parts_mut(start, additional))
            },
        }
    }

    /// Makes room for `additional` bytes; by more than that, unless it is `exact`.
    fn at_least(&mut self, additional: usize, exact: bool) -> Result<()> {
        let error =
            |n: usize| Error::new(Status::NO_MEMORY, format_args!("no memory for a result of {n} bytes or more"));
        let want = self.len().checked_add(additional).ok_or_else(|| error(usize::MAX))?;
        if self.own.is_none() {
            // SAFETY: `new`. The host keeps the first out_len bytes (R25).
            unsafe {
                let cap = (*self.call).out_cap;
                if want <= cap {
                    return Ok(());
                }
                (*self.call).out_len = self.len;
                let larger = if exact { want } else { want.max(cap.saturating_mul(2)).max(4096) };
                if frame::room(self.call, larger) || larger > want && frame::room(self.call, want) {
                    return Ok(());
                }
            }
        }
        let len = self.len;
        let own = self.own.get_or_insert_with(Vec::new);
        let missing = want - own.len();
        match exact {
            true => own.try_reserve_exact(missing),
            false => own.try_reserve(missing),
        }
        .map_err(|_| error(want))?;
        if own.is_empty() && len > 0 {
            // SAFETY: `new`. The room holds len bytes.
            own.extend_from_slice(unsafe { std::slice::from_raw_parts((*self.call).out, len) });
        }
        Ok(())
    }
}

impl Write for Room<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.at_least(bytes.len(), false)?;
        match &mut self.own {
            Some(own) => own.extend_from_slice(bytes),
            // SAFETY: `new`. `at_least` has seen to it that the room has so many bytes behind the first len ones; no slice
            // of them is lent, as `grow` borrows the whole value.
            None => unsafe {
                ptr::copy_nonoverlapping(bytes.as_ptr(), (*self.call).out.add(self.len), bytes.len());
                self.len += bytes.len();
            },
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Room<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("len", &self.len()).finish_non_exhaustive()
    }
}
