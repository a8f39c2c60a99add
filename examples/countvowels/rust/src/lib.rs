ferrule::plugin!(name: "countvowels", version: env!("CARGO_PKG_VERSION"));
/// Counts the vowels of a text.
#[ferrule::export]
fn count_vowels(text: &str) -> String {
    text.matches(|c| "aeiouAEIOU".contains(c)).count().to_string()
}
