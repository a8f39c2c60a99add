//! The plug-in of probe.c in plain Rust, without a crate: what `ferrule::plugin!` and its attributes expand to.
#![no_std]
#![allow(non_upper_case_globals)]

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

macro_rules! text {
    ($name:ident, $text:literal) => {
        #[no_mangle]
        pub static $name: [u8; $text.len()] = *$text;
    };
}

macro_rules! function {
    ($name:ident) => {
        #[no_mangle]
        pub extern "C" fn $name(_call: *mut c_void) -> i32 {
            ferrule_import_points.load(Relaxed) as i32 + ferrule_import_Zone.load(Relaxed) as i32
        }
    };
}

text!(
    ferrule_manifest,
    b"ferrule=1\0name=probe\0version=1.2.3\0threads=concurrent\0description=One of everything.\0x-color=blue\0\0"
);
text!(
    ferrule_meta_fn_count,
    b"doc=Counts things.\0in=text/plain\0out=application/json\0schema={\"type\":\"integer\"}\0x-cost=low\0\0"
);
text!(ferrule_meta_hook_before_checkout, b"doc=Runs before a cart is paid.\0\0");
text!(ferrule_meta_import_points, b"doc=The customer's points.\0\0");
text!(ferrule_meta_fn_nothing, b"doc=Describes nothing.\0\0");

#[no_mangle]
pub static ferrule_import_points: AtomicU32 = AtomicU32::new(u32::MAX);
#[no_mangle]
pub static ferrule_import_Zone: AtomicU32 = AtomicU32::new(u32::MAX);

function!(ferrule_fn_count);
function!(ferrule_fn_add);
function!(ferrule_hook_before_checkout);
function!(ferrule_start);
function!(ferrule_stop);
function!(ferrule_batch);
function!(ferrule_future);
function!(other);
