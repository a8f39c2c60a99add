//! A state that does not say how it starts.

ferrule::plugin!(name: "fails", version: "1.0.0", state: Counter);

struct Counter;

fn main() {}
