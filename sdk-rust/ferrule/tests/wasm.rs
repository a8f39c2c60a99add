//! The crate and the plug-ins of sdk-rust/fixtures compile for WebAssembly, with what the contract wants of a library in
//! the module. A target that the compiler does not have is skipped, and the test says so.

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use support::{assert_built, cargo, target_dir, workspace};

/// Has the compiler the standard library for a target?
fn has(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output().unwrap();
    asked.status.success() && Path::new(String::from_utf8(asked.stdout).unwrap().trim()).exists()
}

/// Says it past the capture of the tests' output.
fn say(skipped: &str) {
    std::io::stderr().write_all(format!("SKIPPED: {skipped}\n").as_bytes()).unwrap();
}

fn skip(target: &str) {
    let install = "rustup target add, or on Debian apt-get install libstd-rust-dev-wasm32";
    say(&format!("nothing was built for {target}: its standard library is missing: {install}"));
}

/// What of a module a host reads without running it.
#[derive(Default)]
struct Module {
    functions: Vec<String>,
    /// Where the exported data begin.
    data: BTreeMap<String, u32>,
    memory: Vec<(u32, Vec<u8>)>,
}

/// Reads what the module format has in one section.
struct Section<'a>(&'a [u8]);

impl<'a> Section<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    /// An integer in LEB128.
    fn number(&mut self) -> u32 {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let byte = self.byte();
            number |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return number;
            }
        }
        unreachable!()
    }

    fn bytes(&mut self) -> &'a [u8] {
        let len = self.number();
        self.take(len as usize)
    }

    fn name(&mut self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }

    /// `i32.const n end`. The addresses of data are below 2 GiB, so that the sign is no concern.
    fn constant(&mut self) -> u32 {
        assert_eq!(self.byte(), 0x41, "expected i32.const");
        let number = self.number();
        assert_eq!(self.byte(), 0x0b, "expected the end of a constant");
        number
    }
}

fn read(path: &Path) -> Module {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes[..8], *b"\0asm\x01\0\0\0");
    let (mut module, mut globals) = (Module::default(), Vec::new());
    let mut file = Section(&bytes[8..]);
    while !file.0.is_empty() {
        let kind = file.byte();
        let mut section = Section(file.bytes());
        // Custom sections have no count.
        let count = if kind == 0 { 0 } else { section.number() };
        for _ in 0..count {
            match kind {
                2 => {
                    let (from, name) = (section.name(), section.name());
                    // Functions of WASI's and of the host's alone, each with its type.
                    assert!(["wasi_snapshot_preview1", "ferrule"].contains(&from.as_str()), "imports {name} of {from}");
                    assert_eq!(section.byte(), 0, "imports {name}");
                    section.number();
                }
                6 => {
                    assert_eq!(section.byte(), 0x7f, "expected an i32");
                    section.byte();
                    globals.push(section.constant());
                }
                7 => {
                    let (name, kind, index) = (section.name(), section.byte(), section.number());
                    match kind {
                        0 => module.functions.push(name),
                        3 => drop(module.data.insert(name, globals[index as usize])),
                        _ => {}
                    }
                }
                11 => {
                    assert_eq!(section.number(), 0, "expected an active segment");
                    let at = section.constant();
                    module.memory.push((at, section.bytes().to_vec()));
                }
                _ => break,
            }
        }
    }
    module
}

impl Module {
    /// The bytes at an exported symbol, up to the end of its segment.
    fn bytes(&self, symbol: &str) -> &[u8] {
        let at = self.data[symbol];
        let within = |(start, bytes): &&(u32, Vec<u8>)| (*start..*start + bytes.len() as u32).contains(&at);
        let (start, bytes) = self.memory.iter().find(within).unwrap_or_else(|| panic!("{symbol} is in no segment"));
        &bytes[(at - start) as usize..]
    }
}

fn build(target: &str) {
    if !has(target) {
        return skip(target);
    }
    // As the host's profile, so that what is measured by one is by the other.
    assert_built(&cargo(workspace(), &["build", "--offline", "--workspace", "--target", target]));
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let module = |name: &str| read(&target_dir().join(target).join(profile).join(format!("fixture_{name}.wasm")));

    let words = module("words");
    for function in ["ferrule_fn_healthy", "ferrule_hook_page", "ferrule_batch", "ferrule_alloc", "ferrule_free"] {
        assert!(words.functions.iter().any(|name| name == function), "no {function} in {:?}", words.functions);
    }
    assert!(words.data.contains_key("ferrule_services") && words.data.contains_key("ferrule_panic"));
    // In the file as they are (R1).
    let manifest = b"ferrule=1\0name=words\0version=1.0.0\0threads=concurrent\0health=healthy\0requires=auth\ncache\0";
    assert!(words.bytes("ferrule_manifest").starts_with(manifest));
    assert!(words
        .bytes("ferrule_meta_hook_page")
        .starts_with(b"doc=Stands around the hooks behind it.\0in=text/plain"));

    let handover = module("handover");
    for function in
        ["ferrule_start", "ferrule_stop", "ferrule_configure", "ferrule_save", "ferrule_resume", "ferrule_fn_next"]
    {
        assert!(handover.functions.iter().any(|name| name == function), "no {function} in {:?}", handover.functions);
    }
    assert!(handover.bytes("ferrule_meta_config").starts_with(b"{\"type\": \"integer\", \"minimum\": 1}\n\0"));

    // A slot as the host finds it: FERRULE_UNBOUND.
    let wants = module("wants");
    for slot in ["ferrule_import_needed", "ferrule_want_city", "ferrule_want_again"] {
        assert!(wants.bytes(slot).starts_with(&[0xff; 4]), "{slot}");
    }
}

/// Runs one under the host of the C SDK's tests, which finds release in the module's table: that has to be exported.
#[test]
fn a_host_runs_it() {
    let target = "wasm32-unknown-unknown";
    if !has(target) {
        return skip(target);
    }
    if Command::new("node").arg("--version").output().is_err() {
        return say("the module in WebAssembly was not run: node is missing: apt-get install nodejs");
    }
    let folder = target_dir().join("wasm-run");
    let built = Command::new(env!("CARGO"))
        .current_dir(workspace())
        .args(["build", "--quiet", "--offline", "--release", "-p", "fixture-wasm", "--target", target, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", "-C link-arg=--export-table")
        .output()
        .unwrap();
    assert_built(&built);
    let repository = workspace().parent().unwrap();
    let run = Command::new("node")
        .arg(repository.join("sdk-c/tests/wasm.mjs"))
        .arg("noexceptions")
        .arg(folder.join(target).join("release/fixture_wasm.wasm"))
        .arg(repository.join("abi/layout.golden"))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(String::from_utf8_lossy(&run.stdout).starts_with("ok: "), "{run:?}");
}

#[test]
fn wasm32_unknown_unknown() {
    build("wasm32-unknown-unknown");
}

#[test]
fn wasm32_wasip1() {
    build("wasm32-wasip1");
}
