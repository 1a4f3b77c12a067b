//! Sixteen bytes at once: one register where the target has such (`simd128` in
//! WebAssembly), two words elsewhere.

use super::Special;

/// Sixteen bytes.
#[derive(Clone, Copy)]
pub(crate) struct Lanes(Register);

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use wide::Register;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
use words::Register;

impl Lanes {
    #[inline(always)]
    pub fn load(bytes: &[u8; 16]) -> Self {
        Lanes(Register::load(bytes))
    }

    /// # Safety
    /// Sixteen bytes must be writable at `to`.
    #[inline(always)]
    pub unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { self.0.store(to) }
    }

    /// Whether one of them is special.
    #[inline(always)]
    pub fn any(self, special: &Special) -> bool {
        self.0.any(special)
    }

    /// Whether one of the first `count` is special.
    #[inline(always)]
    pub fn any_of_first(self, count: usize, special: &Special) -> bool {
        self.0.any_of_first(count, special)
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wide {
    use core::arch::wasm32::{
        i8x16_bitmask, u8x16_eq, u8x16_lt, u64x2_splat, v128, v128_any_true, v128_load, v128_or, v128_store,
    };

    use super::Special;

    #[derive(Clone, Copy)]
    pub struct Register(v128);

    impl Register {
        #[inline(always)]
        pub fn load(bytes: &[u8; 16]) -> Self {
            // SAFETY: a load of sixteen bytes that are there; it need not be aligned.
            Register(unsafe { v128_load(bytes.as_ptr().cast()) })
        }

        /// # Safety
        /// Sixteen bytes must be writable at `to`.
        #[inline(always)]
        pub unsafe fn store(self, to: *mut u8) {
            // SAFETY: the caller's promise; the store need not be aligned.
            unsafe { v128_store(to.cast(), self.0) }
        }

        #[inline(always)]
        pub fn any(self, special: &Special) -> bool {
            v128_any_true(self.hits(special))
        }

        #[inline(always)]
        pub fn any_of_first(self, count: usize, special: &Special) -> bool {
            u32::from(i8x16_bitmask(self.hits(special))) & !(u32::MAX << count.min(16)) != 0
        }

        #[inline(always)]
        fn hits(self, special: &Special) -> v128 {
            let first = u8x16_eq(self.0, u64x2_splat(special.first));
            let second = u8x16_eq(self.0, u64x2_splat(special.second));
            v128_or(v128_or(first, second), u8x16_lt(self.0, u64x2_splat(special.below)))
        }
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod words {
    use super::Special;

    #[derive(Clone, Copy)]
    pub struct Register([u8; 16]);

    impl Register {
        #[inline(always)]
        pub fn load(bytes: &[u8; 16]) -> Self {
            Register(*bytes)
        }

        /// # Safety
        /// Sixteen bytes must be writable at `to`.
        #[inline(always)]
        pub unsafe fn store(self, to: *mut u8) {
            // SAFETY: the caller's promise; an array of bytes need not be aligned.
            unsafe { to.cast::<[u8; 16]>().write(self.0) }
        }

        #[inline(always)]
        pub fn any(self, special: &Special) -> bool {
            let [low, high] = self.hits(special);
            low | high != 0
        }

        #[inline(always)]
        pub fn any_of_first(self, count: usize, special: &Special) -> bool {
            let [low, high] = self.hits(special);
            low & first_bytes(count.min(8)) | high & first_bytes(count.saturating_sub(8).min(8)) != 0
        }

        #[inline(always)]
        fn hits(self, special: &Special) -> [u64; 2] {
            let whole = u128::from_le_bytes(self.0);
            [special.hits(whole as u64), special.hits((whole >> 64) as u64)]
        }
    }

    /// A mask of the `count` (at most 8) least significant bytes.
    #[inline(always)]
    fn first_bytes(count: usize) -> u64 {
        // Half the shift each, because one by all 64 bits is not defined.
        let half = count as u32 * 4;
        !(u64::MAX << half << half)
    }
}
