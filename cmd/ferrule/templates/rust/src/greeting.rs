//! What the plug-in does, without a word about its host: a test calls it as it is.

/// A greeting of whoever is named. Nobody's name is "world".
pub fn of(name: &str) -> String {
    let name = if name.is_empty() { "world" } else { name };
    format!("Hello, {name}!")
}

#[cfg(test)]
mod tests {
    #[test]
    fn greets_nobody() {
        assert_eq!(super::of("Ada"), "Hello, Ada!");
        assert_eq!(super::of(""), "Hello, world!");
    }
}
