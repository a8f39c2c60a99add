//! A state that does not say what its configuration is.

use ferrule::{Context, State};

ferrule::plugin!(name: "fails", version: "1.0.0", state: Counter);

struct Counter;

impl State for Counter {
    fn start(_: &Context, _: ()) -> ferrule::Result<Counter> {
        Ok(Counter)
    }
}

fn main() {}
