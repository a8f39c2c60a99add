//! Values that the manifest cannot hold, seen when the compiler makes it.

mod bad_name {
    ferrule::plugin!(name: "a name", version: "1.0.0");
}
mod no_version {
    ferrule::plugin!(name: "a", version: "");
}
mod nul {
    ferrule::plugin!(name: "a", version: "1.0\0.0");
}
mod not_text {
    ferrule::plugin!(name: "a", version: 1);
}
mod nul_in_doc {
    #[doc = "a\0b"]
    #[ferrule::import]
    fn function() -> ferrule::Result<()>;
}

fn main() {}
