//! Serial instances move between threads.

ferrule::plugin!(name: "fails", version: "1.0.0", state: Counter);

struct Counter(std::rc::Rc<u32>);

impl ferrule::State for Counter {
    type Config = ();

    fn start(_: &ferrule::Context, _: ()) -> ferrule::Result<Counter> {
        Ok(Counter(Default::default()))
    }
}

fn main() {}
