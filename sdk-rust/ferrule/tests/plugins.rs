//! The plug-ins of sdk-rust/fixtures under a host that speaks the raw ABI.

#![deny(unsafe_op_in_unsafe_fn)]

mod support;

use ferrule::abi::{self, *};
use std::os::raw::c_char;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier};
use support::{Host, Instance, Library, Outcome};

fn pairs(text: &[(String, String)]) -> Vec<(&str, &str)> {
    text.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

#[test]
fn manifest_and_meta_texts() {
    let library = Library::fixture("echo", &[]);
    assert_eq!(
        pairs(&library.text("ferrule_manifest")),
        [
            ("ferrule", "1"),
            ("name", "echo"),
            ("version", "0.1.0"),
            ("description", "Gives back what it gets"),
            ("x-color.2", "blue"),
        ]
    );
    assert_eq!(
        pairs(&library.text("ferrule_meta_fn_owned")),
        [
            ("doc", "Gives back the bytes,\nin memory of its own.\n\nNothing is lost."),
            ("in", "application/octet-stream"),
            ("out", "application/octet-stream"),
        ]
    );
    let text = "text/plain; charset=utf-8";
    assert_eq!(pairs(&library.text("ferrule_meta_fn_named_lifetime")), [("in", text), ("out", text)]);
    assert_eq!(pairs(&library.text("ferrule_meta_fn_constant")), [("out", text)]);
    assert_eq!(pairs(&library.text("ferrule_meta_fn_nothing")), []);
    assert!(library.has("ferrule_fn_type"), "r#type is exported as type");
    for absent in ["ferrule_start", "ferrule_stop", "ferrule_fn_configured_out", "ferrule_fn_configured_out_below"] {
        assert!(!library.has(absent), "{absent}");
    }

    let library = Library::fixture("json", &[]);
    let json = "application/json";
    assert_eq!(
        pairs(&library.text("ferrule_meta_hook_before_checkout")),
        [("doc", "Decides the discount of a cart."), ("in", json), ("out", json)]
    );
    let library = Library::fixture("imports", &[]);
    assert_eq!(
        pairs(&library.text("ferrule_meta_import_loyalty_points")),
        [("doc", "How many points a customer has."), ("in", text), ("out", json)]
    );
    assert_eq!(pairs(&library.text("ferrule_meta_import_notify")), [("in", text)]);
    let library = Library::fixture("concurrent", &[]);
    assert!(pairs(&library.text("ferrule_manifest")).contains(&("threads", "concurrent")));
}

#[test]
fn bytes_and_text() {
    let library = Library::fixture("echo", &[]);
    let instance = Instance::new(&library, Host::default());
    for function in ["borrowed", "owned", "text", "string", "bytes"] {
        for input in ["", "a", "ferrule", &"long ".repeat(1000)] {
            assert_eq!(instance.call(function, input).ok(), input, "{function}");
        }
    }
    assert_eq!(instance.call_with("borrowed", b"\xff\0", 512).bytes, b"\xff\0");
    for function in ["text", "string"] {
        let outcome = instance.call_with(function, b"a\xff", 512);
        assert!(outcome.failed(INVALID).contains("expected UTF-8"), "{outcome:?}");
    }
    assert_eq!(instance.call("constant", "ignored").ok(), "constant");
    assert_eq!(instance.call("nothing", "ignored").ok(), "");
    assert_eq!(instance.call("unit", "ignored").ok(), "");
    assert_eq!(instance.call("named_lifetime", " trimmed ").ok(), "trimmed");
    assert_eq!(instance.call("type", "a").ok(), "type a");
}

#[test]
fn room_of_every_size() {
    let library = Library::fixture("echo", &[]);
    for host in [Host::default(), Host::old(), Host { most_room: Some(50), ..Host::default() }] {
        let most_room = if host.old { 0 } else { host.most_room.unwrap_or(usize::MAX) };
        let instance = Instance::new(&library, host);
        for (function, owned) in [("borrowed", false), ("owned", true), ("text", false), ("string", true)] {
            for len in [0, 1, 2, 100] {
                let input = vec![b'x'; len];
                for room in [0, 1, len.saturating_sub(1), len, len + 1, 4096] {
                    let rooms = instance.host.rooms.swap(0, Ordering::Relaxed);
                    assert!(rooms <= 1, "asked {rooms} times");
                    let outcome = instance.call_with(function, &input, room);
                    // What is borrowed goes into more room where there is some.
                    let handed_over = len > room && (owned || len > most_room);
                    let want = Outcome { status: OK, bytes: input.clone(), handed_over };
                    assert_eq!(outcome, want, "{function}, {len} bytes in room for {room}");
                }
            }
        }
        // A message goes the same way as a result.
        let outcome = instance.call_with("question_mark", b"x", 3);
        assert_eq!(outcome.failed(FAILED), "invalid digit found in string");
        assert_eq!(outcome.handed_over, most_room == 0);
    }
}

#[test]
fn errors() {
    let library = Library::fixture("echo", &[]);
    let instance = Instance::new(&library, Host::default());
    assert_eq!(instance.call("question_mark", "41").ok(), "42");
    assert_eq!(instance.call("question_mark", "x").failed(FAILED), "invalid digit found in string");
    assert_eq!(instance.call("any_error", "7").ok(), "7");
    assert_eq!(instance.call("any_error", "").failed(FAILED), "cannot parse integer from empty string");
    assert_eq!(instance.call("own_status", "sold out").failed(1001), "sold out");
}

#[test]
fn errors_of_every_kind() {
    let library = Library::fixture("errors", &["price"]);
    let host = Host::default().import("price", |_, _| (1001, b"sold out".to_vec()));
    let instance = Instance::new(&library, host);
    let parsing = "invalid digit found in string";
    for (what, message) in [
        ("a_string", "found \"x\", expected a number"),
        ("a_box", parsing),
        ("anyhow", "the input \"x\": invalid digit found in string"),
    ] {
        for way in ["result_of", "question_mark_on"] {
            let function = format!("{way}_{what}");
            assert_eq!(instance.call(&function, "7").ok(), "7", "{function}");
            assert_eq!(instance.call(&function, "x").failed(FAILED), message, "{function}");
        }
    }
    assert_eq!(instance.call("result_of_a_text", "").failed(FAILED), "never");
    assert_eq!(instance.call("through_anyhow", "tea").failed(1001), "no price: sold out");
}

#[test]
fn a_typed_configuration() {
    let library = Library::fixture("settings", &[]);
    let mut instance = Instance::started(&library, Host::default(), r#"{"depth": 7}"#);
    assert_eq!(instance.call("settings", "").ok(), r#"{"depth":7,"names":[]}"#);
    let configured = instance.call_symbol("ferrule_configure", br#"{"depth": 8, "names": ["a"]}"#, 64);
    assert_eq!(configured.ok(), "");
    assert_eq!(instance.call("settings", "").ok(), r#"{"depth":8,"names":["a"]}"#);
    let expected = "in the configuration: not JSON for the type fixture_settings::Settings: ";
    for (config, message) in [
        ("", "missing field `depth` at line 1 column 2"),
        (r#"{"depth": 300}"#, "invalid value: integer `300`, expected u8 at line 1 column 13"),
        (r#"{"dept": 7}"#, "unknown field `dept`, expected `depth` or `names` at line 1 column 7"),
    ] {
        let message = format!("{expected}{message}");
        let configured = instance.call_symbol("ferrule_configure", config.as_bytes(), 512);
        assert_eq!(configured.failed(INVALID), message);
        assert_eq!(Instance::new(&library, Host::default()).start(config).failed(INVALID), message);
    }
    assert_eq!(instance.call("settings", "").ok(), r#"{"depth":8,"names":["a"]}"#, "as it was");
    instance.stop().ok();
}

#[test]
fn a_frame_that_is_too_small_is_refused() {
    let library = Library::fixture("counter", &["call_me"]);
    let call = Call::SIZE_1_0;
    let frames = std::mem::size_of::<Frames>();
    for (symbol, size) in
        [("ferrule_fn_add", call), ("ferrule_start", call), ("ferrule_stop", call), ("ferrule_batch", frames)]
    {
        let function = library.symbol::<unsafe extern "C" fn(*mut usize) -> i32>(symbol);
        for mut size in [0, 8, size - 1] {
            // SAFETY: R21: no member beyond the size is read.
            assert_eq!(unsafe { function(&mut size) }, MISUSE, "{symbol}");
        }
        // SAFETY: null is refused.
        assert_eq!(unsafe { function(std::ptr::null_mut()) }, MISUSE, "{symbol}");
    }
}

#[test]
fn what_is_handed_over_is_not_copied_and_is_given_back() {
    let library = Library::fixture("memory", &[]);
    let instance = Instance::new(&library, Host::default());
    instance.call_with("make", b"100000", 0);
    let before: isize = instance.call("live", "").ok().parse().unwrap();
    for _ in 0..100 {
        assert!(instance.call_with("make", b"100000", 99_999).handed_over);
        assert!(!instance.call_with("make", b"100000", 100_000).handed_over);
        instance.call_with("make", b"not a number, and no room for the message", 0);
    }
    let after: isize = instance.call("live", "").ok().parse().unwrap();
    assert!((after - before).abs() < 100_000, "{before} bytes before, {after} after 200 results of 100,000");

    let function: libloading::Symbol<'_, Function> = library.symbol("ferrule_fn_make");
    let input = b"1000";
    let mut room = [0_u8; 1];
    let mut call = Call {
        size: std::mem::size_of::<Call>(),
        state: std::ptr::null_mut(),
        r#in: input.as_ptr(),
        in_len: input.len(),
        out: room.as_mut_ptr(),
        out_len: 0,
        out_cap: room.len(),
        release: None,
        host: &table(0, no_import),
        cancel: std::ptr::null(),
        progress: std::ptr::null(),
    };
    // SAFETY: the frame is as the rules have it, but for a table that is too small, which nothing uses here.
    unsafe {
        assert_eq!(function(&mut call), OK);
        let address = instance.call("address", "").ok().to_string();
        assert_eq!((call.out as usize).to_string(), address, "the result was copied");
        call.release.unwrap()(&mut call);
    }
}

/// A table whose size says that there is no more than `call` and `log`, or less.
fn table(size: usize, call: unsafe extern "C" fn(*mut Call, *mut Request) -> i32) -> abi::Host {
    unsafe extern "C" fn log_fields(
        _: *mut Call,
        _: u32,
        _: *const c_char,
        _: usize,
        _: *const c_char,
        _: usize,
    ) -> i32 {
        unreachable!("beyond the size")
    }
    unsafe extern "C" fn room(_: *mut Call, _: usize) -> i32 {
        unreachable!("beyond the size")
    }
    unsafe extern "C" fn read(_: *mut Call, _: *mut *const u8, _: *mut usize) -> i32 {
        unreachable!("beyond the size")
    }
    unsafe extern "C" fn write(_: *mut Call, _: *const u8, _: usize) -> i32 {
        unreachable!("beyond the size")
    }
    unsafe extern "C" fn background(_: *mut Call) -> *mut Call {
        unreachable!("beyond the size")
    }
    assert!(size <= abi::Host::SIZE_1_0);
    abi::Host { size, call, log: no_log, log_fields, info: no_import, room, read, write, next: no_import, background }
}

unsafe extern "C" fn no_import(_: *mut Call, _: *mut Request) -> i32 {
    unreachable!("the table is too small to be used")
}

unsafe extern "C" fn no_log(_: *mut Call, _: u32, _: *const c_char, _: usize) -> i32 {
    unreachable!("the table is too small to be used")
}

#[test]
fn state() {
    let library = Library::fixture("counter", &["call_me"]);
    let mut one = Instance::started(&library, Host::default(), "one=1");
    let two = Instance::started(&library, Host::default(), "two=100");
    assert_eq!(one.call("add", "2").ok(), "3");
    assert_eq!(two.call("add", "2").ok(), "102");
    assert_eq!(one.call("add", "-1").failed(FAILED), "invalid digit found in string");
    assert_eq!(one.call("add", "10").ok(), "13", "an error does not poison");
    assert_eq!(one.call("name", "").ok(), "one, cancelled: false");
    assert_eq!(one.call("name_of", "x").ok(), "one");
    assert_eq!(one.stop().failed(FAILED), "13 is no number to stop at");
    assert_eq!(one.host.take_log(), [(LOG_INFO, "one starts".to_string()), (LOG_INFO, "one stops at 13".to_string())]);
    assert_eq!(Instance::new(&library, Host::default()).start("no number").failed(INVALID), "expected name=count");
}

#[test]
fn state_without_a_start_is_refused() {
    let library = Library::fixture("counter", &["call_me"]);
    let mut instance = Instance::new(&library, Host::default());
    assert!(instance.call("add", "1").failed(MISUSE).contains("R15"));
    assert!(instance.stop().failed(MISUSE).contains("R15"));
}

#[test]
fn a_call_from_inside_a_call_of_the_same_instance_is_refused() {
    let library = Library::fixture("counter", &["call_me"]);
    let host = Host::default().import("call_me", |instance, _| {
        let refused = instance.call("add", "1");
        (OK, refused.failed(MISUSE).as_bytes().to_vec())
    });
    let instance = Instance::started(&library, host, "one=1");
    let outcome = instance.call("reenter", "");
    assert!(outcome.ok().contains("R13") && outcome.ok().ends_with("; 2"), "{outcome:?}");
    assert_eq!(instance.call("add", "1").ok(), "3", "the instance goes on");
}

#[test]
fn concurrent_calls_of_one_instance() {
    let library = Library::fixture("concurrent", &[]);
    let instance = Instance::started(&library, Host::default(), "");
    std::thread::scope(|scope| {
        scope.spawn(|| instance.call("meet", "").ok().to_string());
        instance.call("meet", "").ok();
    });
    // One of two calls panics; the other, which runs meanwhile, ends well, and later ones are refused.
    let outcomes = std::thread::scope(|scope| {
        let other = scope.spawn(|| instance.call("meet_and_panic", ""));
        let mut outcomes = [instance.call("meet_and_panic", ""), other.join().unwrap()];
        outcomes.sort_by_key(|outcome| outcome.status);
        outcomes
    });
    assert_eq!(outcomes[0].ok(), "the other is well");
    assert!(outcomes[1].failed(PANIC).ends_with(": the leader panics"));
    assert!(instance.call("pass_by", "").failed(PANIC).contains("poisoned"));
}

#[test]
fn pinned_state_need_not_be_send() {
    let library = Library::fixture("pinned", &[]);
    let instance = Instance::started(&library, Host::default(), "");
    assert_eq!(instance.call("next", "").ok(), "1");
    assert_eq!(instance.call("next", "").ok(), "2");
}

const IMPORTS: [&str; 6] = ["loyalty_points", "bytes", "sum", "now", "notify", "fails"];

#[test]
fn imports() {
    let library = Library::fixture("imports", &IMPORTS);
    let host = Host::default()
        .import("loyalty_points", |_, customer| match customer {
            b"ada" => (OK, b"1234".to_vec()),
            b"bob" => (OK, b"many".to_vec()),
            _ => (INVALID, b"no such customer".to_vec()),
        })
        .import("sum", |_, numbers| {
            assert_eq!(numbers, b"[1,2,39]");
            (OK, b"42".to_vec())
        })
        .import("notify", |_, text| (OK, [text, b" is not read"].concat()))
        .import("now", |_, input| (OK, format!("noon, with {} bytes", input.len()).into_bytes()));
    let instance = Instance::new(&library, host);
    assert_eq!(instance.call("points", "ada").ok(), "ada: 1234");
    assert_eq!(instance.call("points", "eve").failed(INVALID), "no such customer");
    let not_json = "the result of the host function loyalty_points: not JSON for the type ";
    assert!(instance.call("points", "bob").failed(FAILED).contains(not_json));
    assert_eq!(instance.call("total", "").ok(), "42 at noon, with 0 bytes");
}

#[test]
fn imports_with_results_of_every_size() {
    let library = Library::fixture("imports", &IMPORTS);
    let host = Host::default().import("bytes", |_, input| {
        let len = std::str::from_utf8(input).unwrap().parse().unwrap();
        (OK, (0..len).map(|i: u32| i as u8).collect())
    });
    let instance = Instance::new(&library, host);
    let mut longer = 0;
    for len in [0, 1, 255, 256, 257, 511, 512, 513, 4096, 1 << 20] {
        let outcome = instance.call_with("pass", len.to_string().as_bytes(), 300);
        let want: Vec<u8> = (0..len).map(|i: u32| i as u8).collect();
        assert_eq!((outcome.status, outcome.bytes), (OK, want), "{len} bytes");
        longer += (len > 256) as u32;
    }
    assert_eq!(instance.host.more.load(Ordering::Relaxed), longer, "each longer result is fetched once more");
}

#[test]
fn failing_imports() {
    let library = Library::fixture("imports", &IMPORTS);
    let long = "long ".repeat(1000);
    for (status, message, seen, passed) in [
        (FAILED, "no", "no (failed)", FAILED),
        (1007, "own", "own (status 1007)", 1007),
        (CANCELLED, "too late", "too late (cancelled)", CANCELLED),
        (INVALID, &long, &format!("{long} (invalid input)"), INVALID),
        // A host function's panic does not poison this instance, and its misuse is not this function's.
        (PANIC, "the host function panicked", "the host function panicked (failed)", FAILED),
        (MISUSE, "who knows", "who knows (failed)", FAILED),
        (-3, "negative", "negative (failed)", FAILED),
        (NO_MEMORY, "", "the import `fails` answered without a message: out of memory (out of memory)", NO_MEMORY),
    ] {
        let answer = message.to_string();
        let host = Host::default().import("fails", move |_, _| (status, answer.clone().into_bytes()));
        let instance = Instance::new(&library, host);
        assert_eq!(instance.call("failure", "").ok(), seen);
        assert_eq!(instance.call("pass_failure", "").status, passed, "{message}");
    }
}

/// A host function calls another instance on the same thread; then the outer call goes on with its own host.
#[test]
fn a_call_within_an_import() {
    let library: &'static Library = Box::leak(Box::new(Library::fixture("imports", &IMPORTS)));
    let inner = Instance::new(library, Host::default().import("loyalty_points", |_, _| (OK, b"5".to_vec())));
    let host = Host::default()
        .import("notify", move |_, _| {
            assert_eq!(inner.call("points", "ada").ok(), "ada: 5");
            (OK, Vec::new())
        })
        .import("sum", |_, _| (OK, b"42".to_vec()))
        .import("now", |_, _| (OK, b"noon".to_vec()));
    assert_eq!(Instance::new(library, host).call("total", "").ok(), "42 at noon");
}

#[test]
fn a_host_that_breaks_the_contract_gets_errors() {
    unsafe extern "C" fn more_of_nothing(_: *mut Call, request: *mut Request) -> i32 {
        // SAFETY: the plug-in's request.
        unsafe { (*request).out_len = 1 << 20 };
        MORE
    }
    unsafe extern "C" fn more_than_enough(_: *mut Call, request: *mut Request) -> i32 {
        // SAFETY: the plug-in's request.
        unsafe { (*request).kept = 1 };
        MORE
    }
    unsafe extern "C" fn beyond_the_room(_: *mut Call, request: *mut Request) -> i32 {
        // SAFETY: the plug-in's request.
        unsafe { (*request).out_len = (*request).out_cap + 1 };
        OK
    }
    unsafe extern "C" fn refuses_to_fetch(_: *mut Call, request: *mut Request) -> i32 {
        // SAFETY: the plug-in's request.
        unsafe {
            if (*request).kept == 1 {
                return MISUSE;
            }
            (*request).kept = 1;
            (*request).out_len = 1000;
        }
        MORE
    }
    unsafe extern "C" fn refuses(_: *mut Call, _: *mut Request) -> i32 {
        MISUSE
    }
    const SIZE: usize = abi::Host::SIZE_1_0;
    let tables = [
        table(SIZE, more_of_nothing),
        table(SIZE, more_than_enough),
        table(SIZE, beyond_the_room),
        table(SIZE, refuses_to_fetch),
        table(SIZE, refuses),
        table(std::mem::size_of::<usize>(), no_import),
    ];
    let library = Library::fixture("imports", &IMPORTS);
    let refused = "the host refused the import `bytes`";
    let messages = ["keeps no result", "keeps no result", "out_len over out_cap", refused, refused, "rule R21"];
    for (table, message) in tables.into_iter().zip(messages) {
        let mut instance = Instance::new(&library, Host::default());
        // A table lives as long as the process (R18).
        instance.host.table = Some(Box::leak(Box::new(table)));
        let outcome = instance.call("pass", "x");
        assert!(outcome.failed(FAILED).contains(message), "{outcome:?}");
    }
}

#[test]
fn json() {
    let library = Library::fixture("json", &[]);
    let instance = Instance::new(&library, Host::default());
    let hook = |input: &str| instance.call_symbol("ferrule_hook_before_checkout", input.as_bytes(), 100);
    assert_eq!(hook(r#"{"customer": "ada", "total": 101}"#).ok(), r#"{"customer":"ada","percent":20}"#);
    assert!(hook(r#"{"customer": "ada", "total": 0}"#).failed(INVALID).contains("empty cart"));
    let outcome = hook(r#"{"customer": "ada"}"#);
    assert!(outcome.failed(INVALID).contains("missing field `total`"), "{outcome:?}");
}

#[test]
fn panics() {
    let library = Library::fixture("panics", &[]);
    let place = "src/lib.rs:";
    for (how, message) in [
        ("text", "plain text"),
        ("formatted", "formatted 7"),
        ("index", "out of bounds"),
        ("scope", "in a scope on the calling thread"),
        ("payload", "a payload that is not text"),
        ("grenade", "a payload that is not text"),
        ("error", "an error panics when it is shown"),
    ] {
        let mut instance = Instance::started(&library, Host::default(), "");
        let outcome = instance.call("panics", how);
        let text = outcome.failed(PANIC);
        assert!(text.starts_with("panicked at ") && text.contains(message), "{how}: {text}");
        assert!(text.contains(place) || how == "index", "{how}: {text}");
        assert_eq!(instance.host.take_log(), [], "{how}: said once");
        assert!(instance.call("fine", "").failed(PANIC).contains("poisoned"), "{how}");
        assert_eq!(instance.stop().failed(OK), "");
        assert_eq!(instance.start("").failed(OK), "");
        assert_eq!(instance.call("fine", "").ok(), "fine", "{how}: a new instance is well");
    }
    let instance = Instance::started(&library, Host::default(), "");
    let outcome = instance.call("panics", "resumed");
    assert_eq!(outcome.failed(PANIC), "panicked: resumed by the author");

    let instance = Instance::started(&library, Host::default(), "");
    assert_eq!(instance.call("panics", "caught").ok(), "true");
    assert_eq!(instance.call("fine", "").ok(), "fine", "a panic that the author caught does not poison");
    assert_eq!(instance.call("panics", "thread").ok(), "true");
    let log = instance.host.take_log();
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].0, LOG_ERROR);
    assert!(log[0].1.ends_with(": on a thread of its own") && log[0].1.contains(place), "{log:?}");
}

#[test]
fn panics_in_start_and_stop() {
    let library = Library::fixture("panics", &[]);
    let outcome = Instance::new(&library, Host::default()).start("start");
    assert!(outcome.failed(PANIC).contains("panics in start"), "{outcome:?}");
    for config in ["stop", "drop"] {
        let mut instance = Instance::started(&library, Host::default(), config);
        let outcome = instance.stop();
        assert!(outcome.failed(PANIC).contains(&format!("panics in {config}")), "{outcome:?}");
    }
    // A poisoned instance is dropped, not stopped.
    let mut instance = Instance::started(&library, Host::default(), "stop");
    instance.call("panics", "text").failed(PANIC);
    assert_eq!(instance.stop().failed(OK), "");
    let mut instance = Instance::started(&library, Host::default(), "drop");
    instance.call("panics", "text").failed(PANIC);
    assert!(instance.stop().failed(PANIC).contains("panics in drop"));
}

/// The plug-in has a standard library of its own, so what it would print goes past the test's capture.
#[test]
fn panics_print_nothing() {
    let test = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "panics", "--test-threads", "1"])
        .output()
        .unwrap();
    assert!(test.status.success());
    assert_eq!(String::from_utf8_lossy(&test.stderr), "");
    assert!(String::from_utf8_lossy(&test.stdout).contains("1 passed"));
}

#[test]
fn cancellation() {
    let library = Library::fixture("cancel", &["working"]);
    let at_work = Arc::new(Barrier::new(2));
    let host = Host::default().import("working", {
        let (at_work, first) = (Arc::clone(&at_work), std::sync::Once::new());
        move |_, _| {
            first.call_once(|| {
                at_work.wait();
            });
            (OK, Vec::new())
        }
    });
    let instance = Instance::new(&library, host);
    assert_eq!(instance.call("cancelled", "").ok(), "false");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| instance.call("work", ""));
        at_work.wait();
        instance.host.cancel.store(1, Ordering::Release);
        assert_eq!(call.join().unwrap().failed(CANCELLED), "cancelled");
    });
    assert_eq!(instance.call("cancelled", "").ok(), "true");
}

#[test]
fn logging() {
    let library = Library::fixture("logs", &[]);
    let instance = Instance::new(&library, Host::default());
    instance.call("levels", "text").ok();
    let want = [
        (LOG_ERROR, "error text"),
        (LOG_WARN, "warn"),
        (LOG_INFO, "info"),
        (LOG_DEBUG, "debug"),
        (LOG_TRACE, "trace"),
        (LOG_ERROR, "own error"),
        (LOG_WARN, "own warn"),
        (LOG_INFO, "own info"),
        (LOG_DEBUG, "own debug"),
        (LOG_TRACE, ""),
    ];
    assert_eq!(instance.host.take_log(), want.map(|(level, line)| (level, line.to_string())));
    assert_eq!(instance.call("enabled", "").ok(), "here true, elsewhere false");
}

#[test]
fn threads_of_the_plug_ins_own() {
    let library = Library::fixture("threads", &["shout"]);
    let instance = Instance::new(&library, Host::default().import("shout", |_, text| (OK, text.to_ascii_uppercase())));
    assert_eq!(instance.call("shout_words", "one two three").ok(), "ONE TWO THREE END");
    let mut log = instance.host.take_log();
    log.sort();
    let line = |level, text: &str| (level, text.to_string());
    assert_eq!(
        log,
        [
            line(LOG_INFO, "one in scope"),
            line(LOG_INFO, "three in scope"),
            line(LOG_INFO, "two in scope"),
            line(LOG_DEBUG, "one"),
            line(LOG_DEBUG, "three"),
            line(LOG_DEBUG, "two"),
        ]
    );
    assert_eq!(instance.call("after_scope", "").ok(), "true");
    assert_eq!(instance.host.take_log(), [line(LOG_INFO, "in scope")]);
    let outcome = instance.call("without_scope", "word");
    assert!(outcome.ok().contains("call it inside Context::scope"), "{outcome:?}");
    assert_eq!(instance.host.take_log(), []);
}

#[test]
fn batches() {
    let library = Library::fixture("batch", &["cancel"]);
    let instance = Instance::new(&library, Host::default());
    let zero = "found 0, expected more";
    for (inputs, room, want) in [
        // Results fill the one room from its start on; the message of a failure takes its part of it.
        (&["3", "4", "5"][..], 12, &[(OK, "xxx", false), (OK, "xxxx", false), (OK, "xxxxx", false)][..]),
        (&["3", "4", "5"], 11, &[(OK, "xxx", false), (OK, "xxxx", false), (OK, "xxxxx", true)]),
        (&["3", "0", "2"], 27, &[(OK, "xxx", false), (INVALID, zero, false), (OK, "xx", false)]),
        // What is handed over takes nothing of it.
        (&["6", "1", "2"], 3, &[(OK, "xxxxxx", true), (OK, "x", false), (OK, "xx", false)]),
        (&["1", "1"], 0, &[(OK, "x", true), (OK, "x", true)]),
        (&[], 0, &[]),
    ] {
        let (status, outcomes) = instance.batch("repeat", inputs, room);
        assert_eq!(status, OK);
        let got: Vec<_> = outcomes.iter().map(|o| (o.status, o.text(), o.handed_over)).collect();
        assert_eq!(got, want, "{inputs:?} in room for {room}");
    }
}

#[test]
fn a_cancelled_batch_stops_before_the_next_record() {
    let library = Library::fixture("batch", &["cancel"]);
    let host = Host::default().import("cancel", |instance, _| {
        instance.host.cancel.store(1, Ordering::Release);
        (OK, Vec::new())
    });
    let instance = Instance::new(&library, host);
    let (status, outcomes) = instance.batch("cancel_at", &["one", "cancel", "three", "four"], 100);
    assert_eq!(status, CANCELLED);
    let texts: Vec<_> = outcomes.iter().map(Outcome::ok).collect();
    assert_eq!(texts, ["one", "cancel"], "the record that ran is kept");
    let (status, outcomes) = instance.batch("cancel_at", &["five"], 100);
    assert_eq!((status, outcomes.len()), (CANCELLED, 0));
}

#[test]
fn a_batch_stops_after_a_panic() {
    let library = Library::fixture("batch", &["cancel"]);
    let instance = Instance::new(&library, Host::default());
    let (status, outcomes) = instance.batch("panic_at", &["one", "panic", "three"], 100);
    assert_eq!((status, outcomes.len()), (PANIC, 2));
    assert_eq!(outcomes[0].ok(), "one");
    assert!(outcomes[1].failed(PANIC).contains("panicked"));
}

#[test]
fn hooks() {
    let library = Library::fixture("hooks", &[]);
    let instance = Instance::new(&library, Host::default());
    for symbol in ["ferrule_hook_page_header", "ferrule_fn_page_header"] {
        assert_eq!(instance.call_symbol(symbol, b"page", 100).ok(), "Welcome. page");
    }
    assert_eq!(pairs(&library.text("ferrule_meta_hook_page_header"))[0], ("doc", "Adds a greeting."));
}
