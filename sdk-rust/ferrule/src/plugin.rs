//! What `ferrule::plugin!` says about a plug-in, as types.

use crate::{Context, Input, Result};

/// The state of an instance: what the host makes with `ferrule_start` before any call, and drops after the last.
///
/// Name the type in [`plugin!`](crate::plugin): `state: Counter`. A function that wants it takes a `&Counter`, or a
/// `&mut Counter` unless the plug-in says `threads: "concurrent"`. A host may have several instances at a time, each
/// with a state of its own.
///
/// What the type must be follows from `threads:`: [`Send`] for `"serial"`, the default, as one call at a time runs on
/// any thread; [`Send`] and [`Sync`] for `"concurrent"`; neither for `"pinned"`, where the instance never leaves the
/// thread that started it.
#[cfg_attr(
    ferrule_diagnostic,
    diagnostic::on_unimplemented(
        message = "`{Self}` is not the state of a plug-in",
        label = "`ferrule::State` is not implemented for it",
        note = "write `impl ferrule::State for {Self} {{ type Config = (); fn start(ctx: &Context, _: ()) -> \
                Result<Self> … }}`"
    )
)]
pub trait State: Sized + 'static {
    /// What the configuration's bytes are, as for the input of a function: `Json<Settings>`, `String`, `Vec<u8>` or
    /// another owned type that implements [`Input`]. `()` is for a plug-in that has none.
    ///
    /// The host may have no configuration for the plug-in: its bytes are none then, and for JSON that stands for `{}`.
    /// So give the fields of the settings their defaults, with `#[serde(default)]`, or the open fails with the name of
    /// the field that is missing.
    type Config: for<'a> Input<'a>;

    /// Makes the state. An error makes the host's open fail with its message.
    fn start(ctx: &Context, config: Self::Config) -> Result<Self>;

    /// Takes the state down, when no other call of the instance runs. An error goes to the host's log. It is not
    /// called for a poisoned instance, whose state is only dropped.
    fn stop(self, _ctx: &Context) -> Result<()> {
        Ok(())
    }
}

/// What `plugin!` implements, for a type in the crate's root.
pub trait Plugin: 'static {
    /// Is there a `plugin!`?
    const DECLARED: bool = true;
    /// Is there a `state:`?
    const STATEFUL: bool;
    /// The `state:`, or [`NoState`].
    type State: 'static;
    /// The `threads:`.
    type Threads: ThreadRule<Self::State>;
}

/// The state of a plug-in without `state:`.
pub enum NoState {}

/// What rule R13 asks of a state.
pub trait ThreadRule<S> {
    /// May several calls of an instance run at a time?
    const CONCURRENT: bool;
}

/// The thread rules under which one call of an instance runs at a time.
#[cfg_attr(
    ferrule_diagnostic,
    diagnostic::on_unimplemented(
        message = "a concurrent plug-in has no `&mut` state",
        label = "take `&` here, and change what is behind a lock or an atomic",
        note = "`ferrule::plugin!` says `threads: \"concurrent\"`: the host may run several calls at a time; \
                `\"serial\"` and `\"pinned\"` allow `&mut`"
    )
)]
pub trait OneAtATime {}

/// `threads: "serial"`, the default.
pub enum Serial {}
/// `threads: "concurrent"`.
pub enum Concurrent {}
/// `threads: "pinned"`.
pub enum Pinned {}

impl<S: Send> ThreadRule<S> for Serial {
    const CONCURRENT: bool = false;
}
impl<S: Send + Sync> ThreadRule<S> for Concurrent {
    const CONCURRENT: bool = true;
}
impl<S> ThreadRule<S> for Pinned {
    const CONCURRENT: bool = false;
}
impl OneAtATime for Serial {}
impl OneAtATime for Pinned {}

/// The state as a call may have it.
pub enum StateRef<'a, S> {
    /// Other calls may have it, too.
    Shared(&'a S),
    /// One call at a time.
    Exclusive(&'a mut S),
    /// The plug-in has no state.
    None,
}

/// That a plug-in's state is of type S, which `plugin!` implements. The bound `Plugin<State = S>` alone would do, but
/// is reported in words that say nothing to an author.
#[cfg_attr(
    ferrule_diagnostic,
    diagnostic::on_unimplemented(
        message = "`{S}` is not the state of this plug-in",
        label = "not the type of `state:` in `ferrule::plugin!`",
        note = "write `state: {S}` in `ferrule::plugin!`, or take the type that stands there"
    )
)]
pub trait StateIs<S: 'static>: Plugin<State = S> {}

/// A parameter that is the state.
#[cfg_attr(
    ferrule_diagnostic,
    diagnostic::on_unimplemented(
        message = "`{Self}` is not a parameter that a plug-in function can have",
        label = "not an input, not `&Context`, not the plug-in's state",
        note = "a reference other than `&str`, `&[u8]` and `&Context` is the state: `&T` or `&mut T`, with `state: T` \
                in `ferrule::plugin!`"
    )
)]
pub trait StateParam<'a, P: Plugin> {
    /// Takes it.
    fn from_state(state: StateRef<'a, P::State>) -> Self;
}

/// A parameter that is the state, of a function that runs while no other call of the instance does: `&mut` is to be had
/// in a concurrent plug-in, too.
#[cfg_attr(
    ferrule_diagnostic,
    diagnostic::on_unimplemented(
        message = "`{Self}` is not a parameter that such a function can have",
        label = "not an input, not `&Context`, not the plug-in's state",
        note = "a reference other than `&str`, `&[u8]` and `&Context` is the state: `&T` or `&mut T`, with `state: T` \
                in `ferrule::plugin!`"
    )
)]
pub trait AloneParam<'a, P: Plugin> {
    /// Takes it.
    fn from_state(state: StateRef<'a, P::State>) -> Self;
}

impl<'a, S: State, P: StateIs<S>> AloneParam<'a, P> for &'a S {
    fn from_state(state: StateRef<'a, S>) -> Self {
        StateParam::<P>::from_state(state)
    }
}

impl<'a, S: State, P: StateIs<S>> AloneParam<'a, P> for &'a mut S {
    fn from_state(state: StateRef<'a, S>) -> Self {
        match state {
            StateRef::Exclusive(state) => state,
            StateRef::Shared(_) | StateRef::None => unreachable!(),
        }
    }
}

/// That `plugin!` says `state_format:`, which it implements.
#[cfg_attr(
    ferrule_diagnostic,
    diagnostic::on_unimplemented(
        message = "`ferrule::plugin!` does not say in which format the state is handed over",
        label = "`#[ferrule::save]` and `#[ferrule::resume]` want a `state_format:`",
        note = "write `state_format: \"a-name-1\"` in `ferrule::plugin!`, and another name when the format changes (rule \
                R29)"
    )
)]
pub trait HandsOver {}

/// What `#[ferrule::save]` implements.
#[cfg_attr(
    ferrule_diagnostic,
    diagnostic::on_unimplemented(
        message = "`state_format:` is there, `#[ferrule::save]` is not",
        note = "a state is handed over by `#[ferrule::save]` and `#[ferrule::resume]` (rule R29)"
    )
)]
pub trait Saves {}

/// What `#[ferrule::resume]` implements.
#[cfg_attr(
    ferrule_diagnostic,
    diagnostic::on_unimplemented(
        message = "`state_format:` is there, `#[ferrule::resume]` is not",
        note = "a state is handed over by `#[ferrule::save]` and `#[ferrule::resume]` (rule R29)"
    )
)]
pub trait Resumes {}

/// The compiler's check that what `state_format:` needs is there.
pub const fn hands_over<P: HandsOver + Saves + Resumes>() {}

/// The compiler's check that there is a `state_format:`.
pub const fn has_format<P: HandsOver>() {}

impl<'a, S: State, P: StateIs<S>> StateParam<'a, P> for &'a S {
    fn from_state(state: StateRef<'a, S>) -> Self {
        match state {
            StateRef::Shared(state) => state,
            StateRef::Exclusive(state) => state,
            StateRef::None => unreachable!(),
        }
    }
}

impl<'a, S: State, P: StateIs<S>> StateParam<'a, P> for &'a mut S
where
    P::Threads: OneAtATime,
{
    fn from_state(state: StateRef<'a, S>) -> Self {
        match state {
            StateRef::Exclusive(state) => state,
            StateRef::Shared(_) | StateRef::None => unreachable!(),
        }
    }
}

/// What stands for the plug-in where `plugin!` is missing, by the name of what it defines: a function looks for that in
/// the crate's root first. It lets everything compile but what asks whether it is `DECLARED`, so that the error is one
/// and says what to write.
#[allow(non_camel_case_types)]
pub enum ferrule_plugin_macro {}

impl Plugin for ferrule_plugin_macro {
    const DECLARED: bool = false;
    const STATEFUL: bool = false;
    type State = NoState;
    type Threads = Serial;
}

/// Where a function is written: what it belongs to is known there.
pub trait Here {
    /// What `plugin!` defines, or the one above.
    type Plugin: Plugin;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Counter(u32);

    impl State for Counter {
        type Config = ();

        fn start(_: &Context, _: ()) -> Result<Counter> {
            Ok(Counter(0))
        }
    }

    /// What `plugin!` writes for `threads: "serial"` and `state: Counter`.
    enum SerialPlugin {}
    impl Plugin for SerialPlugin {
        const STATEFUL: bool = true;
        type State = Counter;
        type Threads = Serial;
    }
    impl StateIs<Counter> for SerialPlugin {}

    fn parameter<'a, T: StateParam<'a, SerialPlugin>>(state: StateRef<'a, Counter>) -> T {
        T::from_state(state)
    }

    #[test]
    fn a_parameter_is_the_state_itself() {
        let mut counter = Counter(1);
        let shared: &Counter = parameter(StateRef::Shared(&counter));
        assert!(std::ptr::eq(shared, &counter));
        parameter::<&mut Counter>(StateRef::Exclusive(&mut counter)).0 += 1;
        let lent: &Counter = parameter(StateRef::Exclusive(&mut counter));
        assert_eq!(*lent, Counter(2));
    }

    #[test]
    fn a_shared_state_is_never_made_exclusive() {
        let counter = Counter(1);
        let made = std::panic::catch_unwind(|| parameter::<&mut Counter>(StateRef::Shared(&counter)).0);
        assert!(made.is_err());
    }

    #[test]
    fn the_rules_of_threads() {
        fn concurrent<R: ThreadRule<S>, S>() -> bool {
            R::CONCURRENT
        }
        // Each with the least that the state has to be; more is asked for in ferrule-macros/tests/compile_fail.
        assert!(!concurrent::<Serial, std::cell::Cell<u8>>());
        assert!(concurrent::<Concurrent, std::sync::Mutex<u8>>());
        assert!(!concurrent::<Pinned, std::rc::Rc<u8>>());
    }

    #[cfg(feature = "testing")]
    #[test]
    fn stop_is_optional() {
        crate::testing::Host::new().run(|ctx| {
            assert_eq!(Counter::start(ctx, ()).unwrap().stop(ctx), Ok(()));
        });
    }
}
