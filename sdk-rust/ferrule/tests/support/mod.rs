//! A host that speaks the raw ABI, checks what the rules of ferrule.h let a host check, and runs the plug-ins of
//! sdk-rust/fixtures. And cargo, for the tests that build packages.

#![allow(dead_code)] // Each test binary uses its own part.
#![deny(unsafe_op_in_unsafe_fn)]

use ferrule::abi::*;
use libloading::Symbol;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;
use std::os::raw::c_char;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
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
    /// By ordinal: the imports, and behind them the wants.
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
            library.bind(&format!("ferrule_import_{name}"), ordinal);
        }
        library
    }

    /// Sets the slots of the wants (R23), as a host does that knows them.
    pub fn bind_wants(mut self, wants: &[&'static str]) -> Library {
        assert!(wants.windows(2).all(|pair| pair[0] < pair[1]), "{wants:?} are not sorted");
        for name in wants {
            self.bind(&format!("ferrule_want_{name}"), self.imports.len());
            self.imports.push(name);
        }
        self
    }

    fn bind(&self, slot: &str, ordinal: usize) {
        let found: Symbol<'_, *mut u32> = self.symbol(slot);
        // SAFETY: R5: a uint32_t of the library's, written before anything runs; another test may have opened it.
        let found = unsafe { &*found.cast::<AtomicU32>() };
        let before = found.swap(ordinal as u32, Ordering::Relaxed);
        assert!(before == UNBOUND || before == ordinal as u32, "{slot} held {before}");
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
pub type HostFunction = Box<dyn Fn(&Instance<'_>, &[u8]) -> Answer + Send + Sync>;

/// A status, and the result or message.
pub type Answer = (i32, Vec<u8>);

/// What the host offers to one instance, and what it noted.
#[derive(Default)]
pub struct Host {
    /// Is it a host of version 1.0? Its frames and its table end where they ended there.
    pub old: bool,
    pub imports: BTreeMap<&'static str, HostFunction>,
    /// What stands behind a wrapper.
    pub next: Option<HostFunction>,
    pub info: BTreeMap<&'static str, &'static str>,
    /// The pieces of the input stream that are left, and the status behind them; None for a call without a stream.
    pub input: Mutex<Option<(VecDeque<Vec<u8>>, i32)>>,
    /// What was written, and how many bytes are taken at most; None for a call without a stream.
    pub output: Mutex<Option<(Vec<u8>, usize)>>,
    /// How many bytes of room a call gets at most.
    pub most_room: Option<usize>,
    /// How often a plug-in got room.
    pub rooms: AtomicU32,
    pub log: Mutex<Vec<(u32, String)>>,
    pub kept: Mutex<Vec<Option<Answer>>>,
    /// How often a plug-in was told FERRULE_MORE.
    pub more: AtomicU32,
    pub cancel: AtomicU32,
    pub progress: [AtomicU64; 2],
    /// The cancellation word between calls.
    pub stopping: AtomicU32,
    /// Services in place of the usual ones, for a host that breaks the contract.
    pub table: Option<&'static ferrule::abi::Host>,
}

impl Host {
    /// A host of version 1.0.
    pub fn old() -> Host {
        Host { old: true, ..Host::default() }
    }

    pub fn import(
        mut self,
        name: &'static str,
        answer: impl Fn(&Instance<'_>, &[u8]) -> Answer + Send + Sync + 'static,
    ) -> Host {
        self.imports.insert(name, Box::new(answer));
        self
    }

    /// The log lines since the last time; a field is ` {key=value}` behind its line.
    pub fn take_log(&self) -> Vec<(u32, String)> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

/// A frame, in as many bytes as the version has, and what the host knows of it.
pub struct Frame<'a> {
    /// The address of `behind`, and the frame.
    words: Box<[usize]>,
    behind: Box<Behind<'a>>,
}

/// When the plug-in may use a frame.
#[derive(Clone, Copy, PartialEq)]
enum Time {
    Start,
    Call,
    Between,
}

struct Behind<'a> {
    instance: &'a Instance<'a>,
    time: Time,
    /// The rooms that it was given, each with a guard behind it.
    rooms: Mutex<Vec<Box<[u8]>>>,
    /// The piece that is lent.
    piece: Mutex<Vec<u8>>,
}

/// In words.
const CALL: usize = std::mem::size_of::<Call>() / WORD;
const CALL_1_0: usize = Call::SIZE_1_0 / WORD;
const WORD: usize = std::mem::size_of::<usize>();

impl Frame<'_> {
    pub fn call(&mut self) -> *mut Call {
        self.words[1..].as_mut_ptr().cast()
    }
}

/// # Safety
/// The plug-in passes the frame that it got, which is one of ours.
unsafe fn behind<'a>(call: *mut Call) -> &'a Behind<'a> {
    // SAFETY: its address is the word before the frame.
    unsafe { &**call.cast::<*const Behind<'a>>().sub(1) }
}

static TABLE: ferrule::abi::Host = ferrule::abi::Host {
    size: std::mem::size_of::<ferrule::abi::Host>(),
    call: call_import,
    log,
    log_fields,
    info,
    room,
    read,
    write,
    next,
    background,
};

/// The table of version 1.0: three words, with nothing behind them.
fn old_table() -> *const ferrule::abi::Host {
    static WORDS: [AtomicUsize; 3] = [AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0)];
    WORDS[1].store(call_import as *const () as usize, Ordering::Relaxed);
    WORDS[2].store(log as *const () as usize, Ordering::Relaxed);
    WORDS[0].store(ferrule::abi::Host::SIZE_1_0, Ordering::Relaxed);
    WORDS.as_ptr().cast()
}

/// # Safety
/// R18: `len` bytes at `start`, for as long as the result lives.
unsafe fn bytes<'a>(start: *const u8, len: usize) -> &'a [u8] {
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts(start, len) }
}

/// Answers a request by `function`, or with what was kept.
///
/// # Safety
/// The request is the plug-in's.
unsafe fn answer(
    instance: &Instance<'_>,
    request: *mut Request,
    function: impl FnOnce(&Request, &[u8]) -> Option<Answer>,
) -> i32 {
    // SAFETY: the caller's.
    let request = unsafe { &mut *request };
    assert_eq!(request.size, std::mem::size_of::<Request>());
    let host = &instance.host;
    let (status, answer) = match request.kept {
        // SAFETY: R18.
        0 => match function(request, unsafe { bytes(request.r#in, request.in_len) }) {
            None => return MISUSE,
            Some(answer) => answer,
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

unsafe extern "C" fn call_import(call: *mut Call, request: *mut Request) -> i32 {
    // SAFETY: R18.
    unsafe {
        let instance = behind(call).instance;
        answer(instance, request, |request, input| {
            let name = instance.library.imports.get(request.ordinal as usize)?;
            Some(match instance.host.imports.get(name) {
                Some(function) => function(instance, input),
                None if instance.library.has(&format!("ferrule_want_{name}")) => (UNSUPPORTED, Vec::new()),
                None => panic!("the test answers no {name}"),
            })
        })
    }
}

unsafe extern "C" fn next(call: *mut Call, request: *mut Request) -> i32 {
    // SAFETY: R18.
    unsafe {
        let behind = behind(call);
        if behind.time == Time::Between {
            return MISUSE;
        }
        answer(behind.instance, request, |_, input| {
            Some(match &behind.instance.host.next {
                Some(next) => next(behind.instance, input),
                None => (UNSUPPORTED, Vec::new()),
            })
        })
    }
}

unsafe extern "C" fn info(call: *mut Call, request: *mut Request) -> i32 {
    // SAFETY: R18.
    unsafe {
        let instance = behind(call).instance;
        answer(instance, request, |_, key| {
            let key = std::str::from_utf8(key).ok().filter(|key| (1..=256).contains(&key.len()))?;
            if let Some(name) = key.strip_prefix("offers.") {
                let offered = instance.host.imports.contains_key(name);
                return Some((OK, if offered { "yes" } else { "no" }.into()));
            }
            Some(match instance.host.info.get(key) {
                Some(value) => (OK, value.as_bytes().to_vec()),
                None => (UNSUPPORTED, Vec::new()),
            })
        })
    }
}

unsafe extern "C" fn log(call: *mut Call, level: u32, text: *const c_char, text_len: usize) -> i32 {
    // SAFETY: R18; no fields.
    unsafe { log_fields(call, level, text, text_len, ptr::NonNull::dangling().as_ptr(), 0) }
}

unsafe extern "C" fn log_fields(
    call: *mut Call,
    level: u32,
    text: *const c_char,
    text_len: usize,
    fields: *const c_char,
    fields_len: usize,
) -> i32 {
    // SAFETY: R18, R31.
    let (behind, text, fields) =
        unsafe { (behind(call), bytes(text.cast(), text_len), bytes(fields.cast(), fields_len)) };
    let mut line = std::str::from_utf8(text).expect("a log line is UTF-8").to_string();
    assert!(!line.ends_with('\n'), "{line:?}");
    let fields = std::str::from_utf8(fields).expect("fields are UTF-8");
    assert!(fields.is_empty() || fields.ends_with('\0'), "{fields:?}");
    for field in fields.split_terminator('\0') {
        assert!(field.contains('='), "{field:?}");
        line += &format!(" {{{field}}}");
    }
    behind.instance.host.log.lock().unwrap().push((level, line));
    OK
}

unsafe extern "C" fn room(call: *mut Call, n: usize) -> i32 {
    // SAFETY: R25.
    unsafe {
        let behind = behind(call);
        if behind.time == Time::Between || (*call).release.is_some() {
            return MISUSE;
        }
        let host = &behind.instance.host;
        if n > host.most_room.unwrap_or(usize::MAX) {
            return NO_MEMORY;
        }
        assert!(
            (*call).out_len <= (*call).out_cap,
            "out_len {} over out_cap {} (R25)",
            (*call).out_len,
            (*call).out_cap
        );
        host.rooms.fetch_add(1, Ordering::Relaxed);
        let mut rooms = behind.rooms.lock().unwrap();
        let mut room = vec![GUARD; n + 16].into_boxed_slice();
        room[..(*call).out_len].copy_from_slice(bytes((*call).out, (*call).out_len));
        (*call).out = room.as_mut_ptr();
        (*call).out_cap = n;
        // What was given before is used no longer.
        if let Some(before) = rooms.last_mut() {
            before.fill(GUARD);
        }
        rooms.push(room);
    }
    OK
}

unsafe extern "C" fn read(call: *mut Call, piece: *mut *const u8, len: *mut usize) -> i32 {
    // SAFETY: R24.
    let behind = unsafe { behind(call) };
    let host = &behind.instance.host;
    if behind.time == Time::Between {
        return MISUSE;
    }
    if host.cancel.load(Ordering::Relaxed) != 0 {
        return CANCELLED;
    }
    let mut lent = behind.piece.lock().unwrap();
    // The one before is gone.
    lent.fill(GUARD);
    match &mut *host.input.lock().unwrap() {
        None => return UNSUPPORTED,
        Some((pieces, status)) => match pieces.pop_front() {
            Some(next) => *lent = next,
            None if *status != OK => return *status,
            None => lent.clear(),
        },
    }
    // SAFETY: R24.
    unsafe { (*piece, *len) = (lent.as_ptr(), lent.len()) };
    OK
}

unsafe extern "C" fn write(call: *mut Call, piece: *const u8, len: usize) -> i32 {
    // SAFETY: R24.
    let (behind, piece) = unsafe { (behind(call), bytes(piece, len)) };
    let host = &behind.instance.host;
    if behind.time == Time::Between {
        return MISUSE;
    }
    if host.cancel.load(Ordering::Relaxed) != 0 {
        return CANCELLED;
    }
    match &mut *host.output.lock().unwrap() {
        None => UNSUPPORTED,
        Some((output, limit)) if output.len() + len > *limit => FAILED,
        Some((output, _)) => {
            output.extend_from_slice(piece);
            OK
        }
    }
}

unsafe extern "C" fn background(call: *mut Call) -> *mut Call {
    // SAFETY: R27.
    let behind = unsafe { behind(call) };
    if behind.time != Time::Start {
        return ptr::null_mut();
    }
    let instance = behind.instance;
    let mut between = instance.between.lock().unwrap();
    let frame = between.get_or_insert_with(|| {
        let mut frame = instance.frame(b"", ptr::NonNull::dangling().as_ptr(), 0, Time::Between);
        let call = frame.call();
        // SAFETY: it is ours, and not given away yet; it ends before the instance does.
        unsafe {
            (*call).cancel = &instance.host.stopping;
            std::mem::transmute::<Frame<'_>, Frame<'static>>(frame)
        }
    });
    frame.call()
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
    /// The frame for what happens between calls, from ferrule_start to the end of ferrule_stop.
    between: Mutex<Option<Frame<'static>>>,
}

// SAFETY: the tests keep to the thread rule of the plug-in, as a host does.
unsafe impl Sync for Instance<'_> {}
// SAFETY: as above.
unsafe impl Send for Instance<'_> {}

/// What stands in the room before and behind what the plug-in may write.
const GUARD: u8 = 0xA5;

impl<'a> Instance<'a> {
    /// In a box: the frame between calls knows where it is.
    pub fn new(library: &'a Library, host: Host) -> Box<Instance<'a>> {
        Box::new(Instance { library, host, state: ptr::null_mut(), between: Mutex::new(None) })
    }

    pub fn started(library: &'a Library, host: Host, config: &str) -> Box<Instance<'a>> {
        let mut instance = Instance::new(library, host);
        assert_eq!(instance.start(config).failed(OK), "");
        instance
    }

    pub fn start(&mut self, config: &str) -> Outcome {
        let (outcome, state) = self.run("ferrule_start", config.as_bytes(), 64);
        assert_eq!(outcome.status != OK, state.is_null(), "{outcome:?}");
        self.state = state;
        if outcome.status != OK {
            self.end_between();
        }
        outcome
    }

    /// Takes the frame between calls away, and leaves nothing usable where it was.
    fn end_between(&self) {
        if let Some(mut frame) = self.between.lock().unwrap().take() {
            frame.words.fill(usize::MAX);
        }
    }

    pub fn stop(&mut self) -> Outcome {
        self.host.stopping.store(1, Ordering::Release);
        let (outcome, _) = self.run("ferrule_stop", b"", 64);
        self.end_between();
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

    fn frame<'b>(&'b self, input: &[u8], out: *mut u8, out_cap: usize, time: Time) -> Frame<'b> {
        let words = if self.host.old { CALL_1_0 } else { CALL };
        let whole = Call {
            size: words * WORD,
            state: self.state,
            r#in: input.as_ptr(),
            in_len: input.len(),
            out,
            out_len: 0,
            out_cap,
            release: None,
            host: match (self.host.table, self.host.old) {
                (Some(table), _) => table,
                (None, true) => old_table(),
                (None, false) => &TABLE,
            },
            cancel: &self.host.cancel,
            progress: self.host.progress.as_ptr(),
        };
        let (rooms, piece) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let behind = Box::new(Behind { instance: self, time, rooms, piece });
        let mut frame = Frame { words: vec![0; 1 + words].into_boxed_slice(), behind };
        let address: *const Behind<'b> = &*frame.behind;
        frame.words[0] = address as usize;
        // SAFETY: as many words there and here.
        unsafe { ptr::copy_nonoverlapping(ptr::addr_of!(whole).cast(), frame.words[1..].as_mut_ptr(), words) };
        frame
    }

    fn run(&self, symbol: &str, input: &[u8], room: usize) -> (Outcome, *mut c_void) {
        let function: Symbol<'_, Function> = self.library.symbol(symbol);
        let mut out = vec![GUARD; room + 16];
        let time = if symbol == "ferrule_start" { Time::Start } else { Time::Call };
        let mut frame = self.frame(input, out.as_mut_ptr(), room, time);
        let call = frame.call();
        // SAFETY: the frame is as the rules have it.
        let status = unsafe { function(call) };
        let outcome = take(&mut frame, out.as_mut_ptr(), status);
        assert!(out[room..].iter().all(|byte| *byte == GUARD), "{symbol} wrote beyond the room (R8)");
        if outcome.handed_over && !symbol.contains("room") {
            assert!(out.iter().all(|byte| *byte == GUARD), "{symbol} used the room and handed over");
        }
        // SAFETY: ours again.
        (outcome, unsafe { (*call).state })
    }

    /// Runs `ferrule_batch` over the inputs, with one room for all results.
    pub fn batch(&self, name: &str, inputs: &[&str], room: usize) -> (i32, Vec<Outcome>) {
        let function: Symbol<'_, Function> = self.library.symbol(&format!("ferrule_fn_{name}"));
        let batch: Symbol<'_, unsafe extern "C" fn(*mut Frames) -> i32> = self.library.symbol("ferrule_batch");
        let mut out = vec![GUARD; room + 16];
        let mut frames: Vec<Frame<'_>> =
            inputs.iter().map(|input| self.frame(input.as_bytes(), ptr::null_mut(), 0, Time::Call)).collect();
        // One behind the other.
        let stride = frames.first().map_or(0, |frame| frame.words.len());
        let mut words: Vec<usize> = frames.iter().flat_map(|frame| frame.words.iter().copied()).collect();
        let at =
            |words: &mut Vec<usize>, record: usize| -> *mut Call { words[record * stride + 1..].as_mut_ptr().cast() };
        if !inputs.is_empty() {
            let first = at(&mut words, 0);
            // SAFETY: ours.
            unsafe { ((*first).out, (*first).out_cap) = (out.as_mut_ptr(), room) };
        }
        let mut statuses = vec![-1; inputs.len()];
        let mut argument = Frames {
            size: std::mem::size_of::<Frames>(),
            r#fn: *function,
            calls: if inputs.is_empty() { ptr::null_mut() } else { at(&mut words, 0) },
            stride: stride * WORD,
            count: inputs.len(),
            statuses: statuses.as_mut_ptr(),
            done: usize::MAX,
        };
        // SAFETY: the frames are as the rules have them.
        let status = unsafe { batch(&mut argument) };
        assert!(statuses[argument.done..].iter().all(|status| *status == -1), "a status of a record that did not run");
        let mut next = out.as_mut_ptr();
        let mut outcomes = Vec::new();
        for (record, frame) in frames.iter_mut().enumerate().take(argument.done) {
            frame.words.copy_from_slice(&words[record * stride..][..stride]);
            let own_room = !frame.behind.rooms.lock().unwrap().is_empty();
            let outcome = take(frame, next, statuses[record]);
            if !outcome.handed_over && !own_room {
                // SAFETY: `take` has seen that the result lies within the room.
                next = unsafe { next.add(outcome.bytes.len()) };
            }
            outcomes.push(outcome);
        }
        assert!(out[room..].iter().all(|byte| *byte == GUARD), "{name} wrote beyond the room (R8)");
        (status, outcomes)
    }
}

/// Takes the bytes as R8 has them, and gives them back as R9 has it: on another thread, with a frame that has nothing
/// but what R9 promises.
fn take(frame: &mut Frame<'_>, first: *mut u8, status: i32) -> Outcome {
    // SAFETY: ours; a frame of version 1.0 has these members as well.
    let (out, out_len, out_cap, release, size) = unsafe {
        let call = frame.call();
        ((*call).out, (*call).out_len, (*call).out_cap, (*call).release, (*call).size)
    };
    let handed_over = release.is_some();
    let rooms = frame.behind.rooms.lock().unwrap();
    for room in rooms.iter() {
        assert!(room[room.len() - 16..].iter().all(|byte| *byte == GUARD), "wrote beyond a room (R25)");
    }
    if !handed_over {
        assert!(out_len <= out_cap, "out_len {out_len} over out_cap {out_cap} (R8)");
        let room = rooms.last().map_or(first as *const u8, |room| room.as_ptr());
        assert_eq!(out as *const u8, room, "another pointer without release (R8)");
    }
    // SAFETY: R8.
    let result = unsafe { bytes(out, out_len) }.to_vec();
    if let Some(release) = release {
        // Nothing but what R9 promises.
        let mut words = vec![0_usize; size / WORD];
        let call: *mut Call = words.as_mut_ptr().cast();
        // SAFETY: a frame of as many bytes.
        unsafe {
            (*call).size = size;
            ((*call).out, (*call).out_len, (*call).out_cap, (*call).release) = (out, out_len, out_cap, Some(release));
        }
        std::thread::spawn(move || {
            // SAFETY: once, after the bytes were taken; R9 allows any thread.
            unsafe { release(words.as_mut_ptr().cast()) }
        })
        .join()
        .unwrap();
    }
    Outcome { status, bytes: result, handed_over }
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
