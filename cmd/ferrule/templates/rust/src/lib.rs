//! The plug-in {{.Name}}: what a host calls. It finds the functions by their names; nothing is to be registered.

mod greeting;

ferrule::plugin!(name: "{{.Name}}", version: env!("CARGO_PKG_VERSION"));

/// Greets whoever the input names.
#[ferrule::export]
fn greet(ctx: &ferrule::Context, name: &str) -> String {
    ctx.log(ferrule::Level::Debug, "greeting");
    greeting::of(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrule::{testing::Host, Level};

    /// The host stands in for the one that loads the plug-in: it answers imports, keeps the log and cancels.
    #[test]
    fn greets() {
        let host = Host::new();
        assert_eq!(host.run(|ctx| greet(ctx, "Ada")), "Hello, Ada!");
        let log = [(Level::Debug, "greeting".to_string())];
        assert_eq!(host.lines(), log);
    }
}
