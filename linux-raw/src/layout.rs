//! Structs of ours that the kernel takes for its own.

/// Breaks the build where a struct differs from the generated one: in size, in alignment, in where
/// a field is. `ours = theirs`, for each field.
macro_rules! same_layout {
    ($ours:ty, $theirs:ty: $($field:ident = $their_field:ident),* $(,)?) => {
        const _: () = {
            assert!(
                size_of::<$ours>() == size_of::<$theirs>()
                    && align_of::<$ours>() == align_of::<$theirs>(),
                concat!(stringify!($ours), " is not as large as the kernel's"),
            );
            $(assert!(
                core::mem::offset_of!($ours, $field) == core::mem::offset_of!($theirs, $their_field),
                concat!(stringify!($ours), ".", stringify!($field), " is not where the kernel has it"),
            );)*
        };
    };
}
