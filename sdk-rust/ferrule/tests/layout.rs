//! `ferrule::abi` against abi/layout.golden, the file that C and Go are held to as well.

use ferrule::abi::*;

/// What a golden line says: its words up to the numbers, and the numbers that hold for this machine's pointers.
type Line = (String, Vec<u64>);

fn size_of_field<S, F>(_: fn(&S) -> &F) -> u64 {
    std::mem::size_of::<F>() as u64
}

/// The lines that the golden must have, from the declarations in `ferrule::abi`.
fn declared() -> Vec<Line> {
    let mut lines = Vec::new();
    macro_rules! constants {
        ($($rust:ident = $name:literal)*) => { $(lines.push((format!("const {}", $name), vec![$rust as u64]));)* };
    }
    macro_rules! structs {
        ($($rust:ident = $name:literal { $($field:ident = $member:literal)* })*) => { $(
            lines.push((format!("struct {}", $name), vec![std::mem::size_of::<$rust>() as u64]));
            $(lines.push((
                format!("field {} {}", $name, $member),
                vec![std::mem::offset_of!($rust, $field) as u64, size_of_field(|s: &$rust| &s.$field)],
            ));)*
        )* };
    }
    constants! {
        ABI = "FERRULE_ABI" OK = "FERRULE_OK" FAILED = "FERRULE_FAILED" INVALID = "FERRULE_INVALID"
        UNSUPPORTED = "FERRULE_UNSUPPORTED" CANCELLED = "FERRULE_CANCELLED" PANIC = "FERRULE_PANIC"
        NO_MEMORY = "FERRULE_NO_MEMORY" MISUSE = "FERRULE_MISUSE" MORE = "FERRULE_MORE" PASS = "FERRULE_PASS"
        STATUS_OWN = "FERRULE_STATUS_OWN" LOG_ERROR = "FERRULE_LOG_ERROR" LOG_WARN = "FERRULE_LOG_WARN"
        LOG_INFO = "FERRULE_LOG_INFO" LOG_DEBUG = "FERRULE_LOG_DEBUG" LOG_TRACE = "FERRULE_LOG_TRACE"
        UNBOUND = "FERRULE_UNBOUND"
    }
    structs! {
        Call = "ferrule_call" {
            size = "size" state = "state" r#in = "in" in_len = "in_len" out = "out" out_len = "out_len"
            out_cap = "out_cap" release = "release" host = "host" cancel = "cancel"
            progress = "progress"
        }
        Request = "ferrule_request" {
            size = "size" r#in = "in" in_len = "in_len" out = "out" out_len = "out_len" out_cap = "out_cap"
            ordinal = "ordinal" kept = "kept"
        }
        Host = "ferrule_host" {
            size = "size" call = "call" log = "log" log_fields = "log_fields" info = "info" room = "room" read = "read"
            write = "write" next = "next" background = "background"
        }
        Frames = "ferrule_frames" {
            size = "size" r#fn = "fn" calls = "calls" stride = "stride" count = "count" statuses = "statuses"
            done = "done"
        }
    }
    lines
}

/// Reads one line of the golden; None for a comment.
fn parse(line: &str) -> Option<Result<Line, String>> {
    let line = line.split('#').next().unwrap().trim();
    if line.is_empty() {
        return None;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let (named, columns) = match words[0] {
        "const" => (2, 1),
        "struct" => (2, 2),
        "field" => (3, 4),
        _ => return Some(Err(format!("{line:?}: expected const, struct or field"))),
    };
    let numbers: Result<Vec<u64>, _> = words.iter().skip(named).map(|word| word.parse()).collect();
    Some(match numbers {
        Ok(numbers) if numbers.len() == columns => {
            let half = if columns == 1 { 0..1 } else { width(columns) };
            Ok((words[..named].join(" "), numbers[half].to_vec()))
        }
        _ => Err(format!("{line:?}: expected {columns} numbers behind the name")),
    })
}

/// The columns of this machine: the first half is for 64-bit pointers, the second for 32-bit ones.
fn width(columns: usize) -> std::ops::Range<usize> {
    if cfg!(target_pointer_width = "64") {
        0..columns / 2
    } else {
        columns / 2..columns
    }
}

/// Everything in which the golden and the declarations differ, in both directions.
fn differences(golden: &str) -> Vec<String> {
    let mut missing = declared();
    let mut found = Vec::new();
    for line in golden.lines().filter_map(parse) {
        match line {
            Err(wrong) => found.push(wrong),
            Ok((name, golden)) => match missing.iter().position(|(declared, _)| *declared == name) {
                None => found.push(format!("{name}: in layout.golden, not (or once only) in ferrule::abi")),
                Some(at) => {
                    let (_, declared) = missing.remove(at);
                    if declared != golden {
                        found.push(format!("{name}: layout.golden says {golden:?}, ferrule::abi has {declared:?}"));
                    }
                }
            },
        }
    }
    found.extend(missing.into_iter().map(|(name, _)| format!("{name}: in ferrule::abi, not in layout.golden")));
    found
}

fn golden() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../abi/layout.golden");
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn declarations_match_the_golden() {
    assert_eq!(differences(&golden()), Vec::<String>::new());
}

#[test]
fn every_change_of_the_golden_is_reported() {
    let golden = golden();
    let lines: Vec<&str> = golden.lines().collect();
    let with = |at: usize, line: &str| [&lines[..at], &[line], &lines[at + 1..]].concat().join("\n");
    let mut changed = 0;
    for (at, line) in lines.iter().enumerate() {
        let (name, numbers) = match parse(line) {
            None => continue,
            Some(parsed) => parsed.unwrap(),
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let first = name.split(' ').count();
        let columns = words.len() - first;
        for column in if columns == 1 { 0..1 } else { width(columns) } {
            let mut mutated: Vec<String> = words.iter().map(|word| word.to_string()).collect();
            let number: u64 = mutated[first + column].parse().unwrap();
            mutated[first + column] = (number + 1).to_string();
            let found = differences(&with(at, &mutated.join(" ")));
            assert!(found.len() == 1 && found[0].starts_with(&name), "{mutated:?} gave {found:?}");
            changed += 1;
        }
        assert_eq!(differences(&with(at, "")).len(), 1, "without {line:?}");
        assert_eq!(differences(&with(at, &format!("{line}\n{line}"))).len(), 1, "with {line:?} twice");
        assert_eq!(differences(&with(at, &line.replace(&name, &format!("{name}_new")))).len(), 2, "{line:?} renamed");
        assert!(!numbers.is_empty());
    }
    assert!(changed > declared().len(), "only {changed} numbers were changed");
}
