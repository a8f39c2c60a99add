//! Keys and values that the manifest cannot hold.

mod nameless {
    ferrule::plugin!(version: "1.0.0");
}
mod versionless {
    ferrule::plugin!(name: "a");
}
mod repeated {
    ferrule::plugin!(name: "a", version: "1", name: "b");
}
mod reserved {
    ferrule::plugin!(name: "a", version: "1", ferrule: "1");
}
mod bad_key {
    ferrule::plugin!(name: "a", version: "1", Homepage: "https://example.org");
}
mod bad_threads {
    ferrule::plugin!(name: "a", version: "1", threads: "parallel");
}
mod hidden_threads {
    const THREADS: &str = "serial";
    ferrule::plugin!(name: "a", version: "1", threads: THREADS);
}

fn main() {}
