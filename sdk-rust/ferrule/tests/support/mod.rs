//! A host that speaks the raw ABI, checks what the rules of ferrule.h let a host check, and runs the plug-ins of
//! sdk-rust/fixtures. And cargo, for the tests that build packages.

#![allow(dead_code)] // Each test binary uses its own part.
#![deny(unsafe_op_in_unsafe_fn)]

use ferrule::abi::*;
use libloading::Symbol;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::os::raw::c_char;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once};

/// The workspace, sdk-rust/.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The target folder in which this test itself was built.
pub fn target_dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

pub fn cargo(directory: &Path, arguments: &[&str]) -> Output {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(directory).args(arguments).arg("--quiet").arg("--target-dir").arg(target_dir());
    if !cfg!(debug_assertions) && !arguments.contains(&"--release") {
        cargo.arg("--release");
    }
    cargo.output().unwrap_or_else(|error| panic!("cannot run {}: {error}", env!("CARGO")))
}

pub fn assert_built(output: &Output) {
    assert!(output.status.success(), "cargo failed:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Where cargo puts the library of a package.
pub fn library_path(profile: &str, package: &str) -> PathBuf {
    let name = package.replace('-', "_");
    let file = format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    target_dir().join(profile).join(file)
}

fn profile() -> &'static str {
    match cfg!(debug_assertions) {
        true => "debug",
        false => "release",
    }
}

/// A loaded plug-in, its import slots set as the host of R5 sets them.
pub struct Library {
    library: libloading::Library,
    imports: Vec<&'static str>,
}

impl Library {
    /// Loads fixtures/`name`, which imports `imports`.
    pub fn fixture(name: &str, imports: &[&'static str]) -> Library {
        static BUILD: Once = Once::new();
        BUILD.call_once(|| assert_built(&cargo(workspace(), &["build", "--workspace"])));
        Library::open(&library_path(profile(), &format!("fixture-{name}")), imports)
    }

    pub fn open(path: &Path, imports: &[&'static str]) -> Library {
        // SAFETY: our own fixtures, whose static constructors are those of the standard library.
        let library = unsafe { libloading::Library::new(path) }
            .unwrap_or_else(|error| panic!("cannot load {}: {error}", path.display()));
        let mut imports = imports.to_vec();
        imports.sort_unstable();
        let library = Library { library, imports };
        for (ordinal, name) in library.imports.iter().enumerate() {
            let slot: Symbol<'_, *mut u32> = library.symbol(&format!("ferrule_import_{name}"));
            // SAFETY: R5: a uint32_t of the library's, written before anything runs; another test may have opened it.
            let slot = unsafe { &*slot.cast::<AtomicU32>() };
            let before = slot.swap(ordinal as u32, Ordering::Relaxed);
            assert!(before == UNBOUND || before == ordinal as u32, "{name} held {before}");
        }
        library
    }

    pub fn symbol<T>(&self, name: &str) -> Symbol<'_, T> {
        // SAFETY: the caller asks for what the contract says the symbol is.
        unsafe { self.library.get(name.as_bytes()) }.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn has(&self, name: &str) -> bool {
        // SAFETY: the symbol is not used.
        unsafe { self.library.get::<*const u8>(name.as_bytes()) }.is_ok()
    }

    /// The manifest or a meta text as `key=value` pairs.
    pub fn text(&self, symbol: &str) -> Vec<(String, String)> {
        let symbol: Symbol<'_, *const c_char> = self.symbol(symbol);
        let mut at = *symbol;
        let mut pairs = Vec::new();
        loop {
            // SAFETY: R1: NUL-terminated texts up to an empty one.
            let text = unsafe { std::ffi::CStr::from_ptr(at) };
            if text.to_bytes().is_empty() {
                return pairs;
            }
            let (key, value) = text.to_str().unwrap().split_once('=').unwrap();
            pairs.push((key.to_string(), value.to_string()));
            // SAFETY: as above, the next text follows the NUL.
            at = unsafe { at.add(text.to_bytes().len() + 1) };
        }
    }
}

/// A host function: gets the instance that calls it, and the input.
type HostFunction = Box<dyn Fn(&Instance<'_>, &[u8]) -> Answer + Send + Sync>;

/// A status, and the result or message.
type Answer = (i32, Vec<u8>);

/// What the host offers to one instance, and what it noted.
#[derive(Default)]
pub struct Host {
    imports: BTreeMap<&'static str, HostFunction>,
    log: Mutex<Vec<(u32, String)>>,
    kept: Mutex<Vec<Option<Answer>>>,
    /// How often a plug-in was told FERRULE_MORE.
    pub more: AtomicU32,
    pub cancel: AtomicU32,
    /// Services in place of the usual ones, for a host that breaks the contract.
    pub table: Option<&'static ferrule::abi::Host>,
}

impl Host {
    pub fn import(
        mut self,
        name: &'static str,
        answer: impl Fn(&Instance<'_>, &[u8]) -> Answer + Send + Sync + 'static,
    ) -> Host {
        self.imports.insert(name, Box::new(answer));
        self
    }

    /// The log lines since the last time.
    pub fn take_log(&self) -> Vec<(u32, String)> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

/// The frame with what the services need behind it, as R6 lets a host have it.
#[repr(C)]
struct Frame<'a> {
    call: Call,
    instance: &'a Instance<'a>,
}

static TABLE: ferrule::abi::Host =
    ferrule::abi::Host { size: std::mem::size_of::<ferrule::abi::Host>(), call: call_import, log };

unsafe extern "C" fn call_import(call: *mut Call, request: *mut Request) -> i32 {
    // SAFETY: the plug-in passes the frame that it got, which is one of ours, and a request of its own.
    let (frame, request) = unsafe { (&*call.cast::<Frame<'_>>(), &mut *request) };
    assert_eq!(request.size, std::mem::size_of::<Request>());
    let instance = frame.instance;
    let host = &instance.host;
    let (status, answer) = match request.kept {
        0 => match instance.library.imports.get(request.ordinal as usize) {
            None => return MISUSE,
            Some(name) => {
                // SAFETY: R18: in_len bytes at `in`.
                let input = unsafe { std::slice::from_raw_parts(request.r#in, request.in_len) };
                let answer = host.imports.get(name).unwrap_or_else(|| panic!("the test answers no {name}"));
                answer(instance, input)
            }
        },
        kept => host.kept.lock().unwrap()[kept as usize - 1].take().expect("a kept result is fetched once"),
    };
    request.out_len = answer.len();
    if answer.len() > request.out_cap {
        host.more.fetch_add(1, Ordering::Relaxed);
        let mut kept = host.kept.lock().unwrap();
        kept.push(Some((status, answer)));
        request.kept = kept.len() as u32;
        return MORE;
    }
    // SAFETY: room for out_cap bytes.
    unsafe { ptr::copy_nonoverlapping(answer.as_ptr(), request.out, answer.len()) };
    status
}

unsafe extern "C" fn log(call: *mut Call, level: u32, text: *const c_char, text_len: usize) -> i32 {
    // SAFETY: the plug-in passes the frame that it got, which is one of ours, and text_len bytes.
    let (frame, text) = unsafe { (&*call.cast::<Frame<'_>>(), std::slice::from_raw_parts(text.cast(), text_len)) };
    let line = std::str::from_utf8(text).expect("a log line is UTF-8").to_string();
    assert!(!line.ends_with('\n'), "{line:?}");
    frame.instance.host.log.lock().unwrap().push((level, line));
    OK
}

/// What a call came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: i32,
    pub bytes: Vec<u8>,
    /// Was the result the plug-in's own memory, which release took back?
    pub handed_over: bool,
}

impl Outcome {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    /// The result of a call that must have worked.
    pub fn ok(&self) -> &str {
        assert_eq!(self.status, OK, "{}", self.text());
        self.text()
    }

    /// The message of a call that must have failed with `status`.
    pub fn failed(&self, status: i32) -> &str {
        assert_eq!(self.status, status, "{}", self.text());
        self.text()
    }
}

/// One instance of a library, started or (for a plug-in without a state) not.
pub struct Instance<'a> {
    library: &'a Library,
    pub host: Host,
    state: *mut c_void,
}

// SAFETY: the tests keep to the thread rule of the plug-in, as a host does.
unsafe impl Sync for Instance<'_> {}
// SAFETY: as above.
unsafe impl Send for Instance<'_> {}

/// What stands in the room before and behind what the plug-in may write.
const GUARD: u8 = 0xA5;

impl<'a> Instance<'a> {
    pub fn new(library: &'a Library, host: Host) -> Instance<'a> {
        Instance { library, host, state: ptr::null_mut() }
    }

    pub fn started(library: &'a Library, host: Host, config: &str) -> Instance<'a> {
        let mut instance = Instance::new(library, host);
        assert_eq!(instance.start(config).failed(OK), "");
        instance
    }

    pub fn start(&mut self, config: &str) -> Outcome {
        let (outcome, state) = self.run("ferrule_start", config.as_bytes(), 64);
        assert_eq!(outcome.status != OK, state.is_null(), "{outcome:?}");
        self.state = state;
        outcome
    }

    pub fn stop(&mut self) -> Outcome {
        let (outcome, _) = self.run("ferrule_stop", b"", 64);
        self.state = ptr::null_mut();
        outcome
    }

    /// Calls `ferrule_fn_<name>` with room for a usual result.
    pub fn call(&self, name: &str, input: &str) -> Outcome {
        self.call_with(name, input.as_bytes(), 512)
    }

    pub fn call_with(&self, name: &str, input: &[u8], room: usize) -> Outcome {
        self.call_symbol(&format!("ferrule_fn_{name}"), input, room)
    }

    pub fn call_symbol(&self, symbol: &str, input: &[u8], room: usize) -> Outcome {
        let (outcome, state) = self.run(symbol, input, room);
        assert_eq!(state, self.state, "only ferrule_start sets the state (R6)");
        outcome
    }

    fn frame<'b>(&'b self, input: &[u8], out: *mut u8, out_cap: usize) -> Frame<'b> {
        Frame {
            call: Call {
                size: std::mem::size_of::<Call>(),
                state: self.state,
                r#in: input.as_ptr(),
                in_len: input.len(),
                out,
                out_len: 0,
                out_cap,
                release: None,
                host: self.host.table.unwrap_or(&TABLE),
                cancel: &self.host.cancel,
            },
            instance: self,
        }
    }

    fn run(&self, symbol: &str, input: &[u8], room: usize) -> (Outcome, *mut c_void) {
        let function: Symbol<'_, Function> = self.library.symbol(symbol);
        let mut out = vec![GUARD; room + 16];
        let mut frame = self.frame(input, out.as_mut_ptr(), room);
        // SAFETY: the frame is as the rules have it.
        let status = unsafe { function(&mut frame.call) };
        let outcome = take(&mut frame.call, out.as_mut_ptr(), status);
        assert!(out[room..].iter().all(|byte| *byte == GUARD), "{symbol} wrote beyond the room (R8)");
        if outcome.handed_over {
            assert!(out.iter().all(|byte| *byte == GUARD), "{symbol} used the room and handed over");
        }
        (outcome, frame.call.state)
    }

    /// Runs `ferrule_batch` over the inputs, with one room for all results.
    pub fn batch(&self, name: &str, inputs: &[&str], room: usize) -> (i32, Vec<Outcome>) {
        let function: Symbol<'_, Function> = self.library.symbol(&format!("ferrule_fn_{name}"));
        let batch: Symbol<'_, unsafe extern "C" fn(*mut Frames) -> i32> = self.library.symbol("ferrule_batch");
        let mut out = vec![GUARD; room + 16];
        let mut calls: Vec<Frame<'_>> =
            inputs.iter().map(|input| self.frame(input.as_bytes(), ptr::null_mut(), 0)).collect();
        if let Some(first) = calls.first_mut() {
            first.call.out = out.as_mut_ptr();
            first.call.out_cap = room;
        }
        let mut statuses = vec![-1; inputs.len()];
        let mut frames = Frames {
            size: std::mem::size_of::<Frames>(),
            r#fn: *function,
            calls: calls.as_mut_ptr().cast(),
            stride: std::mem::size_of::<Frame<'_>>(),
            count: calls.len(),
            statuses: statuses.as_mut_ptr(),
            done: usize::MAX,
        };
        // SAFETY: the frames are as the rules have them.
        let status = unsafe { batch(&mut frames) };
        assert!(statuses[frames.done..].iter().all(|status| *status == -1), "a status of a record that did not run");
        let mut next = out.as_mut_ptr();
        let outcomes = calls.iter_mut().zip(&statuses).take(frames.done).map(|(frame, status)| {
            let outcome = take(&mut frame.call, next, *status);
            if !outcome.handed_over {
                // SAFETY: `take` has seen that the result lies within the room.
                next = unsafe { next.add(outcome.bytes.len()) };
            }
            outcome
        });
        let outcomes = outcomes.collect();
        assert!(out[room..].iter().all(|byte| *byte == GUARD), "{name} wrote beyond the room (R8)");
        (status, outcomes)
    }
}

/// Takes the bytes as R8 has them, and gives them back as R9 has it: on another thread, with a frame that has nothing
/// but what R9 promises.
fn take(call: &mut Call, room: *mut u8, status: i32) -> Outcome {
    let handed_over = call.release.is_some();
    if !handed_over {
        assert!(call.out_len <= call.out_cap, "out_len {} over out_cap {} (R8)", call.out_len, call.out_cap);
        assert_eq!(call.out, room, "another pointer without release (R8)");
    }
    // SAFETY: R8.
    let bytes = unsafe { std::slice::from_raw_parts(call.out, call.out_len) }.to_vec();
    if let Some(release) = call.release {
        struct Kept(Call);
        // SAFETY: R9 allows any thread.
        unsafe impl Send for Kept {}
        let mut kept = Kept(Call {
            size: call.size,
            state: call.state,
            r#in: ptr::null(),
            in_len: 0,
            out: call.out,
            out_len: call.out_len,
            out_cap: call.out_cap,
            release: call.release,
            host: ptr::null(),
            cancel: ptr::null(),
        });
        std::thread::spawn(move || {
            let kept = &mut kept;
            // SAFETY: once, after the bytes were taken.
            unsafe { release(&mut kept.0) }
        })
        .join()
        .unwrap();
    }
    Outcome { status, bytes, handed_over }
}

impl Drop for Instance<'_> {
    fn drop(&mut self) {
        if !self.state.is_null() {
            self.stop();
        }
    }
}

/// Writes a package that is none of the workspace's into the target folder: `manifest` follows its `[package]`, and has
/// the dependencies; `files` are paths and texts.
pub fn package(name: &str, edition: &str, manifest: &str, files: &[(&str, &str)]) -> PathBuf {
    let ferrule = env!("CARGO_MANIFEST_DIR");
    let head = format!(
        "[package]\nname = {name:?}\nversion = \"0.1.0\"\nedition = {edition:?}\n\n\
         [workspace]\n\n[dependencies]\nferrule-plugin = {{ path = {ferrule:?} }}\n"
    );
    files_in(name, &[&[("Cargo.toml", &*(head + manifest))], files].concat())
}

/// Writes files into a new folder of the target folder, and a Cargo.lock beside them.
pub fn files_in(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    // The same versions as the workspace's, so that nothing is fetched.
    let lock = std::fs::read_to_string(workspace().join("Cargo.lock")).unwrap();
    for (path, text) in [("Cargo.lock", &*lock)].iter().chain(files) {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}
