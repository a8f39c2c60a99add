//! What came with version 1.1 of the contract, under a host that has it, and under one of version 1.0.

#![deny(unsafe_op_in_unsafe_fn)]

mod support;

use ferrule::abi::*;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use support::{Host, Instance, Library};

fn pairs(text: &[(String, String)]) -> Vec<(&str, &str)> {
    text.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

/// A call with an input stream of these pieces, and room for `limit` bytes of output.
fn streaming(pieces: &[&str], end: i32, limit: usize) -> Host {
    let pieces: VecDeque<Vec<u8>> = pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
    Host { input: Mutex::new(Some((pieces, end))), output: Mutex::new(Some((Vec::new(), limit))), ..Host::default() }
}

fn written(instance: &Instance<'_>) -> String {
    let (bytes, _) = instance.host.output.lock().unwrap().take().unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_words_of_the_texts() {
    let library = Library::fixture("words", &[]);
    assert_eq!(
        pairs(&library.text("ferrule_manifest"))[4..],
        [
            ("health", "healthy"),
            ("requires", "auth\ncache"),
            ("host.shop", ">=1.2"),
            ("permit.read", "/etc/ssl\n/usr/share"),
            ("permit.memory", "67108864"),
        ]
    );
    assert_eq!(
        pairs(&library.text("ferrule_meta_fn_healthy")),
        [
            ("in-schema", "{}"),
            ("out-schema", "true"),
            ("since", "1.2"),
            ("idempotent", "yes"),
            ("quick", "yes"),
            ("x-cost", "low")
        ]
    );
    assert_eq!(
        pairs(&library.text("ferrule_meta_fn_convert")),
        [("in", "image/png"), ("out", "image/jpeg"), ("schema", "s"), ("deprecated", "use another")]
    );
    let text = "text/plain; charset=utf-8";
    assert_eq!(
        pairs(&library.text("ferrule_meta_hook_page")),
        [
            ("doc", "Stands around the hooks behind it."),
            ("in", text),
            ("out", "application/octet-stream"),
            ("wrap", "yes"),
            ("order", "first"),
            ("before", "log\nauth"),
            ("after", "cache"),
            ("priority", "-10"),
            ("optional", "yes"),
        ]
    );
    let library = Library::fixture("streams", &[]);
    for (function, stream) in [("count", "in"), ("produce", "out"), ("shout", "both"), ("threads", "both")] {
        let text = library.text(&format!("ferrule_meta_fn_{function}"));
        assert!(pairs(&text).contains(&("stream", stream)), "{function}: {text:?}");
    }
    assert!(pairs(&library.text("ferrule_meta_hook_shout")).contains(&("stream", "both")));
    let library = Library::fixture("room", &[]);
    assert!(pairs(&library.text("ferrule_meta_fn_room_table")).contains(&("out", "text/plain")));
    assert!(pairs(&library.text("ferrule_meta_fn_room_slice")).contains(&("out", "application/octet-stream")));
    let library = Library::fixture("handover", &[]);
    assert!(pairs(&library.text("ferrule_manifest")).contains(&("state", "count-1")));
    let schema = library.symbol::<*const std::os::raw::c_char>("ferrule_meta_config");
    // SAFETY: R32: a text, closed by a NUL.
    let schema = unsafe { std::ffi::CStr::from_ptr(*schema) };
    assert_eq!(schema.to_str().unwrap(), "{\"type\": \"integer\", \"minimum\": 1}\n");
}

#[test]
fn only_what_is_written_is_exported() {
    let symbols = ["ferrule_configure", "ferrule_save", "ferrule_resume", "ferrule_meta_config"];
    let handover = Library::fixture("handover", &[]);
    let counter = Library::fixture("counter", &["call_me"]);
    for symbol in symbols {
        assert!(handover.has(symbol) && !counter.has(symbol), "{symbol}");
    }
}

#[test]
fn passing() {
    let library = Library::fixture("words", &[]);
    for host in [Host::default(), Host::old()] {
        let instance = Instance::new(&library, host);
        assert_eq!(instance.call_symbol("ferrule_hook_double", b"21", 64).ok(), "42");
        let outcome = instance.call_symbol("ferrule_hook_double", b"x", 0);
        assert_eq!(outcome.failed(PASS), "");
        assert!(!outcome.handed_over, "nothing is allocated to say nothing");
        assert_eq!(instance.call("deep", "x").failed(PASS), "");
    }
}

#[test]
fn passing_allocates_nothing() {
    let library = Library::fixture("memory", &[]);
    let instance = Instance::new(&library, Host::default());
    let allocations = || instance.call("allocations", "").ok().parse::<usize>().unwrap();
    instance.call("declines", "x").failed(PASS);
    let (before, between) = (allocations(), allocations());
    for _ in 0..100 {
        instance.call("declines", "x").failed(PASS);
    }
    // `allocations` itself has a few.
    assert_eq!(allocations() - between, between - before);
}

const WANTS: [&str; 2] = ["again", "city"];

fn answers() -> Host {
    Host::default().import("needed", |_, input| (OK, [b"needed ", input].concat()))
}

#[test]
fn optional_imports() {
    let library = Library::fixture("wants", &["needed"]).bind_wants(&WANTS);
    assert_eq!(
        pairs(&library.text("ferrule_meta_want_city"))[3..],
        [("why", "to show the city"), ("from", "geo"), ("version", ">=2")]
    );
    assert!(!library.has("ferrule_want_configured_out") && !library.has("ferrule_import_city"));

    let offered = Instance::new(&library, answers().import("city", |_, _| (OK, b"Ulm".to_vec())));
    let not_offered = Instance::new(&library, answers());
    assert_eq!(offered.call("greet", "::1").ok(), "Hello, Ulm!");
    assert_eq!(not_offered.call("greet", "::1").ok(), "Hello, needed ::1!");
    assert_eq!(offered.call("straight", "::1").ok(), "Ulm");
    assert!(not_offered.call("straight", "::1").failed(UNSUPPORTED).contains("does not offer `city`"));
    let again = Instance::new(&library, answers().import("again", |_, input| (OK, [input, b" again"].concat())));
    assert_eq!(again.call("both", "x").ok(), "needed x again", "the ordinals are behind those of the imports");
    let fails = Instance::new(&library, answers().import("city", |_, _| (UNSUPPORTED, b"no such address".to_vec())));
    assert_eq!(fails.call("straight", "::1").failed(UNSUPPORTED), "no such address");
}

/// In a process of its own, as a slot is the library's: a host of version 1.0 does not know it, and leaves it alone.
#[test]
fn optional_imports_in_an_older_host() {
    const ALONE: &str = "FERRULE_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let test = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "optional_imports_in_an_older_host"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        assert!(test.status.success(), "{}", String::from_utf8_lossy(&test.stdout));
        assert!(String::from_utf8_lossy(&test.stdout).contains("1 passed"));
        return;
    }
    let library = Library::fixture("wants", &["needed"]);
    let host = Host { old: true, ..answers() };
    let instance = Instance::new(&library, host);
    assert_eq!(instance.call("greet", "::1").ok(), "Hello, needed ::1!");
    assert!(instance.call("straight", "::1").failed(UNSUPPORTED).contains("the host is older than optional imports"));
}

#[test]
fn streams() {
    let library = Library::fixture("streams", &[]);
    let instance = Instance::new(&library, streaming(&["one\ntw", "o\n", "three"], OK, 100));
    assert_eq!(instance.call("count", "").ok(), "13 2");
    let instance = Instance::new(&library, streaming(&[], OK, 1000));
    assert_eq!(instance.call("produce", "100").ok(), "");
    assert_eq!(written(&instance), (0..100).map(|n| format!("{n}\n")).collect::<String>());
    for symbol in ["ferrule_fn_shout", "ferrule_hook_shout"] {
        let instance = Instance::new(&library, streaming(&["one\ntw", "o\n", "three"], OK, 100));
        assert_eq!(instance.call_symbol(symbol, b"> ", 64).ok(), "3", "{symbol}");
        assert_eq!(written(&instance), "> ONE\n> TWO\n> THREE\n");
    }
    let instance = Instance::new(&library, streaming(&["a", "b", "c"], OK, 100));
    assert_eq!(instance.call("threads", "").ok(), "abc");
    let written = written(&instance);
    let mut lines: Vec<&str> = written.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0", "1", "2", "3"]);
}

#[test]
fn pieces_are_read_in_place() {
    let library = Library::fixture("streams", &[]);
    let host = streaming(&["piece"], OK, 0);
    let address = match &*host.input.lock().unwrap() {
        Some((pieces, _)) => format!("{:p}", &pieces[0][..]),
        None => unreachable!(),
    };
    let instance = Instance::new(&library, host);
    // `{:p}` of a slice says its length as well with some compilers.
    assert!(instance.call("address", "").ok().contains(&address[..]));
}

#[test]
fn streams_that_fail() {
    let library = Library::fixture("streams", &[]);
    let instance = Instance::new(&library, streaming(&["one\n"], FAILED, 100));
    assert_eq!(instance.call("count", "").failed(FAILED), "the input stream broke off");
    let instance = Instance::new(&library, streaming(&["one\n"; 9], OK, 20));
    assert_eq!(instance.call("shout", "").failed(FAILED), "nobody takes more of the output stream");
    let instance = Instance::new(&library, streaming(&["one\n"], OK, 20));
    instance.host.cancel.store(1, Ordering::Relaxed);
    assert_eq!(instance.call("count", "").failed(CANCELLED), "cancelled");
    assert_eq!(instance.call("produce", "1").failed(CANCELLED), "cancelled");
    // It stops reading half way, in each way there is.
    for (how, status, text) in [("panic", PANIC, "half way"), ("error", 1001, "half way"), ("", OK, "half way")] {
        let instance = Instance::new(&library, streaming(&["one", "two"], OK, 100));
        let outcome = instance.call("half", how);
        assert!(outcome.failed(status).ends_with(text), "{outcome:?}");
        assert_eq!(written(&instance), "one");
    }
    let instance = Instance::new(&library, streaming(&["on"], OK, 100));
    assert_eq!(instance.call("half", "").failed(FAILED), "failed to fill whole buffer");
}

#[test]
fn calls_without_a_stream() {
    let library = Library::fixture("streams", &[]);
    for (host, message) in [(Host::default(), "the call has no "), (Host::old(), "the host is older than streams")] {
        let instance = Instance::new(&library, host);
        for (function, input) in [("count", ""), ("produce", "1"), ("shout", ">"), ("half", "")] {
            let outcome = instance.call(function, input);
            assert!(outcome.failed(UNSUPPORTED).starts_with(message), "{function}: {outcome:?}");
        }
        assert_eq!(instance.call("produce", "0").ok(), "", "who writes nothing needs no stream");
        let (status, outcomes) = instance.batch("count", &["", ""], 100);
        assert_eq!((status, outcomes.len()), (OK, 2));
        assert!(outcomes.iter().all(|outcome| outcome.status == UNSUPPORTED));
    }
}

#[test]
fn a_result_in_the_hosts_room() {
    let library = Library::fixture("room", &[]);
    let table = |count: u32| (0..count).map(|n| format!("{n}\n")).collect::<String>();
    for room in [0, 1, 5, 20_000] {
        let instance = Instance::new(&library, Host::default());
        let outcome = instance.call_with("room_table", b"3000", room);
        assert_eq!(outcome.ok(), table(3000));
        assert!(!outcome.handed_over, "it is in the host's room");
        let rooms = instance.host.rooms.load(Ordering::Relaxed);
        assert_eq!(rooms > 0, room < 20_000, "{rooms} rooms");
        assert!(rooms <= 4, "{rooms} rooms: it grows by more than it has to");
        let outcome = instance.call_with("room_slice", b"1001", room);
        assert_eq!((outcome.ok(), outcome.handed_over), (&*"x".repeat(1001), false));
        let outcome = instance.call_with("room_thread", b"", room);
        assert_eq!((outcome.ok(), outcome.handed_over), (&*"z".repeat(500), false));
    }
    // With less room than it takes, or in an older host, the rest is in memory of the plug-in's.
    for host in [Host::old(), Host { most_room: Some(100), ..Host::default() }] {
        let instance = Instance::new(&library, host);
        for room in [0, 10, 99] {
            let outcome = instance.call_with("room_table", b"3000", room);
            assert_eq!((outcome.ok(), outcome.handed_over), (&*table(3000), true), "room for {room}");
            let outcome = instance.call_with("room_slice", b"1001", room);
            assert_eq!((outcome.ok(), outcome.handed_over), (&*"x".repeat(1001), true), "room for {room}");
        }
        assert!(!instance.call_with("room_table", b"3", 6).handed_over);
    }
}

#[test]
fn a_room_is_dropped_with_its_call() {
    let library = Library::fixture("room", &[]);
    for host in [Host::default(), Host::old()] {
        let instance = Instance::new(&library, host);
        for room in [0, 100, 2000] {
            assert_eq!(instance.call_with("room_dropped", b"", room).ok(), "y".repeat(1000));
            assert_eq!(instance.call_with("room_dropped", b"fail", room).failed(FAILED), "no");
            assert_eq!(instance.call_with("room_dropped", b"pass", room).failed(PASS), "");
            assert!(instance.call_with("room_dropped", b"panic", room).failed(PANIC).ends_with(": no"));
            assert_eq!(instance.call_with("room_reserved", b"", room).ok(), "");
            assert_eq!(instance.call_with("room_unused", b"", room).ok(), "");
        }
    }
}

#[test]
fn rooms_in_a_batch() {
    let library = Library::fixture("room", &[]);
    for host in [Host::default(), Host::old()] {
        let instance = Instance::new(&library, host);
        // The first and the last fit into what they share; the one between has a room of its own, or memory.
        let (status, outcomes) = instance.batch("room_table", &["3", "100", "4"], 20);
        assert_eq!(status, OK);
        let texts: Vec<usize> = outcomes.iter().map(|outcome| outcome.ok().lines().count()).collect();
        assert_eq!(texts, [3, 100, 4]);
        assert_eq!(outcomes[1].handed_over, instance.host.old);
    }
}

#[test]
fn what_a_call_knows() {
    let library = Library::fixture("words", &[]);
    let mut host = Host::default();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let long = Box::leak("x".repeat(5000).into_boxed_str());
    host.info.extend([
        ("path", "/plug-ins"),
        ("data", "/data"),
        ("remaining", "1500000000"),
        ("traceparent", trace),
        ("instance", "3"),
        ("shop.currency", "EUR"),
        ("shop.long", long),
    ]);
    let instance = Instance::new(&library, host);
    let all = instance.call_with("info", b"all", 512);
    assert_eq!(all.ok(), format!("Some(\"/plug-ins\") Some(\"/data\") Some(1.5s) Some({trace:?}) Some(3)"));
    assert_eq!(instance.call("info", "shop.currency").ok(), "Some(\"EUR\")");
    assert_eq!(instance.call_with("info", b"shop.long", 9000).ok(), format!("Some({long:?})"));
    assert_eq!(instance.host.more.load(Ordering::Relaxed), 1, "the long one was fetched");
    for key in ["unknown", "", &"k".repeat(257)] {
        assert_eq!(instance.call("info", key).ok(), "None", "{key:?}");
    }
    let old = Instance::new(&library, Host::old());
    assert_eq!(old.call("info", "all").ok(), "None None None None None");
}

#[test]
fn progress() {
    let library = Library::fixture("words", &[]);
    let instance = Instance::new(&library, Host::default());
    assert_eq!(instance.call("progress", "").ok(), "");
    let words = [0, 1].map(|at: usize| instance.host.progress[at].load(Ordering::Relaxed));
    assert_eq!(words, [100, 100]);
    let old = Instance::new(&library, Host::old());
    assert_eq!(old.call("progress", "").ok(), "");
    assert_eq!(old.host.progress[0].load(Ordering::Relaxed), 0);
}

#[test]
fn fields_of_log_lines() {
    let library = Library::fixture("words", &[]);
    let instance = Instance::new(&library, Host::default());
    instance.call("fields", "").ok();
    let lines = [(LOG_INFO, "resized {width=7} {name=a b}"), (LOG_WARN, "by the macro {height=8}")];
    assert_eq!(instance.host.take_log(), lines.map(|(level, line)| (level, line.to_string())));
    let old = Instance::new(&library, Host::old());
    old.call("fields", "").ok();
    let lines = [(LOG_INFO, "resized width=7 name=a b"), (LOG_WARN, "by the macro height=8")];
    assert_eq!(old.host.take_log(), lines.map(|(level, line)| (level, line.to_string())));
}

#[test]
fn wrappers() {
    let library = Library::fixture("words", &[]);
    let call = |host: Host, path: &str| {
        let instance = Instance::new(&library, host);
        instance.call_symbol("ferrule_hook_page", path.as_bytes(), 4096)
    };
    let behind = || Host {
        next: Some(Box::new(|_, input| match input {
            b"/gone" => (1404, b"gone".to_vec()),
            b"/pass" => (PASS, Vec::new()),
            b"/panic" => (PANIC, b"panicked".to_vec()),
            input => (OK, [b"page ", input].concat().repeat(100)),
        })),
        ..Host::default()
    };
    assert_eq!(call(behind(), "/one").ok(), "page /one".repeat(100));
    assert_eq!(call(behind(), "/twice").ok().len(), 2 * "page /one".repeat(100).len());
    assert_eq!(call(behind(), "/health").ok(), "fine");
    assert_eq!(call(behind(), "/gone").failed(1404), "gone");
    assert_eq!(call(behind(), "/pass").failed(PASS), "");
    assert_eq!(call(behind(), "/panic").failed(FAILED), "panicked", "it poisons itself only");
    assert!(call(Host::default(), "/one").failed(UNSUPPORTED).starts_with("nothing stands behind"));
    assert!(call(Host::old(), "/one").failed(UNSUPPORTED).starts_with("the host is older than wrappers"));
    assert_eq!(call(Host::old(), "/health").ok(), "fine");
}

/// A host that answers `push`, and the events that it got.
fn pushed() -> (Host, Arc<Mutex<Vec<String>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&events);
    let mut host = Host::default().import("push", move |_, event| {
        let event = String::from_utf8(event.to_vec()).unwrap();
        noted.lock().unwrap().push(event.clone());
        match event.as_str() {
            "refuse" => (INVALID, b"refused".to_vec()),
            _ => (OK, b"noted".to_vec()),
        }
    });
    host.info.insert("path", "/plug-ins");
    (host, events)
}

fn texts(lines: Vec<(u32, String)>) -> Vec<String> {
    lines.into_iter().map(|(_, line)| line).collect()
}

#[test]
fn between_calls() {
    let library = Library::fixture("between", &["push"]);
    let (host, events) = pushed();
    let mut instance = Instance::started(&library, host, "");
    for event in ["one", "refuse", "two"] {
        assert_eq!(instance.call("event", event).ok(), "");
    }
    while events.lock().unwrap().len() < 3 {
        std::thread::yield_now();
    }
    assert_eq!(*events.lock().unwrap(), ["one", "refuse", "two"], "while no call runs");
    assert_eq!(instance.call("event", "late").ok(), "");
    assert!(instance.call("too_late", "").failed(UNSUPPORTED).contains("State::start"));
    assert_eq!(instance.stop().failed(OK), "");
    // Stop has joined both: what they say at their end is there. The watcher took everything that was sent.
    assert_eq!(events.lock().unwrap().len(), 4);
    let lines = texts(instance.host.take_log());
    for line in [
        "noted {event=one}",
        "refused (invalid input)",
        "noted {event=late}",
        "stops, cancelled: true",
        "the watcher ends, cancelled: true",
        "the clock ends {path=/plug-ins}",
    ] {
        assert!(lines.contains(&line.to_string()), "no {line:?} in {lines:?}");
    }
}

#[test]
fn a_start_that_fails_joins_its_threads() {
    let library = Library::fixture("between", &["push"]);
    for (config, status) in [("fail", INVALID), ("panic", PANIC)] {
        let (host, _) = pushed();
        let mut instance = Instance::new(&library, host);
        assert!(instance.start(config).failed(status).ends_with("as told"));
        let mut lines = texts(instance.host.take_log());
        lines.sort_unstable();
        assert_eq!((lines.len(), lines[0].as_str()), (2, "the clock ends {path=/plug-ins}"), "{config}: {lines:?}");
        // What start has made is dropped before the host is cancelled.
        assert!(lines[1].starts_with("the watcher ends, cancelled: "), "{config}: {lines:?}");
    }
}

#[test]
fn a_poisoned_instance_joins_its_threads() {
    let library = Library::fixture("between", &["push"]);
    let (host, _) = pushed();
    let mut instance = Instance::started(&library, host, "");
    assert_eq!(instance.call("panic_there", "").ok(), "");
    instance.call("panics", "").failed(PANIC);
    assert_eq!(instance.stop().failed(OK), "");
    let lines = texts(instance.host.take_log());
    assert!(lines.contains(&"the watcher ends, cancelled: true".to_string()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("stops")), "{lines:?}");
    let panic = lines.iter().find(|line| line.ends_with(": far away"));
    assert!(panic.map_or(false, |line| line.starts_with("on a thread of the plug-in: panicked at ")), "{lines:?}");
}

#[test]
fn instances_have_a_time_between_calls_of_their_own() {
    let library = Library::fixture("between", &["push"]);
    let mut instances: Vec<_> = (0..4)
        .map(|_| {
            let (host, events) = pushed();
            (Instance::started(&library, host, ""), events)
        })
        .collect();
    std::thread::scope(|scope| {
        for (number, (instance, _)) in instances.iter_mut().enumerate() {
            scope.spawn(move || {
                for event in 0..50 {
                    instance.call("event", &format!("{number} {event}")).ok();
                }
                assert_eq!(instance.stop().failed(OK), "");
            });
        }
    });
    for (number, (_, events)) in instances.iter().enumerate() {
        let want: Vec<String> = (0..50).map(|event| format!("{number} {event}")).collect();
        assert_eq!(*events.lock().unwrap(), want);
    }
}

#[test]
fn an_older_host_has_nothing_between_calls() {
    let library = Library::fixture("between", &["push"]);
    let mut instance = Instance::new(&library, Host::old());
    assert!(instance.start("").failed(UNSUPPORTED).starts_with("the host is older than what a plug-in does between"));
}

#[test]
fn new_settings() {
    let library = Library::fixture("handover", &[]);
    for host in [Host::default(), Host::old()] {
        let instance = Instance::started(&library, host, "1");
        assert_eq!(instance.call("next", "").ok(), "1");
        assert_eq!(instance.call_symbol("ferrule_configure", b"10", 64).ok(), "");
        assert_eq!(instance.call("next", "").ok(), "11");
        let outcome = instance.call_symbol("ferrule_configure", b"0", 64);
        assert_eq!(outcome.failed(INVALID), "found a step of 0, expected more");
        assert!(instance.call_symbol("ferrule_configure", b"\xff", 64).failed(INVALID).contains("UTF-8"));
        assert_eq!(instance.call("next", "").ok(), "21", "the instance goes on as it was");
    }
}

#[test]
fn handing_over() {
    let library = Library::fixture("handover", &[]);
    let old = Instance::started(&library, Host::default(), "7");
    old.call("next", "").ok();
    let saved = old.call_symbol("ferrule_save", b"", 0);
    assert_eq!(saved.ok(), "7");
    assert_eq!(old.call("next", "").ok(), "14", "the instance goes on");
    let new = Instance::started(&library, Host::default(), "1");
    assert_eq!(new.call_symbol("ferrule_resume", saved.ok().as_bytes(), 64).ok(), "");
    assert_eq!(new.call("next", "").ok(), "8");
    assert_eq!(new.host.take_log(), [(LOG_INFO, "resumes at 7".to_string())]);
    new.call_symbol("ferrule_resume", b"x", 64).failed(FAILED);
    assert_eq!(new.call("next", "").ok(), "9");
    new.call_symbol("ferrule_resume", b"panic", 512).failed(PANIC);
    assert!(new.call("next", "").failed(PANIC).contains("poisoned"));
}
