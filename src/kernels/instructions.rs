//! One source, several instruction sets.

pub use pulp::Arch;
use std::sync::OnceLock;

/// The best instruction set of this processor, asked for once.
pub fn best() -> Arch {
    static BEST: OnceLock<Arch> = OnceLock::new();
    *BEST.get_or_init(Arch::new)
}

/// The instruction sets that this processor has, the plain one first: for tests, which compare them.
pub fn all() -> Vec<Arch> {
    vec![Arch::Scalar, best()]
}

/// Compiles a function's body for each instruction set. The function gets one more argument, the first: which to use.
///
/// A closure given to [`Arch::dispatch`] would not do: where its body is large it becomes a function of its own, and
/// then one without the instruction set.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$life:lifetime>($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name<$life>(arch: $crate::kernels::instructions::Arch, $($arg: $type),*) {
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
