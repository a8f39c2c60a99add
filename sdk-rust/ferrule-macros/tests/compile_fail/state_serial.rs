//! Serial instances move between threads.

ferrule::plugin!(name: "fails", version: "1.0.0", state: Counter);

struct Counter(std::rc::Rc<u32>);

impl ferrule::State for Counter {
    fn start(_: &ferrule::Context, _: &[u8]) -> ferrule::Result<Counter> {
        Ok(Counter(Default::default()))
    }
}

fn main() {}
