//! The plug-in {{.Name}}. A host finds its functions by their names; nothing is to be registered.

ferrule::plugin!(name: "{{.Name}}", version: env!("CARGO_PKG_VERSION"));

/// Greets whoever the input names.
#[ferrule::export]
fn greet(name: &str) -> String {
    let name = if name.is_empty() { "world" } else { name };
    format!("Hello, {name}!")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greets() {
        assert_eq!(greet("Ada"), "Hello, Ada!");
        assert_eq!(greet(""), "Hello, world!");
    }
}
