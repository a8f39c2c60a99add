//! A configuration that does not say in which format it is written.

use ferrule::{Context, State};

ferrule::plugin!(name: "fails", version: "1.0.0", state: Counter);

struct Counter;

struct Settings;

impl State for Counter {
    type Config = Settings;

    fn start(_: &Context, _: Settings) -> ferrule::Result<Counter> {
        Ok(Counter)
    }
}

fn main() {}
