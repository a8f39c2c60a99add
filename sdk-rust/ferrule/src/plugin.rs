//! What `ferrule::plugin!` says about a plug-in, as types.

use crate::{Context, Result};

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
        note = "write `impl ferrule::State for {Self} {{ fn start(ctx: &Context, config: &[u8]) -> Result<Self> … }}`"
    )
)]
pub trait State: Sized + 'static {
    /// Makes the state from the configuration's bytes. An error makes the host's open fail with its message.
    fn start(ctx: &Context, config: &[u8]) -> Result<Self>;

    /// Takes the state down, when no other call of the instance runs. An error goes to the host's log. It is not
    /// called for a poisoned instance, whose state is only dropped.
    fn stop(self, _ctx: &Context) -> Result<()> {
        Ok(())
    }
}

/// What `plugin!` implements, for a type in the crate's root.
pub trait Plugin: 'static {
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
