//! A state that plugin! does not name.

ferrule::plugin!(name: "fails", version: "1.0.0");

struct Counter;

impl ferrule::State for Counter {
    type Config = ();

    fn start(_: &ferrule::Context, _: ()) -> ferrule::Result<Counter> {
        Ok(Counter)
    }
}

#[ferrule::export]
fn takes_state(_: &Counter) {}

fn main() {}
