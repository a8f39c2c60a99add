//! A state that is not that of plugin!.

ferrule::plugin!(name: "fails", version: "1.0.0", state: Counter);

struct Counter;

impl ferrule::State for Counter {
    type Config = ();

    fn start(_: &ferrule::Context, _: ()) -> ferrule::Result<Counter> {
        Ok(Counter)
    }
}

struct Other;

impl ferrule::State for Other {
    type Config = ();

    fn start(_: &ferrule::Context, _: ()) -> ferrule::Result<Other> {
        Ok(Other)
    }
}

#[ferrule::export]
fn takes_other(_: &Other) {}

fn main() {}
