//! Concurrent calls share the state.

ferrule::plugin!(name: "fails", version: "1.0.0", threads: "concurrent", state: Counter);

struct Counter(std::cell::Cell<u32>);

impl ferrule::State for Counter {
    type Config = ();

    fn start(_: &ferrule::Context, _: ()) -> ferrule::Result<Counter> {
        Ok(Counter(Default::default()))
    }
}

#[ferrule::export]
fn changes(_: &mut Counter) {}

fn main() {}
