//! What a module in WebAssembly has beside what a library has (`include/ferrule.h`, WEBASSEMBLY): the host's table, made of
//! imports, since a host cannot put functions into a module's table; an allocator for the host; and the words of a panic,
//! which nothing can catch here.

use crate::abi::{Call, Host, Request};
use std::alloc::{alloc, dealloc, Layout};
use std::os::raw::c_char;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

#[link(wasm_import_module = "ferrule")]
extern "C" {
    #[link_name = "call"]
    fn host_call(call: *mut Call, request: *mut Request) -> i32;
    #[link_name = "log"]
    fn host_log(call: *mut Call, level: u32, text: *const c_char, len: usize) -> i32;
    #[link_name = "log_fields"]
    fn host_log_fields(
        call: *mut Call,
        level: u32,
        text: *const c_char,
        len: usize,
        fields: *const c_char,
        fields_len: usize,
    ) -> i32;
    #[link_name = "info"]
    fn host_info(call: *mut Call, request: *mut Request) -> i32;
    #[link_name = "room"]
    fn host_room(call: *mut Call, n: usize) -> i32;
    #[link_name = "read"]
    fn host_read(call: *mut Call, piece: *mut *const u8, len: *mut usize) -> i32;
    #[link_name = "write"]
    fn host_write(call: *mut Call, piece: *const u8, len: usize) -> i32;
    #[link_name = "next"]
    fn host_next(call: *mut Call, request: *mut Request) -> i32;
    #[link_name = "background"]
    fn host_background(call: *mut Call) -> *mut Call;
}

/// The host's table.
#[allow(non_upper_case_globals)]
#[no_mangle]
pub static ferrule_services: Host = Host {
    size: std::mem::size_of::<Host>(),
    call: host_call,
    log: host_log,
    log_fields: host_log_fields,
    info: host_info,
    room: host_room,
    read: host_read,
    write: host_write,
    next: host_next,
    background: host_background,
};

/// The words of the panic that ends the instance: their address and length, 0 before that.
#[allow(non_upper_case_globals)]
#[no_mangle]
pub static ferrule_panic: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// Leaves the words of a panic for the host, for good: the trap that follows ends the instance.
pub fn leave(words: String) {
    let words = Box::leak(words.into_boxed_str());
    ferrule_panic[1].store(words.len(), Ordering::Relaxed);
    ferrule_panic[0].store(words.as_ptr() as usize, Ordering::Relaxed);
}

/// Before what the host gets of the allocator, which wants to know how much it was, there is room for that.
const HEAD: usize = 16;

fn layout(n: usize) -> Option<Layout> {
    Layout::from_size_align(n.checked_add(HEAD)?, HEAD).ok()
}

/// Gives the host memory, aligned for anything; null where there is none.
#[no_mangle]
pub extern "C" fn ferrule_alloc(n: usize) -> *mut u8 {
    let layout = match layout(n) {
        Some(layout) => layout,
        None => return null_mut(), // no `let … else`: the oldest compiler has none
    };
    // SAFETY: the layout has a size that is not 0, and HEAD bytes of what it gives are this function's.
    unsafe {
        let at = alloc(layout);
        if at.is_null() {
            return at;
        }
        at.cast::<usize>().write(n);
        at.add(HEAD)
    }
}

/// Has it back.
///
/// # Safety
/// `at` is null, or what [`ferrule_alloc`] returned and was not given back yet.
#[no_mangle]
pub unsafe extern "C" fn ferrule_free(at: *mut u8) {
    if at.is_null() {
        return;
    }
    // SAFETY: as above; the head says how much it was.
    unsafe {
        let at = at.sub(HEAD);
        if let Some(layout) = layout(at.cast::<usize>().read()) {
            dealloc(at, layout);
        }
    }
}
