ferrule::plugin!(name: "fails", version: "1.0.0");
ferrule::plugin!(name: "again", version: "1.0.0");

fn main() {}
