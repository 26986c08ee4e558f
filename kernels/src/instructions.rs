//! Compiles one source for several instruction sets and picks the best at run time.

pub use pulp::Arch;
use std::{cell::Cell, sync::OnceLock};

thread_local! {
    static CHOSEN: Cell<Option<Arch>> = const { Cell::new(None) };
}

/// The best instruction set of this processor, asked for once; within [`with`] the one chosen there.
pub fn best() -> Arch {
    static BEST: OnceLock<Arch> = OnceLock::new();
    CHOSEN.get().unwrap_or_else(|| *BEST.get_or_init(Arch::new))
}

/// Uses this instruction set on this thread only: for tests, in a pool of one thread.
#[doc(hidden)]
pub fn with<T>(arch: Arch, work: impl FnOnce() -> T) -> T {
    struct Before(Option<Arch>);
    impl Drop for Before {
        fn drop(&mut self) {
            CHOSEN.set(self.0);
        }
    }
    let _before = Before(CHOSEN.replace(Some(arch)));
    work()
}

/// The instruction sets that this processor has, the plain one first: for tests, which compare them.
pub fn all() -> Vec<Arch> {
    let mut all = vec![Arch::Scalar];
    #[cfg(target_arch = "x86_64")]
    all.extend(pulp::x86::V3::try_new().map(Arch::V3));
    // Equal to the one before where there is nothing better.
    all.push(Arch::new());
    all
}

/// Compiles a function's body for each instruction set. The function gets one more argument, the first: which to use.
///
/// A closure given to [`Arch::dispatch`] would not do: if its body is large it becomes a separate function, compiled
/// without the instruction set.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$life:lifetime>($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name<$life>(arch: $crate::instructions::Arch, $($arg: $type),*) {
            struct Kernel<$life>($($type,)* std::marker::PhantomData<&$life ()>);
            impl<$life> pulp::WithSimd for Kernel<$life> {
                type Output = ();

                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) {
                    let Self($($arg,)* _) = self;
                    $body
                }
            }
            arch.dispatch(Kernel($($arg,)* std::marker::PhantomData))
        }
    };
}
pub(super) use vectorized;
