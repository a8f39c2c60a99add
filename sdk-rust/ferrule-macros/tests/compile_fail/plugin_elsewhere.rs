//! A plugin! that is not in the crate's root.

mod module {
    ferrule::plugin!(name: "fails", version: "1.0.0");

    #[ferrule::export]
    fn function() {}
}

fn main() {}
