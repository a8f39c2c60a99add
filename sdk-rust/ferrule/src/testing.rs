//! A host for the plug-in's own tests, which run its functions as the ordinary Rust functions that they are.

use crate::data::read_config;
use crate::host::{Field, Gate, Services, StandIn};
use crate::{Context, Error, Level, Reader, Result, Room, State, Writer};
use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Answer = Arc<dyn Fn(&[u8]) -> Result<Vec<u8>> + Send + Sync>;

/// A host that answers imports, keeps the log, and cancels when it is told to. Clones are the same host.
///
/// ```
/// use ferrule::testing::Host;
/// # mod plugin {
/// #     #[ferrule::import]
/// #     fn loyalty_points(customer: &str) -> ferrule::Result<String>;
/// #     pub fn greeting(customer: &str) -> ferrule::Result<String> {
/// #         Ok(format!("{customer} has {} points", loyalty_points(customer)?))
/// #     }
/// # }
/// # use plugin::greeting;
///
/// let host = Host::new().import("loyalty_points", |customer| match customer {
///     b"ada" => Ok(b"7".to_vec()),
///     _ => Err(ferrule::Error::invalid("no such customer")),
/// });
/// assert_eq!(host.run(|_ctx| greeting("ada")).unwrap(), "ada has 7 points");
/// assert_eq!(host.run(|_ctx| greeting("bob")).unwrap_err().message(), "no such customer");
/// ```
#[derive(Clone, Default)]
pub struct Host {
    imports: HashMap<String, Answer>,
    next: Option<Answer>,
    info: HashMap<String, String>,
    shared: Arc<Mutex<Shared>>,
    cancelled: Arc<AtomicBool>,
}

/// What the clones of a host have in common.
#[derive(Default)]
struct Shared {
    lines: Vec<(Level, String)>,
    fields: Vec<Vec<Field>>,
    progress: Option<(u64, u64)>,
    input: Option<Box<dyn Read + Send>>,
    output: Option<Vec<u8>>,
    output_limit: Option<usize>,
    gate: Option<Arc<Gate>>,
}

impl Host {
    /// A host without imports.
    pub fn new() -> Host {
        Host::default()
    }

    /// Adds a host function. An optional import is offered when it is added.
    pub fn import(mut self, name: &str, answer: impl Fn(&[u8]) -> Result<Vec<u8>> + Send + Sync + 'static) -> Host {
        self.imports.insert(name.to_string(), Arc::new(answer));
        self
    }

    /// Sets what [`Context::info`] and its like answer: `path`, `remaining` in nanoseconds, `shop.currency` …
    pub fn info(mut self, key: &str, answer: impl fmt::Display) -> Host {
        self.info.insert(key.to_string(), answer.to_string());
        self
    }

    /// Sets what stands behind a wrapper: what [`Context::next`] runs.
    pub fn next(mut self, answer: impl Fn(&[u8]) -> Result<Vec<u8>> + Send + Sync + 'static) -> Host {
        self.next = Some(Arc::new(answer));
        self
    }

    /// From now on the calls of this host are cancelled.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Runs `call` as the host's call: its imports and its log lines come here. Panics pass through.
    pub fn run<R>(&self, call: impl FnOnce(&Context) -> R) -> R {
        self.run_in(Context::new(self.services()), call)
    }

    /// Runs `call` with streams: `input` is read piece by piece, and what was written is the second part of the answer. An
    /// error of `input` reaches the function as FAILED.
    ///
    /// ```
    /// # use ferrule::{Reader, Writer};
    /// # fn copy(input: &mut Reader, output: &mut Writer) -> ferrule::Result<String> {
    /// #     Ok(std::io::copy(input, output)?.to_string())
    /// # }
    /// let host = ferrule::testing::Host::new();
    /// let (copied, output) = host.run_streaming(&b"some text"[..], |_ctx, input, output| copy(input, output));
    /// assert_eq!((copied.unwrap().as_str(), &output[..]), ("9", &b"some text"[..]));
    /// ```
    pub fn run_streaming<R>(
        &self,
        input: impl Read + Send + 'static,
        call: impl FnOnce(&Context, &mut Reader<'_>, &mut Writer<'_>) -> R,
    ) -> (R, Vec<u8>) {
        {
            let mut shared = self.shared();
            shared.input = Some(Box::new(input));
            shared.output = Some(Vec::new());
        }
        let result = self.run(|ctx| {
            let mut reader = Reader::for_test(ctx.services());
            call(ctx, &mut reader, &mut Writer::new(ctx.services()))
        });
        let mut shared = self.shared();
        shared.input = None;
        (result, shared.output.take().unwrap_or_default())
    }

    /// From now on nobody takes more than `limit` bytes of an output stream: a write beyond fails.
    pub fn limit_output(&self, limit: usize) {
        self.shared().output_limit = Some(limit);
    }

    /// Runs `call` with a room for its result; what was written to it is the second part of the answer.
    pub fn run_with_room<R>(&self, call: impl FnOnce(&Context, &mut Room<'_>) -> R) -> (R, Vec<u8>) {
        let mut room = Room::for_test();
        let result = self.run(|ctx| call(ctx, &mut room));
        (result, room.into_vec())
    }

    /// Makes a state of the configuration's bytes, as the host does: here [`Context::background`] works. End it with
    /// [`stop`](Host::stop).
    pub fn start<S: State>(&self, config: &[u8]) -> Result<S> {
        self.shared().gate = None;
        let started = self.run_in(Context::of_start(self.services()), |ctx| S::start(ctx, read_config(config)?));
        if started.is_err() {
            self.close();
        }
        started
    }

    /// Takes a state down as the host does: what [`Context::background`] gave is cancelled first, and its threads have
    /// come to their end when this returns.
    pub fn stop<S: State>(&self, state: S) -> Result<()> {
        if let Some(gate) = &self.shared().gate {
            gate.end();
        }
        let stopped = self.run(|ctx| state.stop(ctx));
        self.close();
        stopped
    }

    /// The log lines so far, without their fields.
    pub fn lines(&self) -> Vec<(Level, String)> {
        self.shared().lines.clone()
    }

    /// The fields of each log line so far.
    pub fn fields(&self) -> Vec<Vec<(String, String)>> {
        self.shared().fields.clone()
    }

    /// What [`Context::progress`] was called with last: how much is done, and of how much.
    pub fn progress(&self) -> Option<(u64, u64)> {
        self.shared().progress
    }

    fn run_in<R>(&self, context: Context, call: impl FnOnce(&Context) -> R) -> R {
        #[cfg(feature = "log")]
        crate::logger::install();
        context.scope(|| call(&context))
    }

    fn services(&self) -> Services {
        Services::Testing(Box::new(self.clone()))
    }

    fn close(&self) {
        // Not locked meanwhile: the threads log.
        let gate = self.shared().gate.take();
        if let Some(gate) = gate {
            gate.close();
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StandIn for Host {
    fn log(&self, level: Level, line: &str, fields: &[Field]) {
        let mut shared = self.shared();
        shared.lines.push((level, line.to_string()));
        shared.fields.push(fields.to_vec());
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    fn answer(&self, name: &str, input: &[u8]) -> Option<Result<Vec<u8>>> {
        self.imports.get(name).map(|answer| answer(input))
    }

    fn info(&self, key: &str) -> Option<String> {
        match key.strip_prefix("offers.") {
            Some(name) => Some(if self.imports.contains_key(name) { "yes" } else { "no" }.to_string()),
            None => self.info.get(key).cloned(),
        }
    }

    fn progress(&self, done: u64, total: u64) {
        self.shared().progress = Some((done, total));
    }

    fn next(&self, input: &[u8]) -> Result<Vec<u8>> {
        match &self.next {
            Some(next) => next(input),
            None => Err(Error::unsupported("nothing stands behind in the test's host; add it with Host::next")),
        }
    }

    fn read(&self, piece: &mut Vec<u8>) -> Result<()> {
        if self.cancelled() {
            return Err(Error::cancelled());
        }
        // Taken out for as long as it reads, so that the reader may use the host.
        let input = self.shared().input.take();
        let mut input = input.ok_or_else(|| Error::unsupported("the call has no input stream (rule R24)"))?;
        piece.resize(4096, 0);
        let read = input.read(piece);
        piece.truncate(*read.as_ref().unwrap_or(&0));
        self.shared().input = Some(input);
        read.map(drop).map_err(|error| Error::failed(format_args!("the input stream broke off: {error}")))
    }

    fn write(&self, piece: &[u8]) -> Result<()> {
        if self.cancelled() {
            return Err(Error::cancelled());
        }
        let mut shared = self.shared();
        let limit = shared.output_limit.unwrap_or(usize::MAX);
        let output = shared.output.as_mut();
        let output = output.ok_or_else(|| Error::unsupported("the call has no output stream (rule R24)"))?;
        if output.len() + piece.len() > limit {
            return Err(Error::failed("nobody takes more of the output stream"));
        }
        output.extend_from_slice(piece);
        Ok(())
    }

    fn background(&self) -> Result<Arc<Gate>> {
        let gate = Arc::new(Gate::new(self.services()));
        self.shared().gate = Some(Arc::clone(&gate));
        Ok(gate)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("imports", &self.imports.keys())
            .field("lines", &self.lines())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{abi, Status};
    use std::io::{self, BufRead, Write};
    use std::sync::atomic::AtomicU32;

    #[test]
    fn log_and_cancellation() {
        let host = Host::new();
        host.run(|ctx| {
            assert!(ctx.check_cancelled().is_ok());
            ctx.log(Level::Warn, "line\n");
            host.cancel();
            assert_eq!(ctx.check_cancelled().unwrap_err().status(), Status::CANCELLED);
        });
        assert_eq!(host.lines(), [(Level::Warn, "line".to_string())]);
    }

    #[test]
    fn imports_are_answered_by_name() {
        let host = Host::new().import("double", |input| Ok([input, input].concat()));
        assert_eq!(host.answer("double", b"ab"), Some(Ok(b"abab".to_vec())));
        assert_eq!(host.answer("triple", b"ab"), None);
        let slot = AtomicU32::new(abi::UNBOUND);
        let error = host.services().import(&slot, "triple", false, b"ab").unwrap_err();
        assert_eq!(error.status(), Status::FAILED);
        assert!(error.message().contains("no import `triple`; add it with Host::import"), "{error}");
        let error = host.services().import(&slot, "triple", true, b"ab").unwrap_err();
        assert_eq!(error.status(), Status::UNSUPPORTED);
        // A second one of the name takes the first one's place.
        assert_eq!(host.import("double", |_| Ok(Vec::new())).answer("double", b"ab"), Some(Ok(Vec::new())));
    }

    #[test]
    fn a_clone_is_the_same_host() {
        let host = Host::new();
        let clone = host.clone();
        clone.run(|ctx| ctx.log(Level::Info, "line"));
        clone.cancel();
        assert!(host.run(|ctx| ctx.cancelled()));
        assert_eq!(format!("{host:?}"), "Host { imports: [], lines: [(Info, \"line\")], .. }");
    }

    #[test]
    fn a_panic_passes_through() {
        let run = || Host::new().run(|_| -> u8 { std::panic::resume_unwind(Box::new("out")) });
        let payload = std::panic::catch_unwind(run).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"out"));
    }

    #[test]
    fn keys_offers_progress_and_fields() {
        let host = Host::new().import("double", |_| Ok(Vec::new())).info("path", "/plug-ins").info("remaining", 1_500);
        host.run(|ctx| {
            assert_eq!(ctx.path(), Some("/plug-ins".into()));
            assert_eq!(ctx.remaining(), Some(std::time::Duration::from_nanos(1_500)));
            assert_eq!((ctx.data(), ctx.traceparent(), ctx.instance()), (None, None, None));
            assert_eq!((ctx.offers("double"), ctx.offers("triple")), (true, false));
            ctx.progress(1, 2);
            ctx.log_with(Level::Info, "resized", &[("width", &7), ("height", &8)]);
        });
        assert_eq!(host.progress(), Some((1, 2)));
        assert_eq!(host.lines(), [(Level::Info, "resized".to_string())]);
        let field = |key: &str, value: &str| (key.to_string(), value.to_string());
        assert_eq!(host.fields(), [[field("width", "7"), field("height", "8")]]);
    }

    #[test]
    fn what_stands_behind_a_wrapper() {
        let error = Host::new().run(|ctx| ctx.next("x")).unwrap_err();
        assert_eq!(error.status(), Status::UNSUPPORTED);
        let host = Host::new().next(|input| match input {
            b"x" => Ok(b"y".to_vec()),
            _ => Err(Error::pass()),
        });
        assert_eq!(host.run(|ctx| ctx.next("x")), Ok(b"y".to_vec()));
        assert_eq!(host.run(|ctx| ctx.next("z")).unwrap_err().status(), Status::PASS);
    }

    /// Reads lines, and writes each with its number.
    fn number(input: &mut Reader<'_>, output: &mut Writer<'_>) -> Result<usize> {
        let mut count = 0;
        for line in input.lines() {
            count += 1;
            writeln!(output, "{count} {}", line?)?;
        }
        Ok(count)
    }

    #[test]
    fn streams() {
        let host = Host::new();
        let text = "line\n".repeat(10_000);
        let (count, output) = host.run_streaming(io::Cursor::new(text), |_, input, output| number(input, output));
        assert_eq!(count, Ok(10_000));
        assert!(output.starts_with(b"1 line\n2 line\n") && output.ends_with(b"\n10000 line\n"));
        // Without them, as in a batch.
        host.run(|ctx| {
            let error = number(&mut Reader::for_test(ctx.services()), &mut Writer::new(ctx.services())).unwrap_err();
            assert_eq!(error.status(), Status::UNSUPPORTED);
        });
    }

    #[test]
    fn streams_that_fail() {
        struct Broken;
        impl io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::new(io::ErrorKind::Other, "pulled out"))
            }
        }
        let host = Host::new();
        let (failed, _) = host.run_streaming(Broken, |_, input, output| number(input, output));
        assert_eq!(failed, Err(Error::failed("the input stream broke off: pulled out")));
        host.limit_output(10);
        let (failed, output) = host.run_streaming(&b"a\nb\nc\nd\n"[..], |_, input, output| number(input, output));
        assert_eq!(failed, Err(Error::failed("nobody takes more of the output stream")));
        assert_eq!(output.len(), 10);
        host.cancel();
        let (failed, _) = host.run_streaming(&b"a\n"[..], |_, input, output| number(input, output));
        assert_eq!(failed.unwrap_err().status(), Status::CANCELLED);
    }

    #[test]
    fn a_room_for_the_result() {
        let (result, room) = Host::new().run_with_room(|_, room| {
            write!(room, "{:04}", 7)?;
            room.reserve(100)?;
            room.grow(2)?[0] = b'x';
            assert_eq!((room.len(), room.is_empty()), (6, false));
            Ok::<(), Error>(())
        });
        assert_eq!((result, &room[..]), (Ok(()), &b"0007x\0"[..]));
    }

    mod between_calls {
        use super::*;
        use crate::Background;
        use std::sync::mpsc::{channel, Sender};

        /// A state whose thread logs what it is sent, until the state is dropped.
        struct Echo {
            sender: Sender<&'static str>,
            background: Background,
        }

        impl State for Echo {
            type Config = String;

            fn start(ctx: &Context, config: String) -> Result<Echo> {
                let background = ctx.background()?;
                let (sender, receiver) = channel();
                background.spawn(move |host| {
                    for text in receiver {
                        host.log(Level::Info, text);
                    }
                    host.log(Level::Info, format_args!("ends, cancelled: {}", host.cancelled()));
                })?;
                match &*config {
                    "fail" => Err(Error::invalid("as told")),
                    _ => Ok(Echo { sender, background }),
                }
            }

            fn stop(self, ctx: &Context) -> Result<()> {
                ctx.log(Level::Info, "stops");
                Ok(())
            }
        }

        fn lines(host: &Host) -> Vec<String> {
            host.lines().into_iter().map(|(_, line)| line).collect()
        }

        #[test]
        fn stop_joins_after_the_state_is_dropped() {
            let host = Host::new().info("path", "/plug-ins");
            let echo: Echo = host.start(b"").unwrap();
            echo.sender.send("one").unwrap();
            let background = echo.background.clone();
            assert!(!background.cancelled());
            assert_eq!(background.info("path").as_deref(), Some("/plug-ins"));
            host.stop(echo).unwrap();
            let lines = lines(&host);
            assert!(lines.contains(&"one".to_string()) && lines.contains(&"stops".to_string()), "{lines:?}");
            assert_eq!(lines.last().unwrap(), "ends, cancelled: true");

            // What is left of it is harmless.
            assert!(background.cancelled() && background.sleep(std::time::Duration::from_secs(3600)));
            assert_eq!(background.info("path"), None);
            background.log(Level::Info, "lost");
            assert_eq!(host.lines().len(), lines.len());
            assert_eq!(background.spawn(|_| ()).unwrap_err().status(), Status::CANCELLED);
        }

        #[test]
        fn a_start_that_fails_joins_as_well() {
            let host = Host::new();
            assert_eq!(host.start::<Echo>(b"fail").err(), Some(Error::invalid("as told")));
            let error = host.start::<Echo>(b"\xff").err().unwrap();
            assert!(error.message().starts_with("in the configuration: found bytes that are not text"), "{error}");
            // What start has made is dropped before the host is cancelled.
            let lines = lines(&host);
            assert!(lines.len() == 1 && lines[0].starts_with("ends, cancelled: "), "{lines:?}");
        }

        #[test]
        fn imports_work_on_its_threads_until_the_end() {
            static SLOT: AtomicU32 = AtomicU32::new(0);
            let double = || crate::current::import(&SLOT, "double", false, Ok(b"ab"[..].into()));
            struct Plain(Background);
            impl State for Plain {
                type Config = ();

                fn start(ctx: &Context, _: ()) -> Result<Plain> {
                    assert!(!ctx.offers("triple"));
                    let (one, two) = (ctx.background()?, ctx.background()?);
                    assert!(!one.cancelled() && !two.cancelled());
                    Ok(Plain(two))
                }
            }
            let host = Host::new().import("double", |input| Ok([input, input].concat()));
            let plain: Plain = host.start(b"").unwrap();
            let background = plain.0.clone();
            let (sender, receiver) = channel();
            plain.0.spawn(move |host| sender.send((double(), host.scope(double))).unwrap()).unwrap();
            assert_eq!(receiver.recv().unwrap(), (Ok(b"abab".to_vec()), Ok(b"abab".to_vec())));
            host.stop(plain).unwrap();
            assert_eq!(background.scope(double).unwrap_err().status(), Status::CANCELLED);
        }

        #[test]
        fn only_start_has_it() {
            let error = Host::new().run(|ctx| ctx.background().map(drop)).unwrap_err();
            assert_eq!(error.status(), Status::UNSUPPORTED);
            assert!(error.message().contains("State::start"), "{error}");
        }

        #[test]
        fn sleep_ends_with_the_instance() {
            struct Sleeper(std::sync::mpsc::Receiver<bool>);
            impl State for Sleeper {
                type Config = ();

                fn start(ctx: &Context, _: ()) -> Result<Sleeper> {
                    let (sender, receiver) = channel();
                    ctx.background()?.spawn(move |host| {
                        sender.send(host.sleep(std::time::Duration::from_millis(1))).unwrap();
                        assert!(host.sleep(std::time::Duration::from_secs(3600)));
                        host.log(Level::Info, "awake");
                    })?;
                    Ok(Sleeper(receiver))
                }
            }
            let host = Host::new();
            let sleeper: Sleeper = host.start(b"").unwrap();
            assert!(!sleeper.0.recv().unwrap());
            host.stop(sleeper).unwrap();
            assert_eq!(lines(&host), ["awake"]);
        }
    }
}
