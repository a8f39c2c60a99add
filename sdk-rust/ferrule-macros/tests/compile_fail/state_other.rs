//! A state that is not that of plugin!.

ferrule::plugin!(name: "fails", version: "1.0.0", state: Counter);

struct Counter;

impl ferrule::State for Counter {
    fn start(_: &ferrule::Context, _: &[u8]) -> ferrule::Result<Counter> {
        Ok(Counter)
    }
}

struct Other;

impl ferrule::State for Other {
    fn start(_: &ferrule::Context, _: &[u8]) -> ferrule::Result<Other> {
        Ok(Other)
    }
}

#[ferrule::export]
fn takes_other(_: &Other) {}

fn main() {}
